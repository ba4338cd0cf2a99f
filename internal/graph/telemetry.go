package graph

import (
	"context"
	"time"
)

// Telemetry takes what this package has to report. Its methods are called on the goroutine of the call they report,
// by many goroutines at once, and must not block.
type Telemetry interface {
	// GraphRequest reports one HTTP exchange with Graph. Status is 0 where no whole answer came back.
	GraphRequest(ctx context.Context, operation string, status int, took time.Duration)
	// Throttled reports that Graph answered 429 or 503 and for how long it asked to stay away.
	Throttled(ctx context.Context, wait time.Duration)
	// TokenRefresh reports one request for an access token; err is nil where it succeeded.
	TokenRefresh(ctx context.Context, err error)
}

// noopTelemetry is the Telemetry of those who set none.
type noopTelemetry struct{}

func (noopTelemetry) GraphRequest(context.Context, string, int, time.Duration) {}
func (noopTelemetry) Throttled(context.Context, time.Duration)                 {}
func (noopTelemetry) TokenRefresh(context.Context, error)                      {}

func orNoop(t Telemetry) Telemetry {
	if t == nil {
		return noopTelemetry{}
	}
	return t
}
