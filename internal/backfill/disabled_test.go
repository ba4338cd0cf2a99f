package backfill_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestBackfiller_KeepsThenExpiresGapsWhenDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.Disabled, h.settings.PollInterval = true, time.Minute
		h.users(3, time.Now().Add(-150*time.Minute))
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(2 * time.Second)
		left := h.store.copy()
		stop()

		h.store, h.settings.Store = left, left
		b, stop = h.run(t)
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Startup: time.Hour}, b.Missing(time.Now()), "kill -9 does not forget it")
		advance(168 * time.Hour)
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
		assert.NotEmpty(t, h.telemetry.copy().lost)
		assert.Positive(t, h.logged("history is further back than"))
		assert.Empty(t, h.graph.historyRequests())
		assert.Empty(t, h.graph.directoryRequests())
		left = h.store.copy()
		stop()

		h.store, h.settings.Store = left, left
		b, stop = h.run(t)
		assert.Empty(t, b.Missing(time.Now()), "that is on record too")
		stop()
	})
}

func TestFlush_PersistsGaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		b := backfill.New(h.settings)
		b.Item(backfill.Unverified, "", time.Now())
		require.NoError(t, b.Flush(t.Context()))
		writes := h.store.copy().writes
		require.NoError(t, b.Flush(t.Context()))
		assert.Equal(t, writes, h.store.copy().writes, "what is written down already costs nothing")

		next := backfill.New(h.settings)
		require.NoError(t, next.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Unverified: time.Hour}, next.Missing(time.Now()))

		h.store.setBroken(true)
		b.Open(gap(backfill.Startup))
		require.ErrorIs(t, b.Flush(t.Context()), errStore)
		require.ErrorIs(t, b.Flush(t.Context()), errStore)
		assert.Equal(t, 1, h.logged("history state can't be stored"))
		h.store.setBroken(false)
		require.NoError(t, b.Flush(t.Context()))
		assert.NotEqual(t, writes, h.store.copy().writes)
	})
}
