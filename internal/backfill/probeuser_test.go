package backfill_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestAPermissionThatIsTakenAwayInAReadingIsWaitedForAndNotAskedForByEveryUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(5000, time.Now().Add(-150*time.Minute))
		allowed := 500
		w.graph.fail = func(request) error {
			if allowed--; allowed < 0 {
				return forbidden()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(24 * time.Hour)
		assert.Less(t, len(w.graph.asked()), 500+30*300, "a try after each pause, which grows to an hour")
		assert.InDelta(t, 24, w.said("history can't be read"), 2, "once an hour while it lasts")
		w.graph.set(func() { w.graph.fail = nil })
		pass(2 * time.Hour)
		assert.Equal(t, 5000, w.intake.distinct())
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		stop()
	})
}

func TestARestartInTheTailOfAReadingThatSomeRefuseEndsItAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(40, time.Now().Add(-150*time.Minute))
		good := slices.Sorted(slices.Values(w.settings.Users))[:10]
		w.graph.fail = func(r request) error {
			if !slices.Contains(good, r.user) {
				return forbidden()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(time.Second)
		stop()
		require.NoError(t, f.Save(t.Context()))
		require.Equal(t, 10, w.intake.distinct())

		f, stop = w.run(t)
		f.Open(gap(backfill.Subscription))
		pass(2 * time.Hour)
		assert.Positive(t, w.said("the history of some users"), "the others are left for later")
		assert.Less(t, len(w.graph.asked()), 400)
		w.graph.set(func() { w.graph.fail = nil })
		pass(2 * time.Hour)
		assert.Equal(t, 40, w.intake.distinct())
		assert.Empty(t, f.Missing(time.Now()))
		stop()
	})
}

func TestAUserWhoPromptsAndYetHasNoHistoryIsAskedForOnceAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		w.graph.fail = func(request) error { return noLicense() }
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		for range 1161 { // ten hours
			pass(31 * time.Second)
			f.Seen(guid(0))
		}
		assert.InDelta(t, 11, len(w.graph.asked()), 1)
		stop()
	})
}

func TestOfAUserWhoWasLeftAloneForLongOnlyWhatMayBeReadIsMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		w.graph.fail = func(request) error { return noLicense() }
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(21 * 24 * time.Hour)
		w.graph.set(func() { w.graph.fail = nil })
		f.Seen(guid(0))
		pass(time.Minute)
		assert.Empty(t, w.telemetry.copy().lost)
		assert.Equal(t, 168*time.Hour+5*time.Minute, w.graph.asked()[1].to.Sub(w.graph.asked()[1].from).Round(time.Minute))
		stop()
	})
}
