package notification_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func serve(t *testing.T, handler http.HandlerFunc) *notification.KeySet {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	set := notification.NewKeySet(notification.KeySetSettings{JWKSURL: server.URL + "/keys"})
	t.Cleanup(set.Close)
	return set
}

// A token signed with a key that came with a rotation verifies, and one of before still does.
func TestVerifierFollowsARotation(t *testing.T) {
	t.Parallel()
	var rotated atomic.Bool
	set := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		names := []string{"first"}
		if rotated.Load() {
			names = append(names, "second")
		}
		var keys jose.JSONWebKeySet
		for _, name := range names {
			keys.Keys = append(keys.Keys, jose.JSONWebKey{Key: &authorityKey(t, name).PublicKey, KeyID: name, Use: "sig", Algorithm: "RS256"})
		}
		_ = json.NewEncoder(w).Encode(keys)
	})
	verifier := newVerifier(set)
	require.NoError(t, verifier.Verify(t.Context(), mint(t, tokenClaims()), noon))

	rotated.Store(true)
	require.NoError(t, verifier.Verify(t.Context(), mintWith(t, authorityKey(t, "second"), "second", tokenClaims()), noon))
	claims := tokenClaims()
	claims["ver"], claims["appid"], claims["iss"] = "1.0", publisher, issuerV1
	require.NoError(t, verifier.Verify(t.Context(), mint(t, claims), noon))
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	good := jwks(t, "a")
	tests := map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
				return
			}
			_, _ = w.Write([]byte(good))
		},
		"an error status": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(good))
		},
		"more than a mebibyte": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(good + strings.Repeat(" ", 1<<20)))
		},
		"an answer that breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write([]byte(good))
		},
		"a sign-in page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"an empty set":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, handler).Key(t.Context(), "a")
			require.ErrorIs(t, err, notification.ErrKeysUnavailable)
			assert.ErrorContains(t, err, "check auth.authority")
		})
	}
}

func TestFetchNeedsAURL(t *testing.T) {
	t.Parallel()
	set := notification.NewKeySet(notification.KeySetSettings{JWKSURL: "://"})
	t.Cleanup(set.Close)
	_, err := set.Key(t.Context(), "a")
	require.ErrorIs(t, err, notification.ErrKeysUnavailable)
}

// A set may hold keys for other purposes, and keys that nobody understands yet.
func TestOnlyPublicRSASigningKeysCount(t *testing.T) {
	t.Parallel()
	public := &authorityKey(t, "first").PublicKey
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)

	keys := []jose.JSONWebKey{
		{KeyID: "for signatures", Key: public, Use: "sig"},
		{KeyID: "for everything", Key: public},
		{KeyID: "for encryption", Key: public, Use: "enc"},
		{KeyID: "for another algorithm", Key: public, Use: "sig", Algorithm: "PS256"},
		{KeyID: "private", Key: authorityKey(t, "first"), Use: "sig"},
		{KeyID: "elliptic", Key: &elliptic.PublicKey, Use: "sig"},
		{KeyID: "symmetric", Key: []byte("secret"), Use: "sig"},
		{KeyID: "", Key: public, Use: "sig"},
		{KeyID: "twice", Key: public, Use: "sig"},
		{KeyID: "twice", Key: &authorityKey(t, "second").PublicKey, Use: "sig"},
	}
	var members []string
	for _, key := range keys {
		member, err := json.Marshal(key)
		require.NoError(t, err)
		members = append(members, string(member))
	}
	members = append(members,
		`{"kid":"small","kty":"RSA","use":"sig","n":"wJ8yqQ","e":"AQAB"}`,
		`{"kid":"of a new type","kty":"XYZ","use":"sig"}`, `"text"`, `7`, `null`)
	body := fmt.Sprintf(`{"keys":[%s]}`, strings.Join(members, ","))
	// One set for each kid, since an unknown one leads to a refresh once a minute.
	for kid, want := range map[string]bool{
		"for signatures": true, "for everything": true, "twice": true,
		"for encryption": false, "for another algorithm": false, "private": false, "elliptic": false, "symmetric": false,
		"": false, "small": false, "of a new type": false,
	} {
		t.Run(kid, func(t *testing.T) {
			t.Parallel()
			key, err := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }).Key(t.Context(), kid)
			if !want {
				require.ErrorIs(t, err, notification.ErrUnknownKey)
				return
			}
			require.NoError(t, err)
			assert.True(t, public.Equal(key))
		})
	}
}
