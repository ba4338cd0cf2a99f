package backfill_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestWhatGraphIsLateWithIsFoundWhilePolling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		w.settings.PollInterval = 5 * time.Minute
		_, stop := w.run(t)
		pass(3 * time.Hour)
		at := time.Now()
		pass(59 * time.Minute)
		w.graph.set(func() { w.graph.happened[guid(0)] = []time.Time{at} })
		pass(time.Hour)
		assert.Equal(t, 1, w.intake.distinct())
		pass(20 * time.Hour)
		stop()
		assert.LessOrEqual(t, len(w.graph.asked()), 24*12+24*3, "second readings are done together")
		telemetry := w.telemetry.copy()
		assert.InDelta(t, telemetry.opened[backfill.Poll], telemetry.closed[backfill.Poll], 20)
	})
}

func TestAReadingIsWrittenDownBeforeItBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1)
		w.settings.PollInterval = time.Hour
		noted := false
		w.graph.fail = func(request) error {
			noted = assert.Contains(t, string(w.store.copy().values["history/gaps"]), `"reading"`)
			return nil
		}
		_, stop := w.run(t)
		pass(time.Second)
		stop()
		assert.True(t, noted)
	})
}

func TestOfAUserSeenLaterOnlyWhatWasBeforeIsRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.PollInterval = 10 * time.Minute
		w.graph.failList = forbidden
		began := time.Now()
		f, stop := w.run(t)
		f.Seen(guid(1))
		pass(35 * time.Minute)
		f.Seen(guid(2)) // Polls read it from now on.
		pass(40 * time.Minute)
		stop()
		var missed []request
		for _, r := range w.graph.asked() {
			if r.user == guid(2) && r.from.Before(began) {
				missed = append(missed, r)
			}
		}
		require.NotEmpty(t, missed)
		for _, r := range missed {
			if r.at.After(began.Add(59*time.Minute)) && r.from.Before(began.Add(-10*time.Minute)) {
				assert.WithinDuration(t, began.Add(35*time.Minute), r.to, 2*time.Second)
			}
		}
	})
}

func TestAUserWhoCouldNotBeReadIsReadAgainAlsoWherePollsFollowEachOtherWithoutAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(60)
		w.settings.PollInterval = 2 * time.Minute
		w.graph.took = 12 * time.Second // so that reading all takes three minutes
		unwell := true
		w.graph.fail = func(r request) error {
			if unwell && r.user == guid(7) {
				return refusal(http.StatusInternalServerError, "x", 0)
			}
			return nil
		}
		_, stop := w.run(t)
		pass(10 * time.Minute)
		w.graph.set(func() { unwell = false })
		pass(time.Hour)
		at := time.Now()
		w.graph.set(func() {
			for _, id := range guids(60) {
				w.graph.happened[id] = []time.Time{at}
			}
		})
		pass(2 * time.Hour)
		stop()
		assert.Equal(t, 60, w.intake.distinct())
	})
}

func TestManyUsersWhoMayNotBeReadAmongOthersAreNoMissingPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1000, time.Now().Add(-150*time.Minute))
		bad := map[string]bool{}
		for i := 0; i < 1000; i += 10 {
			bad[guid(i)] = true
		}
		w.graph.fail = func(r request) error {
			if bad[r.user] {
				return forbidden()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(41 * time.Second)
		assert.Equal(t, 900, w.intake.distinct())
		assert.Empty(t, w.health())
		pass(10 * time.Minute)
		assert.Empty(t, w.health(), "nor are they when they alone are tried again")
		stop()
	})
}
