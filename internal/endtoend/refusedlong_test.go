package endtoend_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// withoutQueue has the pipeline refuse whatever the backend does not take, and no check of the subscription in between.
const withoutQueue = `
receivers:
  m365_copilot:
    subscription: {check_interval: 1h}
exporters:
  otlp_http:
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
`

// withDirectory lets the collector find out whose history there is: everyone's who ever conversed.
func withDirectory(settings *graphtest.Settings) {
	settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
}

// withShortRetry has Graph give up after twelve seconds instead of four hours, in which the collector looks at least once
// whether that is so.
func withShortRetry(settings *graphtest.Settings) { settings.RetryFor = 12 * time.Second }

func TestHistory_BackfillsAfterRetryDeadline(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	for name, wait := range map[string]func(*clock, time.Duration){
		"while the collector waits":            (*clock).advance,
		"while the collector's host is asleep": (*clock).setOffset,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, withoutQueue, withDirectory, withShortRetry)
			clock := h.clock(t, binary)
			collector := h.run(t)
			h.awaitSubscribed(t)
			h.backend.stop()
			in := prompts(t, 40, 7)
			h.publish(t, in...)
			h.awaitLost(t, len(in))

			h.backend.start(t)
			assert.Empty(t, h.backend.recordsBySource(), "nobody sends it again")
			assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "as Graph may still send it")
			wait(clock, 4*time.Hour+31*time.Minute)
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
			line := collector.awaitLine(t, "history read", waitTimeout)
			assert.Contains(t, line, `"reasons": ["undelivered"]`)
			assert.Equal(t, map[string]int{"history": len(in)}, h.backend.recordsBySource(), "each once")
		})
	}
}

// awaitLost waits until Graph has given up so many interactions, each of which it was asked to send again at every attempt.
func (h *harness) awaitLost(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost == n }))
	for _, a := range h.emulator.Acknowledgements() {
		if !a.Handshake {
			assert.Equal(t, http.StatusServiceUnavailable, a.Status)
		}
	}
}
