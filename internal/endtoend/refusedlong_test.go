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

// impatiently has Graph give up after twelve seconds instead of four hours, in which the collector looks at least once
// whether that is so.
func impatiently(settings *graphtest.Settings) { settings.RetryFor = 12 * time.Second }

func TestWhatIsRefusedForLongerThanGraphRetriesIsFoundInTheHistory(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	for name, wait := range map[string]func(*clock, time.Duration){
		"while the collector waits":            (*clock).pass,
		"while the collector's host is asleep": (*clock).set,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, withoutQueue, withDirectory, impatiently)
			clock := s.clock(t, binary)
			collector := s.run(t)
			s.subscribed(t)
			s.backend.down()
			in := prompts(t, 40, 7)
			s.publish(t, in...)
			s.givenUp(t, len(in))

			s.backend.up(t)
			assert.Empty(t, s.backend.from(), "nobody sends it again")
			assert.Empty(t, s.emulator.Requests(graphtest.OpHistory), "as Graph may still send it")
			wait(clock, 4*time.Hour+31*time.Minute)
			s.backend.await(t, names(t, in...), soon)
			line := collector.awaitLine(t, "history read", soon)
			assert.Contains(t, line, `"reasons": ["undelivered"]`)
			assert.Equal(t, map[string]int{"history": len(in)}, s.backend.from(), "each once")
		})
	}
}

// givenUp waits until Graph has given up so many interactions, each of which it was asked to send again at every attempt.
func (s *site) givenUp(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost == n }))
	for _, a := range s.emulator.Acknowledgements() {
		if !a.Handshake {
			assert.Equal(t, http.StatusServiceUnavailable, a.Status)
		}
	}
}
