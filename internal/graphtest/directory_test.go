package graphtest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// licensedQuery is the query for the users with a Copilot license.
func licensedQuery(top string) url.Values {
	return url.Values{
		"$filter": {"assignedPlans/any(p:p/servicePlanId eq 3f30311c-6b1e-48a4-ab79-725b469da960 and p/capabilityStatus eq 'Enabled')"},
		"$count":  {"true"}, "$select": {"id"}, "$top": {top},
	}
}

func (g *client) listUsers(target, consistency string) (int, map[string]any) {
	g.t.Helper()
	if g.token == "" {
		g.token = g.newToken()
	}
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, target, http.NoBody)
	require.NoError(g.t, err)
	request.Header.Set("Authorization", "Bearer "+g.token)
	request.Header.Set("ConsistencyLevel", consistency)
	status, _, answer := g.do(request)
	return status, answer
}

func startWithDirectory(t *testing.T, users int) *client {
	t.Helper()
	g := start(t, func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleUsersReadAll} })
	ids := make([]string, users)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	g.SetUsers(ids...)
	return g
}

func TestDirectory_PagesUsers(t *testing.T) {
	t.Parallel()
	g := startWithDirectory(t, 25)
	target, pages, seen := g.url+"/v1.0/users?"+licensedQuery("10").Encode(), 0, map[string]bool{}
	for target != "" {
		status, answer := g.listUsers(target, "eventual")
		require.Equal(t, http.StatusOK, status)
		value, ok := answer["value"].([]any)
		require.True(t, ok)
		for _, user := range value {
			seen[fmt.Sprint(user)] = true
		}
		target, _ = answer["@odata.nextLink"].(string)
		pages++
	}
	assert.Equal(t, 3, pages)
	assert.Len(t, seen, 25)
}

func TestDirectory_RefusesUnsupportedQueries(t *testing.T) {
	t.Parallel()
	g := startWithDirectory(t, 1)
	for name, test := range map[string]struct {
		change      func(url.Values)
		consistency string
	}{
		"an advanced query without the header": {func(url.Values) {}, ""},
		"an advanced query without count":      {func(q url.Values) { q.Del("$count") }, "eventual"},
		"another filter":                       {func(q url.Values) { q.Set("$filter", "id eq 'x'") }, "eventual"},
		"too large a page":                     {func(q url.Values) { q.Set("$top", "1000") }, "eventual"},
		"a page of nothing":                    {func(q url.Values) { q.Set("$top", "0") }, "eventual"},
		"more than the ids":                    {func(q url.Values) { q.Del("$select") }, "eventual"},
		"a link that it did not give":          {func(q url.Values) { q.Set("$skiptoken", "x") }, "eventual"},
	} {
		query := licensedQuery("999")
		test.change(query)
		status, _ := g.listUsers(g.url+"/v1.0/users?"+query.Encode(), test.consistency)
		assert.Equal(t, http.StatusBadRequest, status, name)
	}
}

func TestDirectory_RequiresUsersRole(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	status, answer := g.listUsers(g.url+"/v1.0/users?"+licensedQuery("999").Encode(), "eventual")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, fmt.Sprint(answer), "Authorization_RequestDenied")
}

func (g *client) licensedUsers() []string {
	g.t.Helper()
	status, answer := g.listUsers(g.url+"/v1.0/users?"+licensedQuery("999").Encode(), "eventual")
	require.Equal(g.t, http.StatusOK, status)
	found := []string{}
	for _, user := range answer["value"].([]any) {
		found = append(found, user.(map[string]any)["id"].(string))
	}
	return found
}

func TestDirectory_ListsActiveUsersUntilSetUsers(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.Roles, s.HistorySize = []string{graphtest.RoleUsersReadAll}, 2 })
	assert.Empty(t, g.licensedUsers())
	_, err := g.Publish(t.Context(), newInteraction("1", "s", "r", alice, "Word"), newInteraction("2", "s", "r", "", "Word"), newInteraction("3", "other", "x", "", "Word"))
	require.NoError(t, err)
	require.NoError(t, g.AddHistory(newInteraction("4", "t", "r", bob, "Word"), newInteraction("5", "u", "r", "too many", "Word")))
	g.SetUnlicensed(bob)
	assert.Equal(t, []string{alice, bob}, g.licensedUsers(), "license data is advisory: the history may refuse nonetheless")
	g.SetUsers("c")
	assert.Equal(t, []string{"c"}, g.licensedUsers())
	g.SetUsers()
	assert.Empty(t, g.licensedUsers())
}
