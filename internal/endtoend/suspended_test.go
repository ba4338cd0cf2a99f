package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestHistory_FillsGapOfSuspendedHost(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, "", withDirectory)
	clock := h.clock(t, binary)
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 30, 5)
	h.publish(t, in[:10]...)
	h.backend.await(t, interactionKeys(t, in[:10]...), waitTimeout)
	require.NoError(t, h.emulator.AddHistory(in[10:]...)) // and nobody is notified of them
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+3))
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "all is well, as far as one can tell")

	clock.setOffset(3 * time.Hour) // for the monotonic clock, as for timers, nothing has happened
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Contains(t, collector.awaitLine(t, "history read", waitTimeout), `"reasons": ["subscription"]`)
	assert.Equal(t, map[string]int{"notification": 10, "history": 20}, h.backend.recordsBySource(), "each once")
}
