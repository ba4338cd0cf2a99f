package backfill_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestWhereNothingIsReadGapsAreReportedKeptAndGivenUpInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.Disabled, w.settings.PollInterval = true, time.Minute
		w.users(3, time.Now().Add(-150*time.Minute))
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(2 * time.Second)
		left := w.store.copy()
		stop()

		w.store, w.settings.Store = left, left
		f, stop = w.run(t)
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Startup: time.Hour}, f.Missing(time.Now()), "kill -9 does not forget it")
		pass(168 * time.Hour)
		assert.Empty(t, f.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		assert.NotEmpty(t, w.telemetry.copy().lost)
		assert.Positive(t, w.said("history is further back than"))
		assert.Empty(t, w.graph.asked())
		assert.Empty(t, w.graph.lists())
		left = w.store.copy()
		stop()

		w.store, w.settings.Store = left, left
		f, stop = w.run(t)
		assert.Empty(t, f.Missing(time.Now()), "that is on record too")
		stop()
	})
}

func TestWhatIsFlushedSurvivesAKill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		f := backfill.New(w.settings)
		f.Item(backfill.Unverified, "", time.Now())
		require.NoError(t, f.Flush(t.Context()))
		writes := w.store.copy().writes
		require.NoError(t, f.Flush(t.Context()))
		assert.Equal(t, writes, w.store.copy().writes, "what is written down already costs nothing")

		next := backfill.New(w.settings)
		require.NoError(t, next.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Unverified: time.Hour}, next.Missing(time.Now()))

		w.store.breaks(true)
		f.Open(gap(backfill.Startup))
		require.ErrorIs(t, f.Flush(t.Context()), errStore)
		require.ErrorIs(t, f.Flush(t.Context()), errStore)
		assert.Equal(t, 1, w.said("history state can't be stored"))
		w.store.breaks(false)
		require.NoError(t, f.Flush(t.Context()))
		assert.NotEqual(t, writes, w.store.copy().writes)
	})
}
