package backfill_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestAGapIsReadForEveryUserAndClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(10, time.Now().Add(-150*time.Minute), time.Now().Add(-140*time.Minute))
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Startup: time.Hour}, f.Missing(time.Now()))

		pass(time.Minute)

		assert.Len(t, w.graph.asked(), 10, "one request for each user")
		assert.Equal(t, 20, w.intake.distinct())
		assert.Empty(t, f.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().opened)
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		assert.Equal(t, 20, w.telemetry.copy().found)
		assert.Equal(t, 1, w.said("reading history"))
		assert.Equal(t, 1, w.said("history read"))
		stop()
	})
}

func TestBackfiller_LogsWhatWasNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(10, time.Now().Add(-30*time.Minute))
		f, stop := w.run(t)
		f.Open(backfill.Gap{Reason: backfill.Startup, From: time.Now().Add(-time.Hour), To: time.Now()})
		pass(2 * time.Hour)
		stop()
		lines := w.logs.FilterMessage("history read").All()
		require.Len(t, lines, 2, "the last hour is read twice")
		for i, want := range []struct {
			level zapcore.Level
			fresh int
		}{{zapcore.InfoLevel, 10}, {zapcore.DebugLevel, 0}} {
			assert.Equal(t, want.level, lines[i].Level)
			assert.EqualValues(t, 10, lines[i].ContextMap()["interactions"])
			assert.EqualValues(t, want.fresh, lines[i].ContextMap()["interactions_new"])
		}
	})
}

func TestBackfiller_LogsPollsAtDebugLevel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		w.settings.PollInterval = 5 * time.Minute
		_, stop := w.run(t)
		pass(time.Hour)
		stop()
		lines := w.logs.FilterMessage("history read").All()
		require.NotEmpty(t, lines)
		for _, line := range lines {
			assert.Equal(t, zapcore.DebugLevel, line.Level)
		}
	})
}

func TestTheProgressOfAReadingIsKnownWhileItLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.graph.took = time.Second
		w.settings.Concurrency = 2
		w.users(20)
		f, stop := w.run(t)
		assert.Zero(t, f.Progress())
		f.Open(gap(backfill.Startup))
		pass(5*time.Second + 100*time.Millisecond)
		got := f.Progress()
		assert.Equal(t, backfill.Progress{Done: 10, Left: 10, TimeLeft: 5 * time.Second}, got)
		pass(time.Minute)
		assert.Zero(t, f.Progress())
		stop()
	})
}

func TestAReadingOverlapsWhatIsBeforeItsGapAndHasWholeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		f, stop := w.run(t)
		from := time.Date(2026, 11, 24, 5, 0, 0, 500, time.UTC)
		to := time.Date(2026, 11, 24, 6, 0, 0, 1, time.UTC)
		f.Open(backfill.Gap{Reason: backfill.Startup, From: from, To: to})
		synctest.Wait()
		asked := w.graph.asked()
		require.Len(t, asked, 1)
		assert.Equal(t, time.Date(2026, 11, 24, 4, 55, 0, 0, time.UTC), asked[0].from)
		assert.Equal(t, time.Date(2026, 11, 24, 6, 0, 2, 0, time.UTC), asked[0].to, "the end is excluded, and so is the second that it is in")
		stop()
	})
}

func TestWhatIsReadSaysWhereItComesFrom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		at := time.Now().Add(-150 * time.Minute)
		w.users(1, at)
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		synctest.Wait()
		r := w.intake.seen().last
		assert.Equal(t, interaction.FromHistory, r.Source)
		assert.Equal(t, interaction.Created, r.Change)
		assert.Equal(t, tenant, r.TenantID)
		assert.Equal(t, guid(0), r.UserID)
		assert.Equal(t, interaction.UserFromHistory, r.UserSource)
		assert.Equal(t, time.Now(), r.At)
		stop()
	})
}

func TestTheLastHourIsReadAgainAnHourLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(3)
		f, stop := w.run(t)
		began := time.Now()
		f.Open(backfill.Gap{Reason: backfill.Subscription, From: began.Add(-5 * time.Hour), To: began})
		pass(time.Minute)
		require.Len(t, w.graph.asked(), 3)
		assert.Empty(t, w.telemetry.copy().closed, "it is not closed before its second reading")
		assert.Empty(t, f.Missing(time.Now()), "but what was read is not missing")

		// What Graph was late with.
		w.graph.set(func() { w.graph.happened[guid(1)] = []time.Time{began.Add(-10 * time.Minute)} })
		pass(58 * time.Minute)
		require.Len(t, w.graph.asked(), 3)
		pass(2 * time.Minute)

		asked := w.graph.asked()
		require.Len(t, asked, 6)
		assert.WithinDuration(t, began.Add(time.Hour), asked[3].at, 0)
		assert.WithinDuration(t, began.Add(-time.Hour-300*time.Second), asked[3].from, 0)
		assert.Equal(t, 1, w.intake.distinct())
		assert.Equal(t, map[backfill.Reason]int{backfill.Subscription: 1}, w.telemetry.copy().closed)
		pass(5 * time.Hour)
		assert.Len(t, w.graph.asked(), 6, "there is no third reading")
		stop()
	})
}

func TestWhatIsStillAheadIsReadWhenItsTimeHasCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		f, stop := w.run(t)
		began := time.Now()
		f.Open(backfill.Gap{Reason: backfill.Startup, From: began.Add(-65 * time.Minute), To: began.Add(5 * time.Minute)})
		synctest.Wait()
		require.Len(t, w.graph.asked(), 1)
		assert.WithinDuration(t, began.Add(time.Second), w.graph.asked()[0].to, 0)
		pass(4 * time.Minute)
		require.Len(t, w.graph.asked(), 1)
		assert.Empty(t, f.Missing(time.Now()), "what was missing was read; the rest is a precaution")
		pass(2 * time.Minute)
		asked := w.graph.asked()
		require.Len(t, asked, 2)
		assert.WithinDuration(t, began.Add(5*time.Minute), asked[1].at, 0)
		assert.WithinDuration(t, began.Add(-300*time.Second), asked[1].from, 0)
		pass(3 * time.Hour)
		assert.Len(t, w.graph.asked(), 3, "both are read again in one go")
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		stop()
	})
}

func TestItemsAreReadTogetherAtMostOnceAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		f, stop := w.run(t)
		for range 180 { // three hours in which every minute brings ten items that can't be used
			for range 10 {
				now := time.Now()
				f.Item(backfill.Undecryptable, interactionID(now), now)
			}
			pass(time.Minute)
		}
		assert.InDelta(t, 3, len(w.graph.asked()), 1, "items and second readings together make one reading an hour")
		pass(3 * time.Hour)
		assert.Equal(t, w.telemetry.copy().opened, w.telemetry.copy().closed)
		assert.Empty(t, f.Missing(time.Now()))
		stop()
	})
}

func TestPollingReadsFromWhereItStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		w.settings.PollInterval = 5 * time.Minute
		began := time.Now()
		f, stop := w.run(t)
		synctest.Wait()
		asked := w.graph.asked()
		require.Len(t, asked, 1, "the first poll is at once")
		assert.WithinDuration(t, began.Add(-10*time.Minute), asked[0].from, 0, "one interval back, with overlap")
		pass(5*time.Minute + time.Second)
		asked = w.graph.asked()
		require.Len(t, asked, 2)
		assert.WithinDuration(t, began.Add(-time.Second-300*time.Second), asked[1].from, 0)
		stop()
		require.NoError(t, f.Save(t.Context()))

		pass(2 * time.Hour) // The collector is down.
		_, stop = w.run(t)
		synctest.Wait()
		asked = w.graph.asked()
		require.GreaterOrEqual(t, len(asked), 3)
		mark := began.Add(5*time.Minute - time.Second)
		assert.False(t, asked[2].from.After(mark), "polling goes on from its mark")
		assert.WithinDuration(t, time.Now(), asked[2].to, time.Second)
		stop()
	})
}

func TestPollsThatCannotBeReadDoNotPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(2)
		w.settings.PollInterval = time.Minute
		w.graph.fail = func(request) error { return refusal(429, "", 30*time.Minute) }
		f, stop := w.run(t)
		pass(2 * time.Hour)
		w.graph.set(func() { w.graph.fail = nil; w.graph.requests = nil })
		pass(30 * time.Minute)
		first := w.graph.asked()
		assert.Less(t, len(first), 2*40, "each minute one poll of two users, and what had piled up is one")
		pass(2 * time.Minute)
		assert.Less(t, f.Missing(time.Now())[backfill.Poll], 2*time.Minute)
		stop()
	})
}

func interactionID(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }
