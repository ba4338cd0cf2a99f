package receiver

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// The Collector reads one fatal error and holds a lock while it waits for a reader of the next.
func TestStatus_FatalGoesToOneHost(t *testing.T) {
	t.Parallel()
	died := errors.New("the listener died")
	s, logs, metrics, late := &status{}, &statusHost{}, &statusHost{}, &statusHost{}
	s.join(logs)
	s.join(metrics)

	s.fatal(died)
	s.fatal(errors.New("another one"))
	s.part("subscription")(nil)
	s.join(late)

	assert.Equal(t, []componentstatus.Status{componentstatus.StatusFatalError}, logs.statuses())
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusPermanentError}, metrics.statuses())
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusPermanentError}, late.statuses())
	for _, host := range []*statusHost{logs, metrics, late} {
		require.ErrorIs(t, host.events[0].Err(), died)
	}
}

// The Collector's exit code is 0 unless a component fails to shut down.
func TestReceiver_ShutdownReturnsFatalError(t *testing.T) {
	t.Parallel()
	died := errors.New("the listener died")
	r, c := newTestReceiver(t)
	require.NoError(t, c.close(t.Context()))
	r.status.join(&statusHost{})
	r.status.fatal(died)

	require.ErrorIs(t, r.Shutdown(context.Background()), died)
}
