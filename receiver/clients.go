package receiver

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// clients are the ways out to Microsoft.
type clients struct {
	graph *graph.Client
	// plain has the same proxy and TLS settings, and neither credentials nor headers for Graph.
	plain *http.Client
}

func (r *Receiver) clients(ctx context.Context, host component.Host) (clients, error) {
	config := r.settings.Graph
	authenticated, err := config.ToClient(ctx, host.GetExtensions(), r.set.TelemetrySettings)
	if err != nil {
		return clients{}, fmt.Errorf("graph: %w", err)
	}
	config.Auth = configoptional.None[configauth.Config]()
	config.Headers = nil
	plain, err := config.ToClient(ctx, host.GetExtensions(), r.set.TelemetrySettings)
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
