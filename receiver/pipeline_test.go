package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// The history of a user without license is not read until a prompt of theirs arrives. A user who was determined in another
// way, such as by reading that history, must not end this.
func TestPipelineOutput_ReportsUsersOfPromptsOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source interaction.UserSource
		want   []string
	}{
		"a prompt names its user":                         {interaction.UserFromPrompt, []string{"u"}},
		"the prompt of the same request named the user":   {interaction.UserFromRequest, nil},
		"prompts of the same conversation named the user": {interaction.UserFromConversation, nil},
		"it was read from the user's history":             {interaction.UserFromHistory, nil},
		"the user is unknown":                             {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(receivertest.NewNopSettings(metadata.Type), Settings{}, func() {})
			require.NoError(t, err)
			logs := &consumertest.LogsSink{}
			r.SendLogs(logs)
			var seen []string
			r.output.seen = func(users ...string) { seen = append(seen, users...) }
			require.NoError(t, r.output.Deliver(t.Context(), []interaction.Received{{UserID: "u", UserSource: c.source}}))
			assert.Equal(t, c.want, seen)
			assert.Equal(t, 1, logs.LogRecordCount())
		})
	}
}

// blockingOutput is a pipeline that blocks until the channel is closed.
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
		assert.Equal(t, []backfill.Gap{minuteGap(now)}, opened.gaps, "Graph has stopped retrying")
		close(out)
		require.NoError(t, <-done)
	})
}

// An item that another call delivered is not tracked any more once Graph retries it.
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
