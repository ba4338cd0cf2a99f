// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const otherID = "11111111-2222-4333-8444-555555555555"

func TestToken_IsIssued(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	r := h.check(t, "", "")
	assert.Equal(t, "auth.client_secret: an access token that is valid for 60 minutes", requireAllWell(t, r, "token"))
	assert.NotContains(t, printed(t, r), secret)
	assert.Equal(t, 1, h.emulator.Stats().TokensIssued, "all checks share one token")
}

func TestToken_ExplainsRefusal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		yaml    string
		prepare func(*graphtest.Emulator)
		code    failure.Code
		texts   []string
	}{
		"a wrong secret": {
			"    auth: {client_secret: canary-wrong-secret}", nil, failure.ClientSecretWrong,
			[]string{"AADSTS7000215", "auth.client_secret", "the client secret is wrong"},
		},
		"an expired secret": {
			"", func(e *graphtest.Emulator) { e.SetSecretEnd(time.Now().Add(-time.Hour)) }, failure.ClientSecretExpired,
			[]string{"AADSTS7000222", "create a new one"},
		},
		"an unknown application": {
			"    auth: {client_id: " + otherID + "}", nil, failure.ApplicationUnknown,
			[]string{"AADSTS700016", "auth.client_id"},
		},
		"an unknown tenant": {"    tenant_id: " + otherID, nil, failure.ApplicationUnknown, []string{"AADSTS90002", "tenant_id"}},
		"a wrong scope": {
			"    auth: {scope: \"https://graph.example.com/.default\"}", nil, failure.ScopeWrong, []string{"AADSTS500011", "auth.scope"},
		},
		"an unavailable login service": {
			"", func(e *graphtest.Emulator) { e.Fail(graphtest.OpToken, graphtest.Fault{Status: 503}) }, failure.Unavailable, []string{"503"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			if test.prepare != nil {
				test.prepare(h.emulator)
			}
			r := h.check(t, test.yaml, "")
			requireFinding(t, r, "token", doctor.Fail, test.code, test.texts...)
			requireFinding(t, r, "permissions", doctor.Skip, "", "there is no access token")
			requireFinding(t, r, "licenses", doctor.Skip, "", "there is no access token")
			requireFinding(t, r, "credentials", doctor.Skip, "", "there is no access token")
			assert.NotContains(t, printed(t, r), "canary")
		})
	}
}

func TestToken_FailsForAnotherTenantOrApplication(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	own := fmt.Sprintf("token_url: %q", h.url+"/"+tenant+"/oauth2/v2.0/token")
	r := h.check(t, "    tenant_id: "+otherID+"\n    auth: {"+own+"}", "")
	requireFinding(t, r, "token", doctor.Fail, failure.ApplicationUnknown, "for tenant "+tenant+", while tenant_id is "+otherID)

	other := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: otherID, ClientSecret: secret})
	t.Cleanup(other.Close)
	gateway := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		r.SetBasicAuth(otherID, secret) // a gateway with a credential of its own
		other.ServeHTTP(w, r)
	})
	scope := fmt.Sprintf("token_url: %q, scope: %q", gateway.URL+"/"+tenant+"/oauth2/v2.0/token", gateway.URL+"/.default")
	r = h.check(t, "    auth: {"+scope+"}", "")
	requireFinding(t, r, "token", doctor.Fail, failure.ApplicationUnknown, "for application "+otherID+", while auth.client_id is "+client)
}

func TestToken_MayBeOpaque(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"no JWT":                       "canary-opaque",
		"claims that are no JSON":      "canary.canary.canary",
		"a token of somebody else":     "e30.e30.canary",
		"parts that are not in base64": "canary.###.canary",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprintf(w, `{"token_type": "Bearer", "expires_in": 3600, "access_token": %q}`, token)
			})
			r := newHarness(t).check(t, fmt.Sprintf("    auth: {token_url: %q}", gateway.URL), "")
			assert.Equal(t, "auth.client_secret: an access token that can't be read", requireAllWell(t, r, "token"))
			requireFinding(t, r, "permissions", doctor.Skip, "", "the access token can't be read")
			assert.NotContains(t, printed(t, r), "canary-opaque")
		})
	}
}

func TestPermissions_ForEachConfiguration(t *testing.T) {
	t.Parallel()
	const lookup, inventory, named = "    identity: {directory: true}\n", "    identity: {inventory: 24h}\n", "    history: {users: [" + otherID + "]}\n"
	interactions, users := graphtest.RoleReadAll, graphtest.RoleUsersReadAll
	for name, test := range map[string]struct {
		roles []string
		yaml  string
		want  doctor.Mark
		code  failure.Code
	}{
		"both are granted":                                 {[]string{interactions, users}, lookup + named, doctor.OK, ""},
		"interactions are not granted":                     {[]string{users}, "", doctor.Fail, failure.PermissionMissing},
		"nothing is granted":                               {[]string{}, named, doctor.Fail, failure.PermissionMissing},
		"directory properties without users":               {[]string{interactions}, lookup + named, doctor.Warn, failure.UsersPermissionMissing},
		"an inventory without users":                       {[]string{interactions}, inventory + named, doctor.Warn, failure.UsersPermissionMissing},
		"a history of all users without users":             {[]string{interactions}, "", doctor.Warn, failure.UsersPermissionMissing},
		"a history of named users needs no directory":      {[]string{interactions}, named, doctor.OK, ""},
		"a history of subscribed users needs no directory": {[]string{interactions}, "    subscription: {users: [" + otherID + "]}", doctor.OK, ""},
		"no history needs no directory":                    {[]string{interactions}, "    history: {enabled: false}", doctor.OK, ""},
		"a permission that includes users":                 {[]string{interactions, "Directory.Read.All"}, lookup, doctor.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.emulator.SetRoles(test.roles...)
			r := h.check(t, test.yaml, "")
			require.Equal(t, test.want, group(t, r, "permissions").Mark())
			if test.want != doctor.OK {
				hint := map[failure.Code]string{failure.PermissionMissing: interactions, failure.UsersPermissionMissing: users}[test.code]
				requireFinding(t, r, "permissions", test.want, test.code, "the access token lacks "+hint, "grant the app registration")
			}
		})
	}
}
