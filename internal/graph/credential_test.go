// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const grant = `{"token_type":"Bearer","expires_in":3599,"access_token":"granted"}`

// newTokenEndpoint starts a token endpoint with the handler, which is called after the form was parsed, and returns the
// settings for it.
func newTokenEndpoint(t *testing.T, handler http.HandlerFunc) graph.CredentialSettings {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, r.ParseForm())
		w.Header().Set("Content-Type", "application/json")
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return graph.CredentialSettings{
		TokenURL: server.URL + "/ab/oauth2/v2.0/token", ClientID: "an app", Scope: "https://graph.example.com/.default", HTTP: server.Client(),
	}
}

// tokenErr returns the error of one request and checks that it does not contain the secrets.
func tokenErr(t *testing.T, s graph.CredentialSettings, secrets ...string) error {
	t.Helper()
	_, err := newTokens(s).Token(t.Context(), false)
	require.Error(t, err)
	for _, secret := range secrets {
		assert.NotContains(t, err.Error(), secret)
		assert.NotContains(t, fmt.Sprintf("%+v %#v", err, err), secret)
	}
	return err
}

func TestCredential_SendsSecretByAuthStyle(t *testing.T) {
	t.Parallel()
	const secret = "s%cr+t: ö/~&"
	for style, basic := range map[string]bool{"": true, "header": true, "body": false} {
		s := newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "POST", r.Method)
			assert.Equal(t, "client_credentials", r.PostForm.Get("grant_type"))
			assert.Equal(t, "https://graph.example.com/.default", r.PostForm.Get("scope"))
			id, got, ok := r.BasicAuth()
			assert.Equal(t, basic, ok)
			assert.Equal(t, !basic, r.PostForm.Has("client_secret"))
			if basic {
				id, got = unescape(t, id), unescape(t, got)
			} else {
				id, got = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
			}
			assert.Equal(t, "an app", id)
			assert.Equal(t, secret, got)
			write(w, grant)
		})
		s.Secret, s.AuthStyle = secret, style
		token, err := newTokens(s).Token(t.Context(), false)
		require.NoError(t, err)
		assert.Equal(t, "granted", token)
	}
}

func unescape(t *testing.T, text string) string {
	t.Helper()
	plain, err := url.QueryUnescape(text)
	assert.NoError(t, err)
	return plain
}

func TestCredential_OmitsEmptyScope(t *testing.T) {
	t.Parallel()
	s := newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		assert.False(t, r.PostForm.Has("scope"))
		write(w, grant)
	})
	s.Scope, s.Secret = "", "hush"
	_, err := newTokens(s).Token(t.Context(), false)
	require.NoError(t, err)
}

func TestCredential_RereadsSecretFile(t *testing.T) {
	t.Parallel()
	s := newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("client_secret") != "new" {
			w.WriteHeader(http.StatusUnauthorized)
			write(w, `{"error":"invalid_client","error_description":"AADSTS7000222: expired"}`)
			return
		}
		write(w, grant)
	})
	s.AuthStyle = "body"
	s.SecretFile = writeFile(t, filepath.Join(t.TempDir(), "secret"), "former\n")
	tokens := newTokens(s)
	_, err := tokens.Token(t.Context(), false)
	require.Error(t, err)
	assert.Equal(t, "AADSTS7000222", graph.Code(err))

	writeFile(t, s.SecretFile, "\n new\r\n")
	token, err := tokens.Token(t.Context(), false)
	require.NoError(t, err)
	assert.Equal(t, "granted", token)
}

func TestCredential_RereadsFederatedToken(t *testing.T) {
	t.Parallel()
	var sent []string
	s := newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		_, _, basic := r.BasicAuth()
		assert.False(t, basic)
		assert.Equal(t, "an app", r.PostForm.Get("client_id"))
		assert.Equal(t, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", r.PostForm.Get("client_assertion_type"))
		assert.False(t, r.PostForm.Has("client_secret"))
		sent = append(sent, r.PostForm.Get("client_assertion"))
		write(w, grant)
	})
	s.FederatedTokenFile, s.AuthStyle = writeFile(t, filepath.Join(t.TempDir(), "token"), "first.to.ken\n"), "header"
	tokens := newTokens(s)
	token, err := tokens.Token(t.Context(), false)
	require.NoError(t, err)
	tokens.Drop(token)
	writeFile(t, s.FederatedTokenFile, "second.to.ken")
	_, err = tokens.Token(t.Context(), false)
	require.NoError(t, err)
	assert.Equal(t, []string{"first.to.ken", "second.to.ken"}, sent)
}

func TestCredential_ReportsUnusableFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	absent, empty := filepath.Join(dir, "absent"), writeFile(t, filepath.Join(dir, "empty"), " \n")
	text := writeFile(t, filepath.Join(dir, "text"), "hush")
	for name, test := range map[string]struct {
		set           func(*graph.CredentialSettings, string)
		path, setting string
		cause         error
	}{
		"no secret file":        {set: secretFile, path: absent, setting: "auth.client_secret_file", cause: os.ErrNotExist},
		"an empty secret file":  {set: secretFile, path: empty, setting: "auth.client_secret_file"},
		"a directory":           {set: secretFile, path: dir, setting: "auth.client_secret_file"},
		"no federated token":    {set: federatedFile, path: absent, setting: "auth.federated_token_file", cause: os.ErrNotExist},
		"no certificate":        {set: certificate, path: absent, setting: "auth.client_certificate", cause: os.ErrNotExist},
		"no PEM in certificate": {set: certificate, path: text, setting: "auth.client_certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			telemetry := &recordingTelemetry{}
			s := newTokenEndpoint(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
			s.Telemetry = telemetry
			test.set(&s, test.path)
			err := tokenErr(t, s, "hush")
			var failed *graph.TokenError
			require.ErrorAs(t, err, &failed)
			assert.Contains(t, err.Error(), test.setting)
			got := failure.Of(err)
			assert.Equal(t, failure.CredentialFile, got.Code)
			assert.Contains(t, got.Hint, test.setting)
			assert.Contains(t, got.Hint, test.path)
			if test.cause != nil {
				require.ErrorIs(t, err, test.cause)
			}
			assert.Equal(t, []error{err}, telemetry.refreshes)
		})
	}
}

func secretFile(s *graph.CredentialSettings, path string)    { s.SecretFile = path }
func federatedFile(s *graph.CredentialSettings, path string) { s.FederatedTokenFile = path }
func certificate(s *graph.CredentialSettings, path string)   { s.CertFile, s.KeyFile = path, path }

func TestCredential_LeavesHTTPClientUnchanged(t *testing.T) {
	t.Parallel()
	given := &http.Client{}
	s := graph.CredentialSettings{TokenURL: "http://127.0.0.1:1/token", Secret: "hush", HTTP: given}
	err := tokenErr(t, s, "hush")
	assert.Nil(t, given.CheckRedirect)
	assert.Nil(t, given.Transport)
	assert.Equal(t, failure.Unreachable, failure.Of(err).Code)
	assert.Contains(t, err.Error(), "127.0.0.1:1")
}

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
		thumbprint := sha256.Sum256(der)
		assert.Equal(t, base64.RawURLEncoding.EncodeToString(thumbprint[:]), parsed.Header["x5t#S256"])
		assert.Equal(t, "JWT", parsed.Header["typ"])
		assert.Equal(t, s.TokenURL, claims["aud"], "a string, not a list")
		assert.InDelta(t, float64(time.Now().Unix()), claims["nbf"], 5)
		assert.InDelta(t, 600, claims["exp"].(float64)-claims["nbf"].(float64), 0)
		ids = append(ids, claims["jti"].(string))
		write(w, grant)
	})
	s.CertFile, s.KeyFile = certFile, keyFile
	tokens := newTokens(s)
	for range 2 {
		token, err := tokens.Token(t.Context(), false)
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
	tokens := newTokens(s)
	_, err := tokens.Token(t.Context(), false)
	require.Error(t, err)
	assert.Equal(t, "AADSTS700027", graph.Code(err))

	require.NoError(t, os.Rename(renewedCert, certFile))
	require.NoError(t, os.Rename(renewedKey, keyFile))
	_, err = tokens.Token(t.Context(), false)
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
		"an elliptic curve key":     {ecCert, ecKey},
		"a key that does not match": {rsaCert, otherKey},
		"no key":                    {rsaCert, ""},
		"a certificate as the key":  {rsaCert, rsaCert},
	} {
		s := newTokenEndpoint(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
		s.CertFile, s.KeyFile = files[0], files[1]
		got := failure.Of(tokenErr(t, s))
		assert.Equal(t, failure.CredentialFile, got.Code, name)
		assert.Contains(t, got.Hint, "auth.client_certificate")
	}
}

func TestCertificateExpiry_IsThatOfTheFirstCertificate(t *testing.T) {
	t.Parallel()
	certFile, keyFile, der := certificateFiles(t, rsaKey(t))
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	expires, err := graph.CredentialSettings{CertFile: certFile, KeyFile: keyFile}.CertificateExpiry()
	require.NoError(t, err)
	assert.Equal(t, certificate.NotAfter, expires)

	expires, err = graph.CredentialSettings{Secret: "a"}.CertificateExpiry()
	require.NoError(t, err)
	assert.Zero(t, expires, "a secret has no date")

	_, err = graph.CredentialSettings{CertFile: certFile, KeyFile: "/no/such.key"}.CertificateExpiry()
	require.Error(t, err)
}
