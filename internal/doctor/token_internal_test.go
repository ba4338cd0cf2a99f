// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// authenticator is an authenticator extension that adds a token to each request.
type authenticator struct {
	component.Component
	token func(context.Context) (string, error)
}

func (a authenticator) RoundTripper(base http.RoundTripper) (http.RoundTripper, error) {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		token, err := a.token(r.Context())
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
		return base.RoundTrip(r)
	}), nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newAuthenticated returns a target whose calls to Graph are authenticated by an extension with a token of the emulator, or with the
// error, and the emulator.
func newAuthenticated(t *testing.T, failed error) (*target, *graphtest.Emulator) {
	t.Helper()
	const tenant, client, secret = "84bd8158-6d4d-4958-8b9f-9d6445542f95", "8e460676-ae3f-4b1e-8790-ee0fb5d6148f", "canary-client-secret"
	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret})
	t.Cleanup(emulator.Close)
	url, err := emulator.Start("")
	require.NoError(t, err)
	tokens := graph.NewTokens(graph.CredentialSettings{
		TokenURL: graph.TokenURL(url, tenant), ClientID: client, Scope: graph.DefaultScope(url), Secret: secret,
		HTTP: &http.Client{}, Telemetry: noTelemetry{},
	})
	id := component.MustNewID("oauth2client")
	config := confighttp.NewDefaultClientConfig()
	config.Endpoint = url
	config.Auth = configoptional.Some(configauth.Config{AuthenticatorID: id})
	extension := authenticator{token: func(ctx context.Context) (string, error) {
		if failed != nil {
			return "", failed
		}
		return tokens.Token(ctx, false)
	}}
	clients, err := graph.NewClients(t.Context(), config, nil, map[component.ID]component.Component{id: extension},
		componenttest.NewNopTelemetrySettings(), noTelemetry{})
	require.NoError(t, err)
	t.Cleanup(clients.Close)
	settings := receiver.Settings{TenantID: tenant, ClientID: client, JWKSURL: graph.KeysURL(url), Graph: config}
	return &target{settings: settings, clients: clients}, emulator
}

func TestAuthenticator_IsChecked(t *testing.T) {
	t.Parallel()
	target, emulator := newAuthenticated(t, nil)
	for _, c := range target.checkNetwork(t.Context()) {
		assert.Equal(t, OK, c.Mark, c.Found)
	}
	assert.Len(t, emulator.Requests(graphtest.OpKeys), 1, "the signing keys come from the authority in any case")
	assert.Empty(t, emulator.Requests(graphtest.OpToken))
	assert.Equal(t, []Check{ok("graph.auth oauth2client: Microsoft Graph accepts its access token")}, target.checkToken(t.Context()))
	assert.True(t, target.tokenIssued)
	assert.Equal(t, []Check{skipped("the access token can't be read")}, target.checkPermissions(t.Context()))
	assert.Equal(t, []Check{skipped("graph.auth oauth2client has the credential")}, target.checkCredentials(t.Context()))
}

func TestAuthenticator_WithoutToken(t *testing.T) {
	t.Parallel()
	refused := &graph.TokenError{Status: http.StatusUnauthorized, Code: "AADSTS7000215", Description: "AADSTS7000215: Invalid client secret."}
	target, _ := newAuthenticated(t, refused)
	target.checkNetwork(t.Context())
	checks := target.checkToken(t.Context())
	require.Len(t, checks, 1)
	assert.Equal(t, Fail, checks[0].Mark)
	assert.Equal(t, failure.ClientSecretWrong, checks[0].Code)
	assert.Contains(t, checks[0].Found, "graph.auth oauth2client")
	assert.Contains(t, checks[0].Found, "AADSTS7000215")
	assert.False(t, target.tokenIssued)
	assert.Equal(t, []Check{skipped("there is no access token")}, target.checkPermissions(t.Context()))
}

func TestAuthenticator_WithoutGraph(t *testing.T) {
	t.Parallel()
	target, emulator := newAuthenticated(t, errors.New("not called"))
	emulator.StopListening()
	target.checkNetwork(t.Context())
	assert.Equal(t, []Check{skipped("Microsoft Graph was not reached")}, target.checkToken(t.Context()))
}

// The users are for the check of the history, and in no report.
func TestLicenses_KeepSomeUsers(t *testing.T) {
	t.Parallel()
	target, emulator := newAuthenticated(t, nil)
	emulator.SetRoles(graphtest.RoleUsersReadAll)
	emulator.SetUsers("a", "b", "c", "d", "e", "f")
	target.checkNetwork(t.Context())
	target.checkToken(t.Context())
	assert.Equal(t, []Check{ok("licensed users: 6")}, target.checkLicenses(t.Context()))
	assert.Equal(t, []string{"a", "b", "c", "d", "e"}, target.users)
}
