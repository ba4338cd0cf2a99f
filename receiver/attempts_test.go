package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// blocking is a pipeline that does not return until it is let go.
type blocking chan struct{}

func (b blocking) Deliver(context.Context, []interaction.Received) error {
	<-b
	return nil
}

func TestWhatAPipelineHoldsIsWatchedBeforeItReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := make(blocking)
		in, err := dedupe.New(dedupe.Settings{Next: out, MaxOpen: 10, Window: time.Hour, MaxEntries: 10})
		require.NoError(t, err)
		watch, opened := watchRefused(t, newStore(t))
		a := &trackedIntake{deduplicator: in, undelivered: watch, silence: &silenceDetector{}}
		now := time.Now()
		done := make(chan error)
		go func() { done <- a.Take(context.Background(), []interaction.Received{item(now)}) }()
		synctest.Wait()
		watch.openExpired(t.Context(), now.Add(retryDeadline))
		assert.Equal(t, []backfill.Gap{minuteOf(now)}, opened.gaps, "Graph has long given up")
		close(out)
		require.NoError(t, <-done)
	})
}

func TestWhatWasDeliveredWithAnotherCallIsNotWatchedOnceItComesAgain(t *testing.T) {
	t.Parallel()
	out := make(blocking)
	close(out)
	in, err := dedupe.New(dedupe.Settings{Next: out, MaxOpen: 10, Window: time.Hour, MaxEntries: 10})
	require.NoError(t, err)
	watch, opened := watchRefused(t, newStore(t))
	seen := deliveredCheck{deduplicator: in, undelivered: watch}
	one := item(noon)
	one.ContentDigest[0] = 1
	watch.track([]interaction.Received{one}, noon)
	assert.False(t, seen.Known(one.ContentDigest), "it is still to be delivered")
	require.NoError(t, in.Take(t.Context(), []interaction.Received{one}))
	assert.True(t, seen.Known(one.ContentDigest))
	watch.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Empty(t, opened.gaps)
}
