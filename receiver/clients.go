package receiver

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// clients are the ways out to Microsoft.
type clients struct {
	graph *graph.Client
	// plain has the same proxy and TLS settings, and neither credentials nor headers for Graph.
	plain *http.Client
}

// transportID names transportMiddleware among the extensions; no extension of a user can be of the receiver's type.
var transportID = component.NewIDWithName(metadata.Type, "transport")

// transportMiddleware gets at the transport that confighttp makes and then hides behind instrumentation and credentials.
type transportMiddleware struct {
	component.StartFunc
	component.ShutdownFunc
}

// GetHTTPRoundTripper makes failures of a proxy errors that say so.
func (transportMiddleware) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, base http.RoundTripper) (http.RoundTripper, error) {
		transport, ok := base.(*http.Transport)
		if !ok {
			return base, nil
		}
		return graph.ThroughProxy(transport), nil
	}, nil
}

func (r *Receiver) clients(ctx context.Context, host component.Host) (clients, error) {
	config := r.settings.Graph
	// The last middleware is the one that gets the transport itself.
	config.Middlewares = append(slices.Clone(config.Middlewares), configmiddleware.Config{ID: transportID})
	extensions := maps.Clone(host.GetExtensions())
	if extensions == nil {
		extensions = map[component.ID]component.Component{}
	}
	extensions[transportID] = transportMiddleware{}
	authenticated, err := config.ToClient(ctx, extensions, r.set.TelemetrySettings)
	if err != nil {
		return clients{}, fmt.Errorf("graph: %w", err)
	}
	config.Auth = configoptional.None[configauth.Config]()
	config.Headers = nil
	plain, err := config.ToClient(ctx, extensions, r.set.TelemetrySettings)
	if err != nil {
		return clients{}, fmt.Errorf("graph: %w", err)
	}
	settings := graph.Settings{Endpoint: r.settings.Graph.Endpoint, HTTP: authenticated, Telemetry: r.telemetry}
	if r.settings.Credential != nil {
		credential := *r.settings.Credential
		credential.HTTP, credential.Telemetry = plain, r.telemetry
		settings.Tokens = graph.NewTokens(credential)
	}
	return clients{graph: graph.New(settings), plain: plain}, nil
}
