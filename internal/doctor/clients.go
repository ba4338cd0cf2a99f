// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/oauth2clientauthextension"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/extension"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// connect creates the clients for Microsoft's services, with the authenticator that they need.
func (t *target) connect(ctx context.Context) (checks []Check) {
	client := t.settings.Graph
	switch auth := client.Auth.Get(); {
	case len(client.Middlewares) > 0:
		t.withoutClients = fmt.Sprintf("only a collector has the extension %s of graph.middlewares", client.Middlewares[0].ID)
	case auth != nil:
		checks = t.startAuthenticator(ctx, auth.AuthenticatorID)
	}
	if t.withoutClients != "" { // the network can be checked nevertheless
		client.Auth, client.Middlewares = configoptional.None[configauth.Config](), nil
	}
	clients, err := graph.NewClients(
		ctx, client, t.settings.Credential, t.extensions, componenttest.NewNopTelemetrySettings(), noTelemetry{})
	if err != nil {
		t.config = nil
		return append(checks, wrong(t.path(), err)...)
	}
	t.clients = clients
	return checks
}

// startAuthenticator starts the extension that gets the tokens for Graph, if it is of the kind that this program has.
func (t *target) startAuthenticator(ctx context.Context, id component.ID) []Check {
	factory := oauth2clientauthextension.NewFactory()
	section, found, err := t.collector.component(extensions, id)
	switch {
	case err != nil || !found:
		t.withoutClients = fmt.Sprintf("graph.auth needs the extension %s, which is not configured", id)
		return nil // said before
	case id.Type() != factory.Type():
		t.withoutClients = fmt.Sprintf("only a collector has the extension %s of graph.auth", id)
		return nil
	}
	config := factory.CreateDefaultConfig()
	if err = section.Unmarshal(config); err == nil {
		err = confmap.Validate(config)
	}
	var authenticator extension.Extension
	if err == nil {
		set := extension.Settings{ID: id, TelemetrySettings: componenttest.NewNopTelemetrySettings()}
		authenticator, err = factory.Create(ctx, set, config)
	}
	if err == nil {
		err = authenticator.Start(ctx, componenttest.NewNopHost())
	}
	if err != nil {
		t.withoutClients = fmt.Sprintf("graph.auth needs the extension %s, whose configuration is wrong", id)
		return wrong(extensions+"::"+id.String(), err)
	}
	t.extensions[id] = authenticator
	return nil
}

// close ends what newTarget started.
func (t *target) close(ctx context.Context) {
	if t.clients != nil {
		t.clients.Close()
	}
	for _, started := range t.extensions {
		_ = started.Shutdown(context.WithoutCancel(ctx)) // this program ends
	}
}
