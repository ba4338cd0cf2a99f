// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func historyPath(user string, query url.Values) string {
	return "/v1.0/copilot/users/" + user + "/interactionHistory/getAllEnterpriseInteractions?" + query.Encode()
}

func rangeFilter(after, before string) url.Values {
	return url.Values{"$filter": {"createdDateTime gt " + after + " and createdDateTime lt " + before}}
}

// historyIDs reads all pages from path on and returns the ids and the number of pages.
func (g *client) historyIDs(path string) (found []string, pages int) {
	g.t.Helper()
	for path != "" {
		status, answer := g.call(http.MethodGet, path, nil)
		require.Equal(g.t, http.StatusOK, status, "%v", answer)
		for _, one := range answer["value"].([]any) {
			found = append(found, one.(map[string]any)["id"].(string))
		}
		path, _ = answer["@odata.nextLink"].(string)
		pages++
	}
	return found, pages
}

func TestHistory_ListsOneUserNewestFirst(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for i := range 5 {
		at := strconv.Itoa(1764599400000 + i*1000)
		_, err := g.Publish(t.Context(), newInteraction(at, "s", strconv.Itoa(i), alice, "Word"), newInteraction(at+"5", "t", "x", bob, "Word"))
		require.NoError(t, err)
	}
	all, pages := g.historyIDs(historyPath(alice, url.Values{"$top": {"2"}}))
	assert.Equal(t, []string{"1764599404000", "1764599403000", "1764599402000", "1764599401000", "1764599400000"}, all)
	assert.Equal(t, 3, pages)
	some, _ := g.historyIDs(historyPath(alice, rangeFilter("2025-12-01T14:30:00Z", "2025-12-01T14:30:03Z")))
	assert.Equal(t, []string{"1764599402000", "1764599401000"}, some, "both bounds are strict")
	none, _ := g.historyIDs(historyPath("unknown", nil))
	assert.Empty(t, none)
}

func TestHistory_KeepsNewestVersionAndDeleted(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.HistorySize = 2 })
	one := newInteraction("1", "s", "r", alice, "Word")
	require.NoError(t, g.AddHistory(one, newInteraction("2", "s", "r", "", "Word")))
	require.NoError(t, g.AddHistory(
		graphtest.Interaction{JSON: newInteraction("1", "s", "r", alice, "Excel").JSON, Change: "updated"},
		graphtest.Interaction{JSON: one.JSON, Change: "deleted"},
	))
	_, answer := g.call(http.MethodGet, historyPath(alice, nil), nil)
	value := answer["value"].([]any)
	require.Len(t, value, 2)
	assert.Equal(t, "Excel", value[1].(map[string]any)["appClass"])
	require.NoError(t, g.AddHistory(graphtest.Interaction{JSON: newInteraction("3", "s", "r", alice, "Word").JSON, Change: "updated"}))
	left, _ := g.historyIDs(historyPath(alice, nil))
	assert.Equal(t, []string{"3", "2"}, left, "the oldest is dropped")
	require.Error(t, g.AddHistory(graphtest.Interaction{JSON: []byte("{")}))
	assert.Zero(t, g.Stats().Published)
}

func TestHistory_RefusesInvalidRequests(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.SetUnlicensed("BBBBBBBB-0000-4000-A000-000000000002")
	for name, c := range map[string]struct {
		path          string
		status        int
		code, message string
	}{
		"one bound":              {historyPath(alice, url.Values{"$filter": {"createdDateTime gt 2025-12-01T14:30:00Z"}}), 500, "InternalServerError", "Failed to execute request."},
		"dates without times":    {historyPath(alice, rangeFilter("2025-12-01", "2025-12-02")), 500, "InternalServerError", "Failed to execute request."},
		"an upper date only":     {historyPath(alice, rangeFilter("2025-12-01T14:30:00Z", "2025-12-02")), 500, "InternalServerError", "Failed to execute request."},
		"an empty page":          {historyPath(alice, url.Values{"$top": {"0"}}), 400, "BadRequest", "Invalid value for $top."},
		"an invalid skip token":  {historyPath(alice, url.Values{"$skiptoken": {"x"}}), 400, "BadRequest", "Invalid value for $skiptoken."},
		"a user without license": {historyPath(bob, nil), 403, "Forbidden", "User '" + bob + "' does not have a valid Copilot license."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.call(http.MethodGet, c.path, nil)
			code, message := errorOf(answer)
			assert.Equal(t, c.status, status)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.message, message)
		})
	}
}

func TestTurnUsers_ForgetOldest(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.HistorySize = 4 })
	prompts := []graphtest.Interaction{}
	for i := range 3 {
		prompts = append(prompts, newInteraction(strconv.Itoa(i), "s"+strconv.Itoa(i), "r", alice, "Word"))
	}
	require.NoError(t, g.AddHistory(prompts...))
	require.NoError(t, g.AddHistory(newInteraction("8", "s0", "r", "", "Word"), newInteraction("9", "s2", "r", "", "Word")))
	found, _ := g.historyIDs(historyPath(alice, nil))
	assert.Contains(t, found, "9")
	assert.NotContains(t, found, "8")
}

// localClient is an emulator that is called without a network, so that it can run in a synctest bubble.
type localClient struct {
	*graphtest.Emulator
	t     *testing.T
	token string
}

func newLocalClient(t *testing.T, change func(*graphtest.Settings)) *localClient {
	t.Helper()
	settings := graphtest.Settings{TenantID: tenantID, ClientID: clientID, ClientSecret: secret, URL: "https://graph.example.com"}
	if change != nil {
		change(&settings)
	}
	n := &localClient{Emulator: graphtest.New(settings), t: t}
	t.Cleanup(n.Close)
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret}, "scope": {"https://graph.example.com/.default"},
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+tenantID+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(n.serve(request).Body.Bytes(), &granted))
	n.token = granted.AccessToken
	return n
}

func (n *localClient) serve(request *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	n.ServeHTTP(recorder, request)
	return recorder
}

func (n *localClient) get(target string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(n.t.Context(), http.MethodGet, target, http.NoBody)
	request.Header.Set("Authorization", "Bearer "+n.token)
	request.Header.Set("ConsistencyLevel", "eventual")
	return n.serve(request)
}

// historyApps returns the app class of each interaction in the history of alice.
func (n *localClient) historyApps() []string {
	n.t.Helper()
	answer := n.get(historyPath(alice, nil))
	require.Equal(n.t, http.StatusOK, answer.Code)
	var page struct {
		Value []struct{ AppClass string }
	}
	require.NoError(n.t, json.Unmarshal(answer.Body.Bytes(), &page))
	found := []string{}
	for _, one := range page.Value {
		found = append(found, one.AppClass)
	}
	return found
}

func TestHistoryLimit_Allows30RequestsPerSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newLocalClient(t, nil)
		for range 120 { // 25 per second
			assert.Equal(t, http.StatusOK, n.get(historyPath(alice, nil)).Code)
			time.Sleep(40 * time.Millisecond)
		}
		assert.Equal(t, 25, n.Stats().HistoryPeak)
		time.Sleep(time.Second)
		for range 30 {
			assert.Equal(t, http.StatusOK, n.get(historyPath(bob, nil)).Code)
		}
		throttled := n.get(historyPath(bob, nil))
		assert.Equal(t, http.StatusTooManyRequests, throttled.Code)
		assert.Equal(t, "1", throttled.Header().Get("Retry-After"))
		assert.Contains(t, throttled.Body.String(), "TooManyRequests")
		time.Sleep(time.Second)
		assert.Equal(t, http.StatusOK, n.get(historyPath(strings.ToUpper(bob), nil)).Code, "a client that waits is served")
		stats := n.Stats()
		assert.Equal(t, 1, stats.HistoryThrottled)
		assert.Equal(t, 31, stats.HistoryPeak, "refused requests count too")
		assert.Equal(t, map[string]int{alice: 120, bob: 32}, n.HistoryRequests())
	})
}

func TestHistoryLimit_IsConfigurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := newLocalClient(t, func(s *graphtest.Settings) { s.HistoryLimit = 1 })
		assert.Equal(t, http.StatusOK, slow.get(historyPath(alice, nil)).Code)
		assert.Equal(t, http.StatusTooManyRequests, slow.get(historyPath(alice, nil)).Code)
		free := newLocalClient(t, func(s *graphtest.Settings) { s.HistoryLimit = -1 })
		for range 1000 {
			assert.Equal(t, http.StatusOK, free.get(historyPath(alice, nil)).Code)
		}
		assert.Equal(t, 1000, free.Stats().HistoryPeak)
	})
}

func TestHistoryLag_DelaysInteractionsAndUpdates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newLocalClient(t, func(s *graphtest.Settings) { s.HistoryLag = time.Minute })
		first := newInteraction("1", "s", "r", alice, "first")
		_, err := n.Publish(t.Context(), first)
		require.NoError(t, err)
		time.Sleep(time.Minute - time.Nanosecond)
		assert.Empty(t, n.historyApps())
		time.Sleep(time.Nanosecond)
		assert.Equal(t, []string{"first"}, n.historyApps())

		for _, app := range []string{"second", "third"} {
			require.NoError(t, n.AddHistory(graphtest.Interaction{JSON: newInteraction("1", "s", "r", alice, app).JSON, Change: "updated"}))
			time.Sleep(30 * time.Second)
		}
		assert.Equal(t, []string{"second"}, n.historyApps(), "an update is delayed too; until then the previous version is shown")
		time.Sleep(30 * time.Second)
		assert.Equal(t, []string{"third"}, n.historyApps())
		require.NoError(t, n.AddHistory(graphtest.Interaction{JSON: newInteraction("1", "s", "r", alice, "fourth").JSON, Change: "updated"}))
		assert.Equal(t, []string{"third"}, n.historyApps(), "only versions older than the visible one are dropped")
	})
}

func TestHistory_RequiresRole(t *testing.T) {
	t.Parallel()
	n := newLocalClient(t, func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleUsersReadAll} })
	forbidden := n.get(historyPath(alice, nil))
	assert.Equal(t, http.StatusForbidden, forbidden.Code)
	assert.Contains(t, forbidden.Body.String(), "AiEnterpriseInteraction.Read.All")
	assert.Equal(t, map[string]int{alice: 1}, n.HistoryRequests(), "refused requests count too")
}
