// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// Each call to Graph has the token that the extension gets.
func TestAuthenticator_IsThatOfTheCollector(t *testing.T) {
	t.Parallel()
	const tenant, client = "84bd8158-6d4d-4958-8b9f-9d6445542f95", "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: "right", NoListLimit: true})
	t.Cleanup(emulator.Close)
	url, err := emulator.Start("")
	require.NoError(t, err)
	targets, unreadable := load(t.Context(), []string{fmt.Sprintf(`yaml:
receivers:
  m365_copilot:
    tenant_id: %[1]s
    auth: {client_id: %[2]s, authority: %[3]q}
    graph: {endpoint: %[3]q, auth: {authenticator: oauth2client/graph}}
    subscription: {notification_url: https://copilot.invalid/n}
extensions:
  oauth2client/graph:
    client_id: %[2]s
    client_secret: right
    token_url: %[3]s/%[1]s/oauth2/v2.0/token
    scopes: ["%[3]s/.default"]
exporters: {nop: }
service:
  extensions: [oauth2client/graph]
  pipelines: {logs: {receivers: [m365_copilot], exporters: [nop]}}
`, tenant, client, url)})
	require.Empty(t, unreadable)
	require.Len(t, targets, 1)
	defer targets[0].close(t.Context())
	assert.Equal(t, OK, Group{Checks: targets[0].configuration}.Mark(), targets[0].configuration)
	assert.Empty(t, targets[0].withoutClients)
	assert.Nil(t, targets[0].clients.Tokens)
	_, err = targets[0].clients.Graph.ListSubscriptions(t.Context())
	require.NoError(t, err)
	assert.Len(t, emulator.Requests(graphtest.OpToken), 1)
}
