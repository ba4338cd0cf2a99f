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
	// transports are those of both clients.
	transports *transports
}

// transports is a middleware of HTTP clients that gets at the transports which confighttp makes and then hides behind
// headers, credentials and instrumentation. These pass CloseIdleConnections on to nobody.
type transports struct {
	component.StartFunc
	component.ShutdownFunc
	all []http.RoundTripper
}

// GetHTTPRoundTripper implements extensionmiddleware.HTTPClient. It makes failures of a proxy errors that say so.
func (t *transports) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, base http.RoundTripper) (http.RoundTripper, error) {
		t.all = append(t.all, base)
		if transport, ok := base.(*http.Transport); ok {
			return graph.ThroughProxy(transport), nil
		}
		return base, nil
	}, nil
}

// close closes the connections that carry no request. Those that carry one are closed after it.
func (t *transports) close() {
	for _, transport := range t.all {
		(&http.Client{Transport: transport}).CloseIdleConnections()
	}
}

func (r *Receiver) clients(ctx context.Context, host component.Host) (clients, error) {
	config := r.settings.Graph
	// No extension of a user can be of the receiver's type.
	kept, id := &transports{}, component.NewIDWithName(metadata.Type, "transport")
	extensions := map[component.ID]component.Component{}
	maps.Copy(extensions, host.GetExtensions())
	extensions[id] = kept
	// The last middleware is the one that gets the transport itself.
	config.Middlewares = append(slices.Clone(config.Middlewares), configmiddleware.Config{ID: id})
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
	return clients{graph: graph.New(settings), plain: plain, transports: kept}, nil
}
