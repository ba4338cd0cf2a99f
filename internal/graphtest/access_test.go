package graphtest_test

import (
	"net/http"
	"testing"
	"time"

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
		"another issuer's":   {"Bearer " + other.newToken(), "Invalid"},
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
	require.Len(t, requests, 2, "the oldest went")
	assert.Equal(t, []int{200, 401}, []int{requests[0].Status, requests[1].Status})
	assert.Equal(t, graphtest.OpList, requests[0].Operation)
	assert.Equal(t, "/v1.0/subscriptions", requests[0].Path)
	assert.Empty(t, requests[0].Header.Get("Authorization"))
	assert.WithinDuration(t, time.Now(), requests[0].At, 10*time.Second)
	require.NoError(t, g.WaitRequests(deadline(t), graphtest.OpList, 2))
}
