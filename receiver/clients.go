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
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// clients are the HTTP clients for Microsoft's services.
type clients struct {
	graph *graph.Client
	// plain has the same proxy and TLS settings, but neither credentials nor the headers for Graph.
	plain *http.Client
	// transports are those of both clients.
	transports *transports
}

// transports is an HTTP client middleware that collects the transports which confighttp creates. confighttp wraps them for
// headers, credentials and instrumentation, and the wrappers do not forward CloseIdleConnections.
type transports struct {
	component.Component // nil: nothing starts it
	all                 []*http.Transport
}

// GetHTTPRoundTripper implements extensionmiddleware.HTTPClient.
func (t *transports) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, base http.RoundTripper) (http.RoundTripper, error) {
		if transport, ok := base.(*http.Transport); ok {
			t.all = append(t.all, graph.ThroughProxy(transport))
		}
		return base, nil
	}, nil
}

func (r *Receiver) clients(ctx context.Context, host component.Host) (clients, error) {
	config := r.settings.Graph
	// The id can't clash with an extension of the user, since no extension has the receiver's type.
	stored, id := &transports{}, component.NewIDWithName(metadata.Type, "transport")
	extensions := map[component.ID]component.Component{}
	maps.Copy(extensions, host.GetExtensions())
	extensions[id] = stored
	// The last middleware gets the transport itself.
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
	return clients{graph: graph.New(settings), plain: plain, transports: stored}, nil
}

// openStorage returns the receiver's client of the storage extension. It is called once for all signals, since a file can
// be open only once. Each tenant has its own storage, because state such as who has no license differs between tenants.
// Without an extension nothing is stored.
func openStorage(
	ctx context.Context, host component.Host, id *component.ID, receiver component.ID, tenant string,
) (storage.Client, error) {
	if id == nil {
		return storage.NewNopClient(), nil
	}
	extension, found := host.GetExtensions()[*id]
	if !found {
		return nil, fmt.Errorf("storage: there is no extension %q: add it under extensions and to service.extensions", id)
	}
	provider, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("storage: %q is not a storage extension: name one, such as file_storage", id)
	}
	client, err := provider.GetClient(ctx, component.KindReceiver, receiver, tenant)
	if err != nil {
		return nil, fmt.Errorf("storage: open %q: if its file is damaged, move it away; if it is locked, another collector uses it: %w",
			id, err)
	}
	return client, nil
}
