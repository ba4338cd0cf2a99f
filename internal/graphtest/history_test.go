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

func historyOf(user string, query url.Values) string {
	return "/v1.0/copilot/users/" + user + "/interactionHistory/getAllEnterpriseInteractions?" + query.Encode()
}

func between(after, before string) url.Values {
	return url.Values{"$filter": {"createdDateTime gt " + after + " and createdDateTime lt " + before}}
}

// idsOf reads all pages.
func (g *graph) idsOf(path string) (found []string, pages int) {
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

func TestHistoryIsThatOfOneUserTheNewestFirst(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for i := range 5 {
		at := strconv.Itoa(1764599400000 + i*1000)
		_, err := g.Publish(t.Context(), said(at, "s", strconv.Itoa(i), alice, "Word"), said(at+"5", "t", "x", bob, "Word"))
		require.NoError(t, err)
	}
	all, pages := g.idsOf(historyOf(alice, url.Values{"$top": {"2"}}))
	assert.Equal(t, []string{"1764599404000", "1764599403000", "1764599402000", "1764599401000", "1764599400000"}, all)
	assert.Equal(t, 3, pages)
	some, _ := g.idsOf(historyOf(alice, between("2025-12-01T14:30:00Z", "2025-12-01T14:30:03Z")))
	assert.Equal(t, []string{"1764599402000", "1764599401000"}, some, "both bounds are strict")
	none, _ := g.idsOf(historyOf("nobody", nil))
	assert.Empty(t, none)
}

func TestHistoryKeepsTheNewestVersionAndWhatWasDeleted(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.HistorySize = 2 })
	one := said("1", "s", "r", alice, "Word")
	require.NoError(t, g.AddHistory(one, said("2", "s", "r", "", "Word")))
	require.NoError(t, g.AddHistory(
		graphtest.Interaction{JSON: said("1", "s", "r", alice, "Excel").JSON, Change: "updated"},
		graphtest.Interaction{JSON: one.JSON, Change: "deleted"},
	))
	_, answer := g.call(http.MethodGet, historyOf(alice, nil), nil)
	value := answer["value"].([]any)
	require.Len(t, value, 2)
	assert.Equal(t, "Excel", value[1].(map[string]any)["appClass"])
	require.NoError(t, g.AddHistory(graphtest.Interaction{JSON: said("3", "s", "r", alice, "Word").JSON, Change: "updated"}))
	left, _ := g.idsOf(historyOf(alice, nil))
	assert.Equal(t, []string{"3", "2"}, left, "the oldest went")
	require.Error(t, g.AddHistory(graphtest.Interaction{JSON: []byte("{")}))
	assert.Zero(t, g.Stats().Published)
}

func TestHistoryRefusesAsGraphDoes(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.SetUnlicensed("BBBBBBBB-0000-4000-A000-000000000002")
	for name, c := range map[string]struct {
		path          string
		status        int
		code, message string
	}{
		"one bound":               {historyOf(alice, url.Values{"$filter": {"createdDateTime gt 2025-12-01T14:30:00Z"}}), 500, "InternalServerError", "Failed to execute request."},
		"dates alone":             {historyOf(alice, between("2025-12-01", "2025-12-02")), 500, "InternalServerError", "Failed to execute request."},
		"an upper date alone":     {historyOf(alice, between("2025-12-01T14:30:00Z", "2025-12-02")), 500, "InternalServerError", "Failed to execute request."},
		"a page of nothing":       {historyOf(alice, url.Values{"$top": {"0"}}), 400, "BadRequest", "Invalid value for $top."},
		"a token of another kind": {historyOf(alice, url.Values{"$skiptoken": {"x"}}), 400, "BadRequest", "Invalid value for $skiptoken."},
		"a user without license":  {historyOf(bob, nil), 403, "Forbidden", "User '" + bob + "' does not have a valid Copilot license."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.call(http.MethodGet, c.path, nil)
			code, message := problem(answer)
			assert.Equal(t, c.status, status)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.message, message)
		})
	}
}

func TestWhoseResponseItIsIsForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.HistorySize = 4 })
	prompts := []graphtest.Interaction{}
	for i := range 3 {
		prompts = append(prompts, said(strconv.Itoa(i), "s"+strconv.Itoa(i), "r", alice, "Word"))
	}
	require.NoError(t, g.AddHistory(prompts...))
	require.NoError(t, g.AddHistory(said("8", "s0", "r", "", "Word"), said("9", "s2", "r", "", "Word")))
	found, _ := g.idsOf(historyOf(alice, nil))
	assert.Contains(t, found, "9")
	assert.NotContains(t, found, "8")
}
