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

// blockingOutput is a pipeline that does not return until it is let go.
type blockingOutput chan struct{}

func (b blockingOutput) Deliver(context.Context, []interaction.Received) error {
	<-b
	return nil
}

func TestTrackedIntake_TracksBeforePipelineReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := make(blockingOutput)
		in, err := dedupe.New(dedupe.Settings{Next: out, MaxOpen: 10, Window: time.Hour, MaxEntries: 10})
		require.NoError(t, err)
		tracker, opened := newTestUndelivered(t, newStore(t))
		a := &trackedIntake{deduplicator: in, undelivered: tracker, silence: &silenceDetector{}}
		now := time.Now()
		done := make(chan error)
		go func() { done <- a.Take(context.Background(), []interaction.Received{interactionAt(now)}) }()
		synctest.Wait()
		tracker.openExpired(t.Context(), now.Add(retryDeadline))
		assert.Equal(t, []backfill.Gap{minuteGap(now)}, opened.gaps, "Graph has long given up")
		close(out)
		require.NoError(t, <-done)
	})
}

func TestDeliveredCheck_ResolvesRedelivered(t *testing.T) {
	t.Parallel()
	out := make(blockingOutput)
	close(out)
	in, err := dedupe.New(dedupe.Settings{Next: out, MaxOpen: 10, Window: time.Hour, MaxEntries: 10})
	require.NoError(t, err)
	tracker, opened := newTestUndelivered(t, newStore(t))
	seen := deliveredCheck{deduplicator: in, undelivered: tracker}
	one := interactionAt(noon)
	one.ContentDigest[0] = 1
	tracker.track([]interaction.Received{one}, noon)
	assert.False(t, seen.Known(one.ContentDigest), "it is still to be delivered")
	require.NoError(t, in.Take(t.Context(), []interaction.Received{one}))
	assert.True(t, seen.Known(one.ContentDigest))
	tracker.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Empty(t, opened.gaps)
}
