// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
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
	s, logs, metrics := &health.Status{}, &statusHost{}, &statusHost{}
	s.Join(logs)
	s.Part("subscription")(errors.New("no consent"))
	s.Join(metrics)
	s.Part("subscription")(nil)
	want := []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}
	assert.Equal(t, want, logs.statuses())
	assert.Equal(t, want, metrics.statuses(), "a host that joins late gets the last report")
}

func TestStatus_IsOKWhenAllPartsAre(t *testing.T) {
	t.Parallel()
	s, host := &health.Status{}, &statusHost{}
	s.Join(host)
	s.Part("subscription")(errors.New("throttled"))
	s.Part("history")(errors.New("no permission"))
	require.ErrorContains(t, host.events[1].Err(), "no permission")
	require.ErrorContains(t, host.events[1].Err(), "throttled")
	s.Part("subscription")(nil)
	assert.Equal(t, componentstatus.StatusRecoverableError, host.events[2].Status())
	s.Part("history")(nil)
	assert.Equal(t, componentstatus.StatusOK, host.events[3].Status())
}

func TestStatus_ReportsChangesOnly(t *testing.T) {
	t.Parallel()
	s, host := &health.Status{}, &statusHost{}
	s.Join(host)
	s.Part("subscription")(nil)
	require.Empty(t, host.events, "the Collector itself reports that a component has started well")

	noConsent := failure.With(errors.New("no consent"), failure.New(failure.PermissionMissing))
	s.Part("subscription")(noConsent)
	s.Part("subscription")(fmt.Errorf("%w", noConsent))
	s.Part("history")(nil)
	require.Len(t, host.events, 1, "the text is the same")

	s.Part("subscription")(errors.New("no consent"))
	require.Len(t, host.events, 2, "the hint is another")
	s.Part("subscription")(nil)
	s.Part("history")(nil)
	assert.Equal(t, []componentstatus.Status{
		componentstatus.StatusRecoverableError, componentstatus.StatusRecoverableError, componentstatus.StatusOK,
	}, host.statuses())
}

func TestStatus_HasCodeAndHint(t *testing.T) {
	t.Parallel()
	s, host := &health.Status{}, &statusHost{}
	s.Join(host)
	known := failure.New(failure.ClientSecretWrong)
	s.Part("subscription")(fmt.Errorf("get a token: %w", failure.With(errors.New("refused"), known)))
	require.EqualError(t, host.events[0].Err(), "get a token: refused (COP201: "+known.Hint+")")
}

// The Collector reads one fatal error and holds a lock while it waits for a reader of the next.
func TestStatus_FatalGoesToOneHost(t *testing.T) {
	t.Parallel()
	died := errors.New("the listener died")
	s, logs, metrics, late := &health.Status{}, &statusHost{}, &statusHost{}, &statusHost{}
	s.Join(logs)
	s.Join(metrics)

	s.Fatal(died)
	s.Fatal(errors.New("another one"))
	s.Part("subscription")(nil)
	s.Join(late)

	assert.Equal(t, []componentstatus.Status{componentstatus.StatusFatalError}, logs.statuses())
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusPermanentError}, metrics.statuses())
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusPermanentError}, late.statuses())
	for _, host := range []*statusHost{logs, metrics, late} {
		require.ErrorIs(t, host.events[0].Err(), died)
	}
}
