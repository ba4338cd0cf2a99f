// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestLicensedUsers_FiltersByServicePlan(t *testing.T) {
	t.Parallel()
	var asked int
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		assert.Equal(t, "eventual", r.Header.Get("ConsistencyLevel"), "on each page")
		if asked == 1 {
			assert.Equal(t, "/v1.0/users", r.URL.Path)
			assert.Equal(t, "assignedPlans/any(p:p/servicePlanId eq 3f30311c-6b1e-48a4-ab79-725b469da960 and p/capabilityStatus eq 'Enabled')", r.URL.Query().Get("$filter"))
			assert.Equal(t, []string{"true", "id,department,country", "999"}, []string{r.URL.Query().Get("$count"), r.URL.Query().Get("$select"), r.URL.Query().Get("$top")})
			write(w, `{"value": [{"id": "a", "department": "Sales"}, {"id": "b", "country": null}], "@odata.nextLink": "http://%s/v1.0/users?$skiptoken=2"}`, r.Host)
			return
		}
		write(w, `{"value": [{"id": "c"}]}`)
	})
	properties := []string{"department", "country"}
	first, err := client.LicensedUsers(t.Context(), "", properties)
	require.NoError(t, err)
	assert.Equal(t, []interaction.Person{{ID: "a", Department: "Sales", Licensed: true}, {ID: "b", Licensed: true}}, first.Items)
	second, err := client.LicensedUsers(t.Context(), first.Next, properties)
	require.NoError(t, err)
	assert.Equal(t, graph.UserPage{Items: []interaction.Person{{ID: "c", Licensed: true}}}, second)
}

func TestLicensedUsers_ForbiddenWithoutPermission(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		write(w, `{"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges to complete the operation."}}`)
	})
	_, err := client.LicensedUsers(t.Context(), "", nil)
	assert.True(t, graph.Forbidden(err))
}

// allProperties are those that a person can have.
var allProperties = []string{
	"userPrincipalName", "displayName", "department", "officeLocation", "country", "jobTitle", "companyName",
	"onPremisesSamAccountName", "onPremisesSecurityIdentifier", "onPremisesDomainName",
}

func TestUser_ReadsProperties(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1.0/users/"+strings.ToUpper(historyUser), r.URL.Path)
		assert.Equal(t, "id,"+strings.Join(allProperties, ",")+",assignedPlans", r.URL.Query().Get("$select"))
		write(w, `{"id": "`+historyUser+`", "userPrincipalName": "jo@contoso.com", "displayName": "Jo Doe", "department": "Sales",
			"officeLocation": "2/1", "country": "Norway", "jobTitle": "Clerk", "companyName": null, "onPremisesSamAccountName": "jodoe",
			"onPremisesSecurityIdentifier": "S-1-5-21-1", "onPremisesDomainName": "corp.contoso.com", "mail": "jo@contoso.com", "assignedPlans": []}`)
	})
	person, err := client.User(t.Context(), strings.ToUpper(historyUser), allProperties)
	require.NoError(t, err)
	assert.Equal(t, interaction.Person{
		ID: historyUser, UserPrincipalName: "jo@contoso.com", DisplayName: "Jo Doe", Department: "Sales", OfficeLocation: "2/1",
		Country: "Norway", JobTitle: "Clerk", OnPremisesSamAccountName: "jodoe",
		OnPremisesSecurityIdentifier: "S-1-5-21-1", OnPremisesDomainName: "corp.contoso.com",
	}, person)
}

// A page may contain more properties than $select asks for.
func TestLicensedUsers_AcceptsUnrequestedProperties(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		write(w, `{"value": [{"id": "a", "assignedPlans": "`+strings.Repeat("x", 17<<20)+`"}]}`)
	})
	page, err := client.LicensedUsers(t.Context(), "", nil)
	require.NoError(t, err)
	assert.Equal(t, []interaction.Person{{ID: "a", Licensed: true}}, page.Items)
}

func TestUser_LicensedWithEnabledPlan(t *testing.T) {
	t.Parallel()
	const copilot, other = "3f30311c-6b1e-48a4-ab79-725b469da960", "b95945de-b3bd-46db-8437-f2beb6ea2347"
	plan := func(id, status string) string {
		return `{"servicePlanId": "` + id + `", "capabilityStatus": "` + status + `"}`
	}
	for name, test := range map[string]struct {
		plans    string
		licensed bool
	}{
		"no plan at all":                         {`[]`, false},
		"no list":                                {`null`, false},
		"another plan":                           {`[` + plan(other, "Enabled") + `]`, false},
		"the plan":                               {`[` + plan(other, "Enabled") + `,` + plan(copilot, "Enabled") + `]`, true},
		"the plan in upper case":                 {`[` + plan(strings.ToUpper(copilot), "Enabled") + `]`, true},
		"the plan is suspended":                  {`[` + plan(copilot, "Suspended") + `]`, false},
		"the plan of two licenses, one was lost": {`[` + plan(copilot, "Enabled") + `,` + plan(copilot, "Deleted") + `]`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
				write(w, `{"id": %q, "assignedPlans": %s}`, historyUser, test.plans)
			})
			person, err := client.User(t.Context(), historyUser, nil)
			require.NoError(t, err)
			assert.Equal(t, interaction.Person{ID: historyUser, Licensed: test.licensed}, person)
		})
	}
}

func TestUser_ClassifiesRefusal(t *testing.T) {
	t.Parallel()
	type meaning struct{ unknown, forbidden, unsupported bool }
	for name, test := range map[string]struct {
		status        int
		code, message string
		want          meaning
	}{
		"a user who left": {
			404, "Request_ResourceNotFound",
			"Resource '" + historyUser + "' does not exist or one of its queried reference-property objects are not present.",
			meaning{unknown: true},
		},
		"a missing permission":          {403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.", meaning{forbidden: true}},
		"a path that is not there":      {404, "NotFound", "No route to jo@contoso.com.", meaning{}},
		"an installation without users": {404, "NotFound", "Requested API is not supported.", meaning{unsupported: true}},
		"a failure of Graph":            {500, "InternalServerError", "jo@contoso.com", meaning{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				write(w, `{"error": {"code": %q, "message": %q}}`, test.code, test.message)
			})
			_, err := client.User(t.Context(), historyUser, allProperties)
			require.Error(t, err)
			assert.Equal(t, test.want, meaning{graph.UnknownUser(err), graph.Forbidden(err), graph.Unsupported(err)})
			assert.NotContains(t, err.Error(), historyUser, "errors are logged, and a user id is personal data")
			assert.NotContains(t, err.Error(), "contoso")
			assert.NotEmpty(t, failure.Of(err).Hint)
		})
	}
}

func TestUser_RefusesOtherAnswers(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"another user":      `{"id": "00000000-0000-4000-8000-000000000001", "department": "Sales", "assignedPlans": []}`,
		"no id":             `{"assignedPlans": []}`,
		"plans of any form": `{"id": "` + historyUser + `", "assignedPlans": "all"}`,
		"no user":           `[]`,
		"nothing":           ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
			person, err := client.User(t.Context(), historyUser, allProperties)
			require.ErrorIs(t, err, graph.ErrUnreadable)
			assert.Zero(t, person)
		})
	}
}
