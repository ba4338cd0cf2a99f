package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/intake"
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
		in, err := intake.New(intake.Settings{Outlet: out, MaxOpen: 10, Window: time.Hour, MaxEntries: 10})
		require.NoError(t, err)
		watch, opened := watchRefused(t, newStore(t))
		a := &attempts{intake: in, refused: watch, silence: &silence{}}
		now := time.Now()
		done := make(chan error)
		go func() { done <- a.Take(context.Background(), []interaction.Received{item(now)}) }()
		synctest.Wait()
		watch.sweep(t.Context(), now.Add(givenUp))
		assert.Equal(t, []history.Gap{minuteOf(now)}, opened.gaps, "Graph has long given up")
		close(out)
		require.NoError(t, <-done)
	})
}

func TestWhatWasDeliveredWithAnotherCallIsNotWatchedOnceItComesAgain(t *testing.T) {
	t.Parallel()
	out := make(blocking)
	close(out)
	in, err := intake.New(intake.Settings{Outlet: out, MaxOpen: 10, Window: time.Hour, MaxEntries: 10})
	require.NoError(t, err)
	watch, opened := watchRefused(t, newStore(t))
	seen := known{intake: in, refused: watch}
	one := item(noon)
	one.Signature[0] = 1
	watch.failed([]interaction.Received{one}, noon)
	assert.False(t, seen.Known(one.Signature), "it is still to be delivered")
	require.NoError(t, in.Take(t.Context(), []interaction.Received{one}))
	assert.True(t, seen.Known(one.Signature))
	watch.sweep(t.Context(), noon.Add(givenUp))
	assert.Empty(t, opened.gaps)
}
