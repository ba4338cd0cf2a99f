package receiver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// statusHost is a host that records the reported status events.
type statusHost struct {
	component.Host
	events []*componentstatus.Event
}

func (r *statusHost) Report(event *componentstatus.Event) { r.events = append(r.events, event) }

func (r *statusHost) statuses() []componentstatus.Status {
	var statuses []componentstatus.Status
	for _, event := range r.events {
		statuses = append(statuses, event.Status())
	}
	return statuses
}

func TestStatus_ReportsToEveryHost(t *testing.T) {
	t.Parallel()
	s, logs, metrics := &status{}, &statusHost{}, &statusHost{}
	s.join(logs)
	s.part("subscription")(errors.New("no consent"))
	s.join(metrics)
	s.part("subscription")(nil)
	want := []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}
	assert.Equal(t, want, logs.statuses())
	assert.Equal(t, want, metrics.statuses(), "a host that joins late gets the last report")
}

func TestStatus_IsOKWhenAllPartsAre(t *testing.T) {
	t.Parallel()
	s, host := &status{}, &statusHost{}
	s.join(host)
	s.part("subscription")(errors.New("throttled"))
	s.part("history")(errors.New("no permission"))
	require.ErrorContains(t, host.events[1].Err(), "no permission")
	require.ErrorContains(t, host.events[1].Err(), "throttled")
	s.part("subscription")(nil)
	assert.Equal(t, componentstatus.StatusRecoverableError, host.events[2].Status())
	s.part("history")(nil)
	assert.Equal(t, componentstatus.StatusOK, host.events[3].Status())
}

func TestOccasionalLog_IsDueOncePerMinute(t *testing.T) {
	t.Parallel()
	r, now := newOccasionalLog(), time.Unix(0, 0)
	count, due := r.due("a", now)
	assert.True(t, due)
	assert.Equal(t, 1, count)
	for range 3 {
		_, due = r.due("a", now.Add(59*time.Second))
		assert.False(t, due)
	}
	_, due = r.due("b", now)
	assert.True(t, due, "each key has a minute of its own")
	count, due = r.due("a", now.Add(time.Minute))
	assert.True(t, due)
	assert.Equal(t, 4, count, "those that were not logged are counted")
}

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
