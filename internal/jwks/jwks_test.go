// SPDX-License-Identifier: Apache-2.0

package jwks_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/jwks"
)

var firstKey, secondKey = generateKey(), generateKey()

func generateKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// authority is a RoundTripper that answers with its current key set.
type authority struct {
	calls   atomic.Int32
	latency time.Duration
	mu      sync.Mutex
	body    string
	err     error
}

func (a *authority) RoundTrip(request *http.Request) (*http.Response, error) {
	a.calls.Add(1)
	select {
	case <-time.After(a.latency):
	case <-request.Context().Done():
		return nil, request.Context().Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(a.body)), Request: request}, nil
}

func (a *authority) set(body string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body, a.err = body, err
}

func (a *authority) keySet() *jwks.KeySet {
	return jwks.New("https://login.example/keys", &http.Client{Transport: a})
}

// keySetJSON returns a key set with these kids, all of the same key.
func keySetJSON(tb testing.TB, kids ...string) string {
	tb.Helper()
	var set jose.JSONWebKeySet
	for _, kid := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &firstKey.PublicKey, KeyID: kid, Use: "sig"})
	}
	body, err := json.Marshal(set)
	require.NoError(tb, err)
	return string(body)
}

var (
	errDown       = errors.New("authority is down")
	errUnknownKey = errors.New("unknown key")
)

// lookup returns errUnknownKey if the set has no such key.
func lookup(ctx context.Context, set *jwks.KeySet, kid string) (*rsa.PublicKey, error) {
	key, known, err := set.Key(ctx, kid)
	if err == nil && !known {
		return nil, errUnknownKey
	}
	return key, err
}

func TestKeySet_FetchesOnceAndCaches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a", "b")}
		set := server.keySet()
		defer set.Close()
		assert.Zero(t, server.calls.Load(), "nothing is fetched before it is needed")
		for _, kid := range []string{"a", "b", "a"} {
			key, err := lookup(t.Context(), set, kid)
			require.NoError(t, err)
			assert.True(t, key.Equal(&firstKey.PublicKey))
		}
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func TestKeySet_RefreshesForUnknownKeyAtMostOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a")}
		set := server.keySet()
		defer set.Close()
		get := func(kid string) error {
			_, err := lookup(t.Context(), set, kid)
			return err
		}
		require.NoError(t, get("a"))

		server.set(keySetJSON(t, "b"), nil)
		require.NoError(t, get("b"), "the first fetch does not count")
		require.EqualValues(t, 2, server.calls.Load())

		server.set(keySetJSON(t, "c"), nil)
		time.Sleep(59 * time.Second)
		require.ErrorIs(t, get("c"), jwks.ErrUnavailable, "not decidable before the next refresh")
		require.NoError(t, get("b"), "known keys stay usable")
		require.EqualValues(t, 2, server.calls.Load())

		time.Sleep(time.Second)
		require.NoError(t, get("c"))
		require.EqualValues(t, 3, server.calls.Load())

		time.Sleep(time.Minute)
		err := get("d")
		require.ErrorIs(t, err, errUnknownKey, "the set was fetched just now")
		require.NotErrorIs(t, err, jwks.ErrUnavailable)
		require.ErrorIs(t, get("d"), jwks.ErrUnavailable)
		require.EqualValues(t, 4, server.calls.Load())
	})
}

func TestKeySet_KeyMissingInFirstFetchIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a")}
		set := server.keySet()
		defer set.Close()
		_, err := lookup(t.Context(), set, "x")
		require.ErrorIs(t, err, errUnknownKey)
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func TestKeySet_RefreshesInBackgroundAndExpiresAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a"), latency: time.Second}
		set := server.keySet()
		defer set.Close()
		get := func() (time.Duration, error) {
			start := time.Now()
			_, err := lookup(t.Context(), set, "a")
			return time.Since(start), err
		}
		waited, err := get()
		require.NoError(t, err)
		require.Equal(t, time.Second, waited)

		time.Sleep(12 * time.Hour)
		waited, err = get()
		require.NoError(t, err)
		require.Zero(t, waited, "refreshed in the background")
		_, err = get()
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, server.calls.Load())

		server.set("", errDown)
		time.Sleep(12*time.Hour + time.Minute)
		_, err = get()
		require.NoError(t, err, "a stale key is used while the authority is unreachable")
		time.Sleep(12 * time.Hour)
		_, err = get()
		require.ErrorIs(t, err, jwks.ErrUnavailable, "expired keys are not used")
		require.ErrorIs(t, err, errDown)

		server.set(keySetJSON(t, "a"), nil)
		time.Sleep(10 * time.Second)
		_, err = get()
		require.NoError(t, err)
	})
}

func TestKeySet_BacksOffAfterFailedFetches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{err: errDown}
		set := server.keySet()
		defer set.Close()
		start := time.Now()
		var attempts []time.Duration
		for range 500 {
			before := server.calls.Load()
			_, err := lookup(t.Context(), set, "a")
			require.ErrorIs(t, err, jwks.ErrUnavailable)
			require.ErrorIs(t, err, errDown)
			if server.calls.Load() > before {
				attempts = append(attempts, time.Since(start))
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Equal(t, []time.Duration{0, 1e9, 3e9, 7e9, 15e9, 25e9, 35e9, 45e9}, attempts)

		server.set(keySetJSON(t, "a"), nil)
		time.Sleep(10 * time.Second)
		_, err := lookup(t.Context(), set, "a")
		require.NoError(t, err)
	})
}

func TestKeySet_FailedRefreshDoesNotDelayNextByAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a")}
		set := server.keySet()
		defer set.Close()
		_, err := lookup(t.Context(), set, "a")
		require.NoError(t, err)

		server.set("", errDown)
		for range 5 {
			_, err = lookup(t.Context(), set, "b")
			require.ErrorIs(t, err, jwks.ErrUnavailable)
		}
		require.EqualValues(t, 2, server.calls.Load())
		_, err = lookup(t.Context(), set, "a")
		require.NoError(t, err, "known keys stay usable")

		server.set(keySetJSON(t, "a", "b"), nil)
		time.Sleep(time.Second)
		_, err = lookup(t.Context(), set, "b")
		require.NoError(t, err)
	})
}

// The fetch continues when the caller that started it gives up.
func TestKeySet_ConcurrentCallersShareOneFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a"), latency: 5 * time.Second}
		set := server.keySet()
		defer set.Close()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := lookup(short, set, "a")
			assert.True(t, errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, jwks.ErrUnavailable), "%v", err)
		})
		synctest.Wait()
		for range 50 {
			callers.Go(func() {
				_, err := lookup(t.Context(), set, "a")
				assert.NoError(t, err)
			})
		}
		callers.Wait()
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func TestKeySet_LimitsFetchTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{latency: time.Hour}
		set := server.keySet()
		defer set.Close()
		start := time.Now()
		_, err := lookup(t.Context(), set, "a")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestKeySet_CloseCancelsRunningFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: keySetJSON(t, "a"), latency: 5 * time.Second}
		set := server.keySet()
		start := time.Now()
		var caller sync.WaitGroup
		caller.Go(func() {
			_, err := lookup(t.Context(), set, "a")
			assert.ErrorIs(t, err, jwks.ErrUnavailable)
		})
		synctest.Wait()
		set.Close()
		caller.Wait()
		assert.Zero(t, time.Since(start))
		time.Sleep(time.Minute)
		_, err := lookup(t.Context(), set, "a")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func serve(t *testing.T, handler http.HandlerFunc) *jwks.KeySet {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	set := jwks.New(server.URL+"/keys", server.Client())
	t.Cleanup(set.Close)
	return set
}

func TestKeySet_RejectsBadResponses(t *testing.T) {
	t.Parallel()
	good := keySetJSON(t, "a")
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
		"more than 1 MiB": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", 1<<20) + good))
		},
		"a truncated response": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write([]byte(good[:len(good)-2]))
		},
		"an HTML page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"an empty set": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := lookup(t.Context(), serve(t, handler), "a")
			require.ErrorIs(t, err, jwks.ErrUnavailable)
			assert.Equal(t, failure.SigningKeysUnavailable, failure.Of(err).Code)
		})
	}
}

func TestKeySet_RejectsInvalidURL(t *testing.T) {
	t.Parallel()
	set := jwks.New("://", &http.Client{})
	t.Cleanup(set.Close)
	_, err := lookup(t.Context(), set, "a")
	require.ErrorIs(t, err, jwks.ErrUnavailable)
}

// A set may hold keys for other purposes and of unknown types.
func TestKeySet_UsesOnlyPublicRSASigningKeys(t *testing.T) {
	t.Parallel()
	public := &firstKey.PublicKey
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)

	keys := []jose.JSONWebKey{
		{KeyID: "for signatures", Key: public, Use: "sig"},
		{KeyID: "for any purpose", Key: public},
		{KeyID: "for encryption", Key: public, Use: "enc"},
		{KeyID: "for another algorithm", Key: public, Use: "sig", Algorithm: "PS256"},
		{KeyID: "private", Key: firstKey, Use: "sig"},
		{KeyID: "elliptic", Key: &elliptic.PublicKey, Use: "sig"},
		{KeyID: "symmetric", Key: []byte("secret"), Use: "sig"},
		{KeyID: "", Key: public, Use: "sig"},
		{KeyID: "duplicate", Key: public, Use: "sig"},
		{KeyID: "duplicate", Key: &secondKey.PublicKey, Use: "sig"},
	}
	var members []string
	for _, key := range keys {
		member, err := json.Marshal(key)
		require.NoError(t, err)
		members = append(members, string(member))
	}
	// Entra ID publishes certificates beside its keys. They are not used, so an error in them does no harm.
	withCertificate, err := json.Marshal(jose.JSONWebKey{KeyID: "with a malformed certificate", Key: public, Use: "sig"})
	require.NoError(t, err)
	members = append(members, strings.TrimSuffix(string(withCertificate), "}")+`,"x5t":"short","x5c":["no certificate"]}`,
		`{"kid":"small","kty":"RSA","use":"sig","n":"wJ8yqQ","e":"AQAB"}`,
		`{"kid":"of an unknown type","kty":"XYZ","use":"sig"}`, `"text"`, `7`, `null`)
	body := fmt.Sprintf(`{"keys":[%s]}`, strings.Join(members, ","))
	// Each kid has its own set, since only one refresh a minute is made for unknown keys.
	for kid, want := range map[string]bool{
		"for signatures": true, "for any purpose": true, "duplicate": true, "with a malformed certificate": true,
		"for encryption": false, "for another algorithm": false, "private": false, "elliptic": false, "symmetric": false,
		"": false, "small": false, "of an unknown type": false,
	} {
		t.Run(kid, func(t *testing.T) {
			t.Parallel()
			set := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
			key, err := lookup(t.Context(), set, kid)
			if !want {
				require.ErrorIs(t, err, errUnknownKey)
				return
			}
			require.NoError(t, err)
			assert.True(t, public.Equal(key))
		})
	}
}
