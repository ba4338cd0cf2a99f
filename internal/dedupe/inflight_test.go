package dedupe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// takeCall is a call of Take under way.
type takeCall struct {
	in  *dedupe.Deduplicator
	end chan error
}

func take(ctx context.Context, d *dedupe.Deduplicator, received ...interaction.Received) takeCall {
	t := takeCall{in: d, end: make(chan error, 1)}
	go func() { t.end <- d.Take(ctx, received) }()
	synctest.Wait()
	return t
}

func (t takeCall) ended() bool {
	synctest.Wait()
	return len(t.end) > 0
}

func TestTake_WaitsForInFlight(t *testing.T) {
	t.Parallel()
	refused, busy := errors.New("refused for good"), errors.New("busy")

	for name, test := range map[string]struct {
		// first is what the outlet says to the first call, which has 1 and 2; second what it says to the second call, of
		// which 3 is new.
		first, second error
		want          []error
		wantNot       []error
		duplicates    int
	}{
		"both succeed":            {nil, nil, nil, nil, 1},
		"the one under way fails": {busy, nil, []error{dedupe.ErrFailedElsewhere}, []error{busy}, 0},
		"the one under way is refused for good: this call still asks for another try": {refused, nil, []error{dedupe.ErrFailedElsewhere}, []error{refused}, 0},
		"the new one fails":                  {nil, busy, []error{busy}, []error{dedupe.ErrFailedElsewhere}, 1},
		"both fail, each for its own reason": {busy, refused, []error{refused, dedupe.ErrFailedElsewhere}, []error{busy}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out, dropped := newBlockingPipeline(), &duplicateCounter{}
				d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })

				first := take(t.Context(), d, item("1"), item("2"))
				one := <-out.arrived
				second := take(t.Context(), d, item("2"), item("3"))
				two := <-out.arrived
				assert.Equal(t, []string{"3"}, two.ids, "what is under way is not delivered beside it")
				two.decide <- test.second
				assert.False(t, second.ended(), "it depends on the other call")
				assert.False(t, d.Known(item("2").ContentDigest), "what is under way may still fail")

				one.decide <- test.first
				assert.Equal(t, test.first, <-first.end)
				err := <-second.end
				if test.want == nil {
					require.NoError(t, err)
				}
				for _, want := range test.want {
					require.ErrorIs(t, err, want)
				}
				for _, not := range test.wantNot {
					require.NotErrorIs(t, err, not)
				}
				assert.Equal(t, test.duplicates, dropped.count())
			})
		})
	}
}

func TestTake_JoinsErrorsUnchanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused, busy := errors.New("refused for good"), errors.New("busy")
		out := newBlockingPipeline()
		d := newDeduplicator(t, out, nil)
		first := take(t.Context(), d, item("1"))
		one := <-out.arrived
		second := take(t.Context(), d, item("1"), item("2"))
		(<-out.arrived).decide <- refused
		one.decide <- busy
		require.Error(t, <-first.end)
		tree, ok := (<-second.end).(interface{ Unwrap() []error })
		assert.True(t, ok)
		assert.Equal(t, []error{refused, dedupe.ErrFailedElsewhere}, tree.Unwrap())
	})
}

func TestTake_StopsWaitingWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := newBlockingPipeline()
		d := newDeduplicator(t, out, nil)
		first := take(t.Context(), d, item("1"))
		one := <-out.arrived

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, <-take(ctx, d, item("1")).end, context.DeadlineExceeded)
		assert.Equal(t, 2*time.Second, time.Since(start))

		one.decide <- nil
		assert.NoError(t, <-first.end)
		assert.NoError(t, <-take(ctx, d, item("1")).end, "what was decided needs no waiting")
		assert.True(t, d.Known(item("1").ContentDigest))
	})
}

func TestTake_ReportsFailureElsewhereAndContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := newBlockingPipeline()
		d := newDeduplicator(t, out, nil)
		first, other := take(t.Context(), d, item("1")), take(t.Context(), d, item("2"))
		one, two := <-out.arrived, <-out.arrived
		ctx, cancel := context.WithCancel(t.Context())
		second := take(ctx, d, item("1"), item("2"))
		one.decide <- errors.New("busy")
		require.Error(t, <-first.end)
		synctest.Wait()
		cancel()
		err := <-second.end
		require.ErrorIs(t, err, dedupe.ErrFailedElsewhere)
		require.ErrorIs(t, err, context.Canceled)
		two.decide <- nil
		assert.NoError(t, <-other.end)
	})
}

func TestTake_HistoryWaitsForDeletionInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, dropped := newBlockingPipeline(), &duplicateCounter{}
		d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
		gone := take(t.Context(), d, deleted(updated(item("1"), "8")))
		again := take(t.Context(), d, deleted(updated(item("1"), "9")))
		first, second := <-out.arrived, <-out.arrived
		read := take(t.Context(), d, fromHistory(item("1")))
		second.decide <- errors.New("busy")
		require.Error(t, <-again.end, "both deletions were under way, in their own right")
		assert.False(t, read.ended())
		first.decide <- nil
		assert.NoError(t, <-gone.end)
		assert.NoError(t, <-read.end)
		assert.Equal(t, 1, dropped.count())
		assert.Empty(t, out.arrived)
	})
}

func TestTake_HistoryWaitsForDeletionAfterAnotherFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, dropped := newBlockingPipeline(), &duplicateCounter{}
		d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
		gone := take(t.Context(), d, deleted(updated(item("1"), "8")))
		again := take(t.Context(), d, deleted(updated(item("1"), "9")))
		first, second := <-out.arrived, <-out.arrived
		second.decide <- errors.New("busy")
		require.Error(t, <-again.end)
		read := take(t.Context(), d, fromHistory(item("1")))
		assert.Empty(t, out.arrived, "the end of one deletion is not that of the other")
		assert.False(t, read.ended())
		first.decide <- nil
		assert.NoError(t, <-gone.end)
		assert.NoError(t, <-read.end)
		assert.Equal(t, 1, dropped.count())
	})
}

func TestTake_DeliversOnceAcrossConcurrentCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, dropped := newBlockingPipeline(), &duplicateCounter{}
		d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
		const calls = 50
		var all []takeCall
		for range calls {
			all = append(all, take(t.Context(), d, items(0, 10)...))
		}
		only := <-out.arrived
		only.decide <- nil
		for _, one := range all {
			require.NoError(t, <-one.end)
		}
		assert.Empty(t, out.arrived, "one call delivers, the others wait for it")
		assert.Equal(t, 10*(calls-1), dropped.count())
	})
}
