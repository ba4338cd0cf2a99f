package graphtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// bearer lists subscriptions with any Authorization header.
func (g *graph) bearer(authorization string) (int, map[string]any) {
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

func TestGraphRefusesTokensThatAreNotItsOwn(t *testing.T) {
	t.Parallel()
	g, other := start(t, nil), start(t, nil)

	for name, c := range map[string]struct{ authorization, message string }{
		"no token":           {"", "Access token is empty."},
		"another scheme":     {"Basic eDp5", "Access token is empty."},
		"no JWT":             {"Bearer x", "not well formed"},
		"another issuer's":   {"Bearer " + other.login(), "Invalid"},
		"a validation token": {"Bearer " + g.Token(nil), "Invalid signature"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.bearer(c.authorization)
			code, message := problem(answer)
			assert.Equal(t, http.StatusUnauthorized, status)
			assert.Equal(t, "InvalidAuthenticationToken", code)
			assert.Contains(t, message, c.message)
		})
	}
}

func TestATokenForAnotherAudienceIsRefusedByItsAudience(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	token := g.login()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/v1.0/subscriptions", http.NoBody)
	require.NoError(t, err)
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+token)
	status, _, answer := g.do(r)
	_, message := problem(answer)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Contains(t, message, "Invalid audience")
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.AccessTokenLifetime = -time.Second })
	status, answer := g.bearer("bearer " + g.login())
	_, message := problem(answer)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Equal(t, "Lifetime validation failed, the token is expired.", message)
}

func TestRevokedTokensAreRefused(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	token := g.login()
	g.RevokeTokens()
	status, _ := g.bearer("Bearer " + token)
	assert.Equal(t, http.StatusUnauthorized, status)
	status, _ = g.bearer("Bearer " + g.login())
	assert.Equal(t, http.StatusOK, status)
}

func TestAMissingRoleIsForbiddenWhereOneIsNeeded(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	g.SetRoles("User.Read.All")
	status, _ := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"expirationDateTime": in(time.Hour)})
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
			code, message := problem(answer)
			assert.Equal(t, "Forbidden", code)
			assert.Contains(t, message, graphtest.RoleReadAll)
		}
	}
}

func TestWhatIsNotKnownIsNotSupported(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for _, path := range []string{"/beta/subscriptions", "/v1.0/me", "/v1.0/subscriptions/"} {
		status, answer := g.call(http.MethodPut, path, nil)
		code, message := problem(answer)
		assert.Equal(t, http.StatusNotFound, status, path)
		assert.Equal(t, "NotFound", code)
		assert.Contains(t, message, "Requested API is not supported")
	}
	assert.Len(t, g.Requests(graphtest.OpUnknown), 3)
}

func TestCallsAreRecordedWithoutTheirTokens(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.RecordSize = 2 })
	g.bearer("Bearer " + g.login())
	g.bearer("")
	requests := g.Requests()
	require.Len(t, requests, 2, "the oldest went")
	assert.Equal(t, []int{200, 401}, []int{requests[0].Status, requests[1].Status})
	assert.Equal(t, graphtest.OpList, requests[0].Operation)
	assert.Equal(t, "/v1.0/subscriptions", requests[0].Path)
	assert.Empty(t, requests[0].Header.Get("Authorization"))
	assert.WithinDuration(t, time.Now(), requests[0].At, 10*time.Second)
	require.NoError(t, g.WaitRequests(deadline(t), graphtest.OpList, 2))
}
