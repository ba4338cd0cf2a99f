package graph_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestCertificateAssertion_SignedForEachRequest(t *testing.T) {
	t.Parallel()
	key := rsaKey(t)
	certFile, keyFile, der := certificateFiles(t, key)
	var ids []string
	var s graph.CredentialSettings
	s = newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		_, _, basic := r.BasicAuth()
		assert.False(t, basic)
		assert.Equal(t, "an app", r.PostForm.Get("client_id"))
		assert.Equal(t, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", r.PostForm.Get("client_assertion_type"))

		var claims jwt.MapClaims
		parsed, err := jwt.ParseWithClaims(r.PostForm.Get("client_assertion"), &claims,
			func(*jwt.Token) (any, error) { return key.Public(), nil }, jwt.WithValidMethods([]string{"PS256"}),
			jwt.WithAudience(s.TokenURL), jwt.WithIssuer("an app"), jwt.WithSubject("an app"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
		if !assert.NoError(t, err) {
			return
		}
		sha256Sum, sha1Sum := sha256.Sum256(der), sha1.Sum(der)
		assert.Equal(t, base64.RawURLEncoding.EncodeToString(sha256Sum[:]), parsed.Header["x5t#S256"])
		assert.Equal(t, base64.RawURLEncoding.EncodeToString(sha1Sum[:]), parsed.Header["x5t"])
		assert.Equal(t, "JWT", parsed.Header["typ"])
		assert.Equal(t, s.TokenURL, claims["aud"], "a string, not a list")
		assert.InDelta(t, float64(time.Now().Unix()), claims["nbf"], 5)
		assert.InDelta(t, 600, claims["exp"].(float64)-claims["nbf"].(float64), 0)
		ids = append(ids, claims["jti"].(string))
		write(w, grant)
	})
	s.CertFile, s.KeyFile = certFile, keyFile
	tokens := graph.NewTokens(s)
	for range 2 {
		token, err := tokens.Token(t.Context())
		require.NoError(t, err)
		tokens.Drop(token)
	}
	require.Len(t, ids, 2)
	assert.NotEqual(t, ids[0], ids[1])
}

func TestCertificateAssertion_UsesRenewedFiles(t *testing.T) {
	t.Parallel()
	certFile, keyFile, _ := certificateFiles(t, rsaKey(t))
	renewed := rsaKey(t)
	renewedCert, renewedKey, _ := certificateFiles(t, renewed)
	s := newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := jwt.Parse(r.PostForm.Get("client_assertion"), func(*jwt.Token) (any, error) { return renewed.Public(), nil })
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			write(w, `{"error":"invalid_client","error_description":"AADSTS700027: bad %s"}`, r.PostForm.Get("client_assertion")[:40])
			return
		}
		write(w, grant)
	})
	s.CertFile, s.KeyFile = certFile, keyFile
	tokens := graph.NewTokens(s)
	_, err := tokens.Token(t.Context())
	require.Error(t, err)
	assert.Equal(t, "AADSTS700027", graph.Code(err))

	require.NoError(t, os.Rename(renewedCert, certFile))
	require.NoError(t, os.Rename(renewedKey, keyFile))
	_, err = tokens.Token(t.Context())
	require.NoError(t, err)
}

func TestCertificateAssertion_RejectsUnusableFiles(t *testing.T) {
	t.Parallel()
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ecCert, ecKey, _ := certificateFiles(t, curve)
	rsaCert, _, _ := certificateFiles(t, rsaKey(t))
	_, otherKey, _ := certificateFiles(t, rsaKey(t))
	for name, files := range map[string][2]string{
		"an elliptic curve key":        {ecCert, ecKey},
		"the key of another":           {rsaCert, otherKey},
		"no key":                       {rsaCert, ""},
		"the certificate for the key?": {rsaCert, rsaCert},
	} {
		s := newTokenEndpoint(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
		s.CertFile, s.KeyFile = files[0], files[1]
		var failed *graph.CredentialError
		require.ErrorAs(t, tokenErr(t, s), &failed, name)
		assert.Equal(t, "auth.client_certificate", failed.Setting)
	}
}
