// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// listWith lists subscriptions with any Authorization header.
func (g *client) listWith(authorization string) (int, map[string]any) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url+"/v1.0/subscriptions", http.NoBody)
	require.NoError(g.t, err)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	r.Header.Set("Client-Request-Id", "mine")
	status, header, answer := g.do(r)
	assert.Len(g.t, header.Get("Request-Id"), 36)
	assert.Equal(g.t, "mine", header.Get("Client-Request-Id"))
	return status, answer
}

func TestAccessToken_RefusesForeignTokens(t *testing.T) {
	t.Parallel()
	g, other := start(t, nil), start(t, nil)

	for name, c := range map[string]struct{ authorization, message string }{
		"no token":           {"", "Access token is empty."},
		"another scheme":     {"Basic eDp5", "Access token is empty."},
		"no JWT":             {"Bearer x", "not well formed"},
		"a foreign issuer":   {"Bearer " + other.newToken(), "Invalid"},
		"a validation token": {"Bearer " + g.Token(nil), "Invalid signature"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.listWith(c.authorization)
			code, message := errorOf(answer)
			assert.Equal(t, http.StatusUnauthorized, status)
			assert.Equal(t, "InvalidAuthenticationToken", code)
			assert.Contains(t, message, c.message)
		})
	}
}

func TestAccessToken_RefusesOtherAudience(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	token := g.newToken()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/v1.0/subscriptions", http.NoBody)
	require.NoError(t, err)
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+token)
	status, _, answer := g.do(r)
	_, message := errorOf(answer)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Contains(t, message, "Invalid audience")
}

func TestAccessToken_Expires(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.AccessTokenLifetime = -time.Second })
	status, answer := g.listWith("bearer " + g.newToken())
	_, message := errorOf(answer)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Equal(t, "Lifetime validation failed, the token is expired.", message)
}

func TestRevokeTokens_RefusesIssuedTokens(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	token := g.newToken()
	g.RevokeTokens()
	status, _ := g.listWith("Bearer " + token)
	assert.Equal(t, http.StatusUnauthorized, status)
	status, _ = g.listWith("Bearer " + g.newToken())
	assert.Equal(t, http.StatusOK, status)
}

func TestSetRoles_ForbidsCallsWithoutRole(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	g.SetRoles("User.Read.All")
	status, _ := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"expirationDateTime": fromNow(time.Hour)})
	assert.Equal(t, http.StatusOK, status, "a token keeps the roles it was issued with")
	g.token = ""
	for _, call := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/v1.0/subscriptions", http.StatusForbidden},
		{http.MethodPatch, "/v1.0/subscriptions/" + s.ID, http.StatusForbidden},
		{http.MethodPost, "/v1.0/subscriptions/" + s.ID + "/reauthorize", http.StatusForbidden},
		{http.MethodGet, "/v1.0/copilot/users/u/interactionHistory/getAllEnterpriseInteractions", http.StatusForbidden},
		{http.MethodGet, "/v1.0/subscriptions", http.StatusOK},
		{http.MethodDelete, "/v1.0/subscriptions/" + s.ID, http.StatusNoContent},
	} {
		status, answer := g.call(call.method, call.path, map[string]any{})
		assert.Equal(t, call.status, status, call.path)
		if call.status == http.StatusForbidden {
			code, message := errorOf(answer)
			assert.Equal(t, "Forbidden", code)
			assert.Contains(t, message, graphtest.RoleReadAll)
		}
	}
}

func TestServeHTTP_RejectsUnknownPaths(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for _, path := range []string{"/beta/subscriptions", "/v1.0/me", "/v1.0/subscriptions/"} {
		status, answer := g.call(http.MethodPut, path, nil)
		code, message := errorOf(answer)
		assert.Equal(t, http.StatusNotFound, status, path)
		assert.Equal(t, "NotFound", code)
		assert.Contains(t, message, "Requested API is not supported")
	}
	assert.Len(t, g.Requests(graphtest.OpUnknown), 3)
}

func TestRequests_OmitAuthorization(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.RecordSize = 2 })
	g.listWith("Bearer " + g.newToken())
	g.listWith("")
	requests := g.Requests()
	require.Len(t, requests, 2, "the oldest is dropped")
	assert.Equal(t, []int{200, 401}, []int{requests[0].Status, requests[1].Status})
	assert.Equal(t, graphtest.OpList, requests[0].Operation)
	assert.Equal(t, "/v1.0/subscriptions", requests[0].Path)
	assert.Empty(t, requests[0].Header.Get("Authorization"))
	assert.WithinDuration(t, time.Now(), requests[0].At, 10*time.Second)
	require.NoError(t, g.WaitRequests(deadline(t), graphtest.OpList, 2))
}

func TestTokenEndpoint_RefusesInvalidRequests(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for name, c := range map[string]struct {
		tenant  string
		change  func(url.Values)
		prepare func(*http.Request)
		status  int
		kind    string
		code    float64
	}{
		"an unknown tenant":          {tenant: "00000000-0000-0000-0000-000000000000", status: 400, kind: "invalid_request", code: 90002},
		"no grant type":              {change: del("grant_type"), status: 400, kind: "invalid_request", code: 900144},
		"another grant type":         {change: set("grant_type", "password"), status: 400, kind: "unsupported_grant_type", code: 70003},
		"no client id":               {change: del("client_id"), status: 400, kind: "invalid_request", code: 900144},
		"an unknown application":     {change: set("client_id", "x"), status: 400, kind: "unauthorized_client", code: 700016},
		"a wrong secret":             {change: set("client_secret", "x"), status: 401, kind: "invalid_client", code: 7000215},
		"no secret":                  {change: del("client_secret"), status: 401, kind: "invalid_client", code: 7000216},
		"no scope":                   {change: del("scope"), status: 400, kind: "invalid_request", code: 900144},
		"a scope with a permission":  {change: set("scope", "https://graph.microsoft.com/User.Read"), status: 400, kind: "invalid_scope", code: 1002012},
		"the scope of another host":  {change: set("scope", "https://graph.microsoft.us/.default"), status: 400, kind: "invalid_resource", code: 500011},
		"secrets in body and header": {prepare: func(r *http.Request) { r.SetBasicAuth(clientID, url.QueryEscape(secret)) }, status: 400, kind: "invalid_request", code: 90023},
		"an assertion without type":  {change: set("client_assertion", "x"), status: 400, kind: "invalid_request", code: 900144},
		"a body that is not a form":  {prepare: func(r *http.Request) { r.Header.Set("Content-Type", "text/;") }, status: 400, kind: "invalid_request", code: 900144},
		"Basic that is not form-encoded": {
			change: del("client_secret"), prepare: func(r *http.Request) { r.SetBasicAuth(clientID, secret) },
			status: 400, kind: "invalid_request", code: 900144,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			form := g.tokenForm()
			if c.change != nil {
				c.change(form)
			}
			if c.tenant == "" {
				c.tenant = tenantID
			}
			status, answer := g.postToken(c.tenant, form, c.prepare)
			assert.Equal(t, c.status, status)
			assert.Equal(t, c.kind, answer["error"])
			assert.Equal(t, []any{c.code}, answer["error_codes"])
			assert.Regexp(t, `^AADSTS\d+: .+ Trace ID: \S+ Correlation ID: \S+ Timestamp: `, answer["error_description"])
			assert.Len(t, answer["trace_id"], 36)
			assert.Len(t, answer["correlation_id"], 36)
		})
	}
}

func set(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
func del(name string) func(url.Values)        { return func(v url.Values) { v.Del(name) } }

func TestTokenEndpoint_AcceptsBasicAuth(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	form := g.tokenForm()
	form.Del("client_id")
	form.Del("client_secret")
	status, answer := g.postToken(tenantID, form, func(r *http.Request) { r.SetBasicAuth(clientID, url.QueryEscape(secret)) })
	require.Equal(t, http.StatusOK, status, "%v", answer)
	assert.Equal(t, "Bearer", answer["token_type"])
	assert.InDelta(t, 3600, answer["expires_in"], 0)
	assert.Equal(t, 1, g.Stats().TokensIssued)
}

func TestTokenEndpoint_AcceptsFederatedAssertion(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.FederatedAssertion = "federated" })
	form := g.tokenForm()
	form.Del("client_secret")
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", "federated")
	status, _ := g.postToken(tenantID, form, nil)
	assert.Equal(t, http.StatusOK, status)
	form.Set("client_assertion", "forged")
	status, answer := g.postToken(tenantID, form, nil)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Equal(t, []any{700213.0}, answer["error_codes"])
}

func TestTokenEndpoint_ChecksCertificateAssertions(t *testing.T) {
	t.Parallel()
	pair, err := keyPair()
	require.NoError(t, err)
	certificate, err := pair.X509()
	require.NoError(t, err)
	block, _ := pem.Decode(pair.Key)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	key := parsed.(*rsa.PrivateKey)
	g := start(t, func(s *graphtest.Settings) { s.ClientCertificates = []*x509.Certificate{certificate} })
	sum := sha256.Sum256(certificate.Raw)

	for name, c := range map[string]struct {
		claims func(jwt.MapClaims)
		header func(map[string]any)
		code   float64
	}{
		"a valid assertion is granted":                    {},
		"an issuer other than the application is refused": {claims: func(c jwt.MapClaims) { c["iss"] = "x" }, code: 700021},
		"a subject other than the application is refused": {claims: func(c jwt.MapClaims) { c["sub"] = "x" }, code: 700021},
		"another audience is refused":                     {claims: func(c jwt.MapClaims) { c["aud"] = "x" }, code: 700023},
		"an expired assertion is refused":                 {claims: func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Second).Unix() }, code: 700024},
		"an assertion that is not yet valid is refused":   {claims: func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() }, code: 700024},
		"an assertion without expiry is refused":          {claims: func(c jwt.MapClaims) { delete(c, "exp") }, code: 50027},
		"an unknown certificate is refused":               {header: func(h map[string]any) { h["x5t#S256"] = "x" }, code: 700027},
		"an assertion without thumbprint is refused":      {header: func(h map[string]any) { delete(h, "x5t#S256") }, code: 700027},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
				"iss": clientID, "sub": clientID, "aud": g.url + "/" + tenantID + "/oauth2/v2.0/token", "jti": "1",
				"nbf": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
			})
			token.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(sum[:])
			if c.claims != nil {
				c.claims(token.Claims.(jwt.MapClaims))
			}
			if c.header != nil {
				c.header(token.Header)
			}
			text, err := token.SignedString(key)
			require.NoError(t, err)
			status, answer := postAssertion(g, text)
			if c.code == 0 {
				assert.Equal(t, http.StatusOK, status, "%v", answer)
				return
			}
			assert.Equal(t, http.StatusUnauthorized, status)
			assert.Equal(t, []any{c.code}, answer["error_codes"])
		})
	}
	t.Run("an assertion that is not a JWT is refused", func(t *testing.T) {
		t.Parallel()
		_, answer := postAssertion(g, "x")
		assert.Equal(t, []any{50027.0}, answer["error_codes"])
	})
}

func postAssertion(g *client, assertion string) (int, map[string]any) {
	form := g.tokenForm()
	form.Del("client_secret")
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return g.postToken(tenantID, form, nil)
}

func TestTokenEndpoint_AcceptsSeveralSecrets(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	accepts := func(secret string) bool {
		form := g.tokenForm()
		form.Set("client_secret", secret)
		status, _ := g.postToken(tenantID, form, nil)
		return status == http.StatusOK
	}
	g.SetClientSecrets("old", "new")
	assert.True(t, accepts("old"))
	assert.True(t, accepts("new"))
	g.SetClientSecrets("new")
	assert.False(t, accepts("old"))
	assert.True(t, accepts("new"))
	g.SetClientSecrets()
	assert.False(t, accepts(""))
}
