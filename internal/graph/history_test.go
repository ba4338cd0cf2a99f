package graph_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const historyUser = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"

var (
	windowFrom = time.Date(2026, 11, 24, 12, 0, 0, 900_000_000, time.UTC)
	windowTo   = time.Date(2026, 11, 24, 14, 0, 0, 1, time.FixedZone("", 3600))
)

func TestHistory_SendsBoundsInWholeSeconds(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1.0/copilot/users/"+historyUser+"/interactionHistory/getAllEnterpriseInteractions", r.URL.Path)
		assert.Equal(t, "100", r.URL.Query().Get("$top"))
		assert.Equal(t, "createdDateTime gt 2026-11-24T12:00:00Z and createdDateTime lt 2026-11-24T13:00:01Z", r.URL.Query().Get("$filter"))
		assert.NotContains(t, r.URL.RawQuery, "+", "a plus would be a plus to some")
		write(w, `{"value": [{"id": "1"}, {"id": "2"}]}`)
	})
	page, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.NoError(t, err)
	require.Len(t, page.Items, 2)
	assert.JSONEq(t, `{"id": "1"}`, string(page.Items[0]))
	assert.Empty(t, page.Next)
}

func TestHistory_FollowsLinksOnOwnHostOnly(t *testing.T) {
	t.Parallel()
	var asked []string
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if len(asked) == 1 {
			write(w, `{"value": [], "@odata.nextLink": "http://%s/v1.0/odd/Path?$skiptoken=a%%2Bb"}`, r.Host)
			return
		}
		write(w, `{"value": [], "@odata.nextLink": "https://evil.example.com/v1.0/x"}`)
	})
	first, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.NoError(t, err)
	second, err := client.History(t.Context(), historyUser, windowFrom, windowTo, first.Next)
	require.NoError(t, err)
	assert.Equal(t, "/v1.0/odd/Path?$skiptoken=a%2Bb", asked[1])
	_, err = client.History(t.Context(), historyUser, windowFrom, windowTo, second.Next)
	require.ErrorIs(t, err, graph.ErrForeignHost)
	assert.Len(t, asked, 2, "no token leaves for another host")
}

func TestHistory_ClassifiesDenial(t *testing.T) {
	t.Parallel()
	type meaning struct{ unlicensed, forbidden, unsupported bool }
	for name, test := range map[string]struct {
		status  int
		code    string
		message string
		want    meaning
	}{
		"a user without a license":              {403, "Forbidden", "User '" + historyUser + "' does not have a valid Copilot license.", meaning{unlicensed: true}},
		"a missing permission":                  {403, "Forbidden", "Missing role permissions on the request.", meaning{forbidden: true}},
		"a refusal without a reason":            {403, "UnknownError", "", meaning{forbidden: true}},
		"a user that is not known":              {404, "ResourceNotFound", "User not found.", meaning{unlicensed: true}},
		"a cloud that does not have the call":   {404, "NotFound", "Requested API is not supported. Please check the path.", meaning{unsupported: true}},
		"a date filter that was not understood": {500, "InternalServerError", "Failed to execute request.", meaning{}},
		"too many calls":                        {429, "TooManyRequests", "", meaning{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				write(w, `{"error": {"code": %q, "message": %q}}`, test.code, test.message)
			})
			_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
			require.Error(t, err)
			assert.Equal(t, test.want, meaning{graph.Unlicensed(err), graph.Forbidden(err), graph.Unsupported(err)})
			assert.NotContains(t, err.Error(), historyUser, "errors are logged, and a user is nobody's business")
			assert.NotEmpty(t, graph.Hint(err))
		})
	}
}

func TestHistory_PageWithoutValueIsUnreadable(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"no value": `{}`, "no JSON": `{"value": [`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
			_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
			require.ErrorIs(t, err, graph.ErrUnreadable)
			_, err = client.LicensedUsers(t.Context(), "")
			require.ErrorIs(t, err, graph.ErrUnreadable)
		})
	}
}

func TestHistory_BoundsPageSize(t *testing.T) {
	t.Parallel()
	size := 5 << 20
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		write(w, `{"value": ["`)
		chunk := make([]byte, 1<<20)
		for i := range chunk {
			chunk[i] = 'x'
		}
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		write(w, `"]}`)
	})
	page, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.NoError(t, err)
	assert.Len(t, page.Items[0], size+2)
	size = 65 << 20
	_, err = client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.ErrorIs(t, err, graph.ErrTooLarge)
}

func TestLicensedUsers_FiltersByServicePlan(t *testing.T) {
	t.Parallel()
	var asked int
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		assert.Equal(t, "eventual", r.Header.Get("ConsistencyLevel"), "on each page")
		if asked == 1 {
			assert.Equal(t, "/v1.0/users", r.URL.Path)
			assert.Equal(t, "assignedPlans/any(p:p/servicePlanId eq 3f30311c-6b1e-48a4-ab79-725b469da960 and p/capabilityStatus eq 'Enabled')", r.URL.Query().Get("$filter"))
			assert.Equal(t, []string{"true", "id", "999"}, []string{r.URL.Query().Get("$count"), r.URL.Query().Get("$select"), r.URL.Query().Get("$top")})
			write(w, `{"value": [{"id": "a"}, {"id": "b"}], "@odata.nextLink": "http://%s/v1.0/users?$skiptoken=2"}`, r.Host)
			return
		}
		write(w, `{"value": [{"id": "c"}]}`)
	})
	first, err := client.LicensedUsers(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, first.IDs)
	second, err := client.LicensedUsers(t.Context(), first.Next)
	require.NoError(t, err)
	assert.Equal(t, graph.UserPage{IDs: []string{"c"}}, second)
}

func TestLicensedUsers_ForbiddenWithoutPermission(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		write(w, `{"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges to complete the operation."}}`)
	})
	_, err := client.LicensedUsers(t.Context(), "")
	assert.True(t, graph.Forbidden(err))
}
