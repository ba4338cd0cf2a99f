package graphtest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// localClient is an emulator that is called without a network, so that its clock may be that of a synctest bubble.
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

// historyApps reads the app of each interaction in Alice's history.
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
		for range 120 { // 25 a second, of which a second's worth comes at once
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
		assert.Equal(t, http.StatusOK, n.get(historyPath(strings.ToUpper(bob), nil)).Code, "who obeys is served")
		stats := n.Stats()
		assert.Equal(t, 1, stats.HistoryThrottled)
		assert.Equal(t, 31, stats.HistoryPeak, "also those that were refused")
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
		assert.Equal(t, []string{"second"}, n.historyApps(), "a change lags as well, and nothing vanishes meanwhile")
		time.Sleep(30 * time.Second)
		assert.Equal(t, []string{"third"}, n.historyApps())
		require.NoError(t, n.AddHistory(graphtest.Interaction{JSON: newInteraction("1", "s", "r", alice, "fourth").JSON, Change: "updated"}))
		assert.Equal(t, []string{"third"}, n.historyApps(), "the versions before it are forgotten, not this one")
	})
}

func TestHistory_RequiresRole(t *testing.T) {
	t.Parallel()
	n := newLocalClient(t, func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleUsersReadAll} })
	forbidden := n.get(historyPath(alice, nil))
	assert.Equal(t, http.StatusForbidden, forbidden.Code)
	assert.Contains(t, forbidden.Body.String(), "AiEnterpriseInteraction.Read.All")
	assert.Equal(t, map[string]int{alice: 1}, n.HistoryRequests(), "it was asked for nonetheless")
}

// It runs alone, as memory is that of the process.
func TestDirectory_AllocatesPerPage(t *testing.T) {
	const users = 100_000
	n := newLocalClient(t, func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleUsersReadAll} })
	ids := make([]string, users)
	for i := range ids {
		ids[i] = alice
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
