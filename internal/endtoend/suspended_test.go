package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestWhatGraphGaveUpWhileTheMachineWasSuspendedIsFoundInTheHistory(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, "", withDirectory)
	clock := s.clock(t, binary)
	collector := s.run(t)
	s.subscribed(t)
	in := prompts(t, 30, 5)
	s.publish(t, in[:10]...)
	s.backend.await(t, names(t, in[:10]...), soon)
	require.NoError(t, s.emulator.AddHistory(in[10:]...)) // and nobody is notified of them
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.WaitRequests(ctx, graphtest.OpList, len(s.emulator.Requests(graphtest.OpList))+3))
	assert.Empty(t, s.emulator.Requests(graphtest.OpHistory), "all is well, as far as one can tell")

	clock.set(3 * time.Hour) // for the monotonic clock, as for timers, nothing has happened
	s.backend.await(t, names(t, in...), soon)
	assert.Contains(t, collector.awaitLine(t, "history read", soon), `"reasons": ["subscription"]`)
	assert.Equal(t, map[string]int{"notification": 10, "history": 20}, s.backend.from(), "each once")
}
