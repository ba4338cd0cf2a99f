package graphtest_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"

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

// historyIDs reads all pages.
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
	none, _ := g.historyIDs(historyPath("nobody", nil))
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
	assert.Equal(t, []string{"3", "2"}, left, "the oldest went")
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
		"one bound":               {historyPath(alice, url.Values{"$filter": {"createdDateTime gt 2025-12-01T14:30:00Z"}}), 500, "InternalServerError", "Failed to execute request."},
		"dates alone":             {historyPath(alice, rangeFilter("2025-12-01", "2025-12-02")), 500, "InternalServerError", "Failed to execute request."},
		"an upper date alone":     {historyPath(alice, rangeFilter("2025-12-01T14:30:00Z", "2025-12-02")), 500, "InternalServerError", "Failed to execute request."},
		"a page of nothing":       {historyPath(alice, url.Values{"$top": {"0"}}), 400, "BadRequest", "Invalid value for $top."},
		"a token of another kind": {historyPath(alice, url.Values{"$skiptoken": {"x"}}), 400, "BadRequest", "Invalid value for $skiptoken."},
		"a user without license":  {historyPath(bob, nil), 403, "Forbidden", "User '" + bob + "' does not have a valid Copilot license."},
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
