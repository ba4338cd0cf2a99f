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

func TestQueue_PausesWhenPermissionIsRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(5000, time.Now().Add(-150*time.Minute))
		allowed := 500
		h.graph.fail = func(request) error {
			if allowed--; allowed < 0 {
				return forbidden()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(24 * time.Hour)
		assert.Less(t, len(h.graph.historyRequests()), 500+30*300, "a try after each pause, which grows to an hour")
		assert.InDelta(t, 24, h.logged("history can't be read"), 2, "once an hour while it lasts")
		h.graph.set(func() { h.graph.fail = nil })
		advance(2 * time.Hour)
		assert.Equal(t, 5000, h.intake.distinct())
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestQueue_EndsForbiddenTailAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(40, time.Now().Add(-150*time.Minute))
		good := slices.Sorted(slices.Values(h.settings.Users))[:10]
		h.graph.fail = func(r request) error {
			if !slices.Contains(good, r.user) {
				return forbidden()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(time.Second)
		stop()
		require.NoError(t, b.Save(t.Context()))
		require.Equal(t, 10, h.intake.distinct())

		b, stop = h.run(t)
		b.Open(gap(backfill.Subscription))
		advance(2 * time.Hour)
		assert.Positive(t, h.logged("the history of some users"), "the others are left for later")
		assert.Less(t, len(h.graph.historyRequests()), 400)
		h.graph.set(func() { h.graph.fail = nil })
		advance(2 * time.Hour)
		assert.Equal(t, 40, h.intake.distinct())
		assert.Empty(t, b.Missing(time.Now()))
		stop()
	})
}

func TestUsers_RechecksActiveUnlicensedUserHourly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.graph.fail = func(request) error { return noLicense() }
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		for range 1161 { // ten hours
			advance(31 * time.Second)
			b.Seen(guid(0))
		}
		assert.InDelta(t, 11, len(h.graph.historyRequests()), 1)
		stop()
	})
}

func TestUsers_ReadsAtMostMaxGapOfNewlyLicensedUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.graph.fail = func(request) error { return noLicense() }
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(21 * 24 * time.Hour)
		h.graph.set(func() { h.graph.fail = nil })
		b.Seen(guid(0))
		advance(time.Minute)
		assert.Empty(t, h.telemetry.copy().lost)
		assert.Equal(t, 168*time.Hour+5*time.Minute, h.graph.historyRequests()[1].to.Sub(h.graph.historyRequests()[1].from).Round(time.Minute))
		stop()
	})
}
