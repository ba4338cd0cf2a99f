// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// It is not parallel because the allocations measured are those of the process. It reads a directory of 100,000 users.
func TestDirectory_AllocatesPerPage(t *testing.T) {
	const users = 100_000
	n := newLocalClient(t, func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleUsersReadAll} })
	ids := make([]string, users)
	for i := range ids {
		ids[i] = fmt.Sprintf("b2a7c9e4-5d31-4f0c-8e62-%012d", i)
	}
	n.SetUsers(ids...)
	target, pages, found, began := "/v1.0/users?"+licensedQuery("999").Encode(), 0, 0, time.Now()
	before := allocated()
	for target != "" {
		var page struct {
			Count int               `json:"@odata.count"`
			Next  string            `json:"@odata.nextLink"`
			Value []json.RawMessage `json:"value"`
		}
		require.NoError(t, json.Unmarshal(n.get(target).Body.Bytes(), &page))
		assert.Equal(t, users, page.Count)
		target, found, pages = page.Next, found+len(page.Value), pages+1
	}
	perPage := (allocated() - before) / uint64(pages)
	t.Logf("%d pages in %s, %d KiB for each with its client", pages, time.Since(began), perPage>>10)
	assert.Equal(t, 101, pages)
	assert.Equal(t, users, found)
	assert.Less(t, perPage, uint64(1<<20))
	assert.Less(t, time.Since(began), 10*time.Second)
}

// licensedQuery returns the query for users with a Copilot license.
func licensedQuery(top string) url.Values {
	return url.Values{
		"$filter": {"assignedPlans/any(p:p/servicePlanId eq 3f30311c-6b1e-48a4-ab79-725b469da960 and p/capabilityStatus eq 'Enabled')"},
		"$count":  {"true"}, "$select": {"id"}, "$top": {top},
	}
}

func (g *client) listUsers(target, consistency string) (int, map[string]any) {
	g.t.Helper()
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, target, http.NoBody)
	require.NoError(g.t, err)
	request.Header.Set("Authorization", g.bearer())
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
		"no ConsistencyLevel header": {func(url.Values) {}, ""},
		"no $count":                  {func(q url.Values) { q.Del("$count") }, "eventual"},
		"another filter":             {func(q url.Values) { q.Set("$filter", "id eq 'x'") }, "eventual"},
		"a page above 999":           {func(q url.Values) { q.Set("$top", "1000") }, "eventual"},
		"an empty page":              {func(q url.Values) { q.Set("$top", "0") }, "eventual"},
		"an unknown property":        {func(q url.Values) { q.Set("$select", "id,mood") }, "eventual"},
		"an unknown parameter":       {func(q url.Values) { q.Set("$orderby", "displayName") }, "eventual"},
		"an invalid skip token":      {func(q url.Values) { q.Set("$skiptoken", "x") }, "eventual"},
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
	assert.Equal(t, []string{alice, bob}, g.licensedUsers(), "the directory does not depend on who may read the history")
	g.SetUsers("c")
	assert.Equal(t, []string{"c"}, g.licensedUsers())
	g.SetUsers()
	assert.Empty(t, g.licensedUsers())
}

var lena = graphtest.Person{
	ID: alice, UserPrincipalName: "lena.gross@contoso.example", DisplayName: "Lena Groß", Department: "Sales", OfficeLocation: "Graz",
	Country: "Austria", JobTitle: "Account Manager", CompanyName: "Contoso", OnPremisesSamAccountName: "lgross",
	OnPremisesSecurityIdentifier: "S-1-5-21-1-2-3-1104", OnPremisesDomainName: "corp.contoso.example", Licensed: true,
}

func withUsersRole(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleUsersReadAll} }

// user reads one user with a query.
func (n *localClient) user(id, query string) (status int, user map[string]any) {
	n.t.Helper()
	answer := n.get("/v1.0/users/" + id + query)
	require.NoError(n.t, json.Unmarshal(answer.Body.Bytes(), &user))
	return answer.Code, user
}

func TestUser_HasSelectedPropertiesAlone(t *testing.T) {
	t.Parallel()
	n := newLocalClient(t, withUsersRole)
	n.SetDirectory(lena, graphtest.Person{ID: bob})
	context := "https://graph.example.com/v1.0/$metadata#users/$entity"
	for name, c := range map[string]struct {
		id, query string
		want      map[string]any
	}{
		"some": {strings.ToUpper(alice), "?$select=department,onPremisesSamAccountName", map[string]any{
			"department": "Sales", "onPremisesSamAccountName": "lgross",
		}},
		"all": {alice, "?$select=id,userPrincipalName,displayName,department,officeLocation,country,jobTitle,companyName," +
			"onPremisesSamAccountName,onPremisesSecurityIdentifier,onPremisesDomainName", map[string]any{
			"id": alice, "userPrincipalName": "lena.gross@contoso.example", "displayName": "Lena Groß", "department": "Sales",
			"officeLocation": "Graz", "country": "Austria", "jobTitle": "Account Manager", "companyName": "Contoso",
			"onPremisesSamAccountName": "lgross", "onPremisesSecurityIdentifier": "S-1-5-21-1-2-3-1104",
			"onPremisesDomainName": "corp.contoso.example",
		}},
		"none without a value": {bob, "?$select=id,country,assignedPlans", map[string]any{"id": bob, "country": nil, "assignedPlans": []any{}}},
		"those by default": {alice, "", map[string]any{
			"id": alice, "displayName": "Lena Groß", "jobTitle": "Account Manager", "officeLocation": "Graz", "userPrincipalName": "lena.gross@contoso.example",
		}},
		"plans": {alice, "?$select=assignedPlans", map[string]any{"assignedPlans": []any{map[string]any{
			"servicePlanId": graphtest.CopilotPlan, "service": "MicrosoftOffice", "capabilityStatus": "Enabled", "assignedDateTime": "2025-09-01T08:00:00Z",
		}}}},
	} {
		status, user := n.user(c.id, c.query)
		assert.Equal(t, http.StatusOK, status, name)
		c.want["@odata.context"] = context
		assert.Equal(t, c.want, user, name)
	}
}

func TestUser_Refusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		id, query string
		status    int
		code      string
	}{
		"an unknown user":      {bob, "?$select=id", http.StatusNotFound, "Request_ResourceNotFound"},
		"an unknown property":  {alice, "?$select=id,mood", http.StatusBadRequest, "Request_BadRequest"},
		"an empty selection":   {alice, "?$select=", http.StatusBadRequest, "Request_BadRequest"},
		"an unknown parameter": {alice, "?$select=id&$top=1", http.StatusBadRequest, "Request_BadRequest"},
	} {
		n := newLocalClient(t, withUsersRole)
		n.SetDirectory(lena)
		status, answer := n.user(c.id, c.query)
		code, _ := errorOf(answer)
		assert.Equal(t, c.status, status, name)
		assert.Equal(t, c.code, code, name)
	}
	n := newLocalClient(t, nil)
	status, answer := n.user(alice, "")
	code, _ := errorOf(answer)
	assert.Equal(t, http.StatusForbidden, status, "without the permission")
	assert.Equal(t, "Authorization_RequestDenied", code)
}

func TestUser_FailsWithFaultOfOperation(t *testing.T) {
	t.Parallel()
	n := newLocalClient(t, withUsersRole)
	n.SetDirectory(lena)
	n.Fail(graphtest.OpUser, graphtest.Fault{Status: http.StatusServiceUnavailable, Times: 1})
	status, _ := n.user(alice, "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	status, _ = n.user(strings.ToUpper(alice), "")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, map[string]int{alice: 2}, n.UserRequests(), "failed requests count too")
	assert.Len(t, n.Requests(graphtest.OpUser), 2)
}

// list reads all pages of the directory and returns the users' ids.
func (n *localClient) list(query string) (ids []string) {
	n.t.Helper()
	for target := "/v1.0/users?" + query; target != ""; {
		answer := n.get(target)
		require.Equal(n.t, http.StatusOK, answer.Code, answer.Body)
		var page struct {
			Next  string `json:"@odata.nextLink"`
			Value []struct{ ID string }
		}
		require.NoError(n.t, json.Unmarshal(answer.Body.Bytes(), &page))
		for _, user := range page.Value {
			ids = append(ids, user.ID)
		}
		target = page.Next
	}
	return ids
}

func TestDirectory_ListsAllOrLicensedUsers(t *testing.T) {
	t.Parallel()
	n := newLocalClient(t, withUsersRole)
	people := graphtest.Company(1, 100)
	n.SetDirectory(people...)
	var all, licensed []string
	for _, p := range people {
		all = append(all, p.ID)
		if p.Licensed {
			licensed = append(licensed, p.ID)
		}
	}
	assert.Equal(t, all, n.list("$select=id&$top=7"))
	assert.Equal(t, 15, n.Stats().Requests[graphtest.OpUsers])
	assert.Equal(t, licensed, n.list(licensedQuery("7").Encode()))
	assert.Equal(t, 15+11, n.Stats().Requests[graphtest.OpUsers])
}

func TestDirectory_UsersJoinAndLeave(t *testing.T) {
	t.Parallel()
	n := newLocalClient(t, withUsersRole)
	require.NoError(t, n.AddHistory(newInteraction("1", "s", "r", alice, "Word"), newInteraction("2", "t", "r", bob, "Word")))
	n.Leave(strings.ToUpper(bob), "unknown")
	assert.Equal(t, []string{alice}, n.list("$select=id"))
	status, _ := n.user(bob, "")
	assert.Equal(t, http.StatusNotFound, status)
	require.NoError(t, n.AddHistory(newInteraction("3", "t", "r", bob, "Word")))
	assert.Equal(t, []string{alice}, n.list("$select=id"), "who has left does not come back by an interaction")

	moved := lena
	moved.Department = "Finance"
	n.Join(graphtest.Person{ID: bob}, moved)
	assert.Equal(t, []string{alice, bob}, n.list("$select=id"))
	assert.Equal(t, []string{alice}, n.list(licensedQuery("999").Encode()))
	_, user := n.user(alice, "?$select=department")
	assert.Equal(t, "Finance", user["department"])
}

func TestDirectoryLimit_ThrottlesListsAndReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newLocalClient(t, func(s *graphtest.Settings) {
			withUsersRole(s)
			s.DirectoryLimit = 2
		})
		n.SetDirectory(lena)
		assert.Equal(t, []string{alice}, n.list("$select=id"))
		status, _ := n.user(alice, "")
		assert.Equal(t, http.StatusOK, status)
		for _, target := range []string{"/v1.0/users", "/v1.0/users/" + alice} {
			throttled := n.get(target)
			assert.Equal(t, http.StatusTooManyRequests, throttled.Code)
			assert.Equal(t, "1", throttled.Header().Get("Retry-After"))
		}
		time.Sleep(time.Second)
		status, _ = n.user(alice, "")
		assert.Equal(t, http.StatusOK, status, "a client that waits is served")
		assert.Equal(t, 2, n.Stats().DirectoryThrottled)
		assert.Equal(t, 4, n.Stats().DirectoryPeak, "refused requests count too")
		assert.Equal(t, map[string]int{alice: 3}, n.UserRequests())
	})
}

func TestCompany_IsRepeatableAndBelievable(t *testing.T) {
	t.Parallel()
	people := graphtest.Company(1, 1000)
	assert.Equal(t, people, graphtest.Company(1, 1000))
	assert.NotEqual(t, people, graphtest.Company(2, 1000))
	unique := map[string]bool{}
	count := map[string]int{}
	departments := map[string]int{}
	for _, p := range people {
		departments[p.Department]++
		unique[p.ID], unique[p.UserPrincipalName] = true, true
		if p.OnPremisesSamAccountName != "" {
			count["hybrid"]++
			unique[p.OnPremisesSamAccountName], unique[p.OnPremisesSecurityIdentifier] = true, true
			assert.LessOrEqual(t, len(p.OnPremisesSamAccountName), 20)
			assert.NotEmpty(t, p.OnPremisesDomainName)
		}
		if p.Licensed {
			count["licensed"]++
		}
		for _, plan := range p.Plans {
			if plan.ServicePlanID == graphtest.CopilotPlan && !p.Licensed {
				count["only a plan that is not enabled"]++
				assert.NotEqual(t, "Enabled", plan.CapabilityStatus)
			}
		}
	}
	assert.Len(t, unique, 2000+2*count["hybrid"])
	assert.Equal(t, 750, count["licensed"])
	assert.InDelta(t, 700, count["hybrid"], 60)
	assert.InDelta(t, 125, count["only a plan that is not enabled"], 40)
	assert.InDelta(t, 50, departments[""], 30)
	assert.Len(t, slices.Collect(maps.Keys(departments)), 9)
}
