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

func TestPoll_FindsLateInteractions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.settings.PollInterval = 5 * time.Minute
		_, stop := h.run(t)
		advance(3 * time.Hour)
		at := time.Now()
		advance(59 * time.Minute)
		h.graph.set(func() { h.graph.interactions[guid(0)] = []time.Time{at} })
		advance(time.Hour)
		assert.Equal(t, 1, h.intake.distinct())
		advance(20 * time.Hour)
		stop()
		assert.LessOrEqual(t, len(h.graph.historyRequests()), 24*12+24*3, "second readings are done together")
		telemetry := h.telemetry.copy()
		assert.InDelta(t, telemetry.opened[backfill.Poll], telemetry.closed[backfill.Poll], 20)
	})
}

func TestBackfiller_PersistsPassBeforeReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.settings.PollInterval = time.Hour
		noted := false
		h.graph.fail = func(request) error {
			noted = assert.Contains(t, string(h.store.copy().values["history/gaps"]), `"reading"`)
			return nil
		}
		_, stop := h.run(t)
		advance(time.Second)
		stop()
		assert.True(t, noted)
	})
}

func TestPoll_ReadsOnlyEarlierTimeOfNewUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = 10 * time.Minute
		h.graph.failList = forbidden
		began := time.Now()
		b, stop := h.run(t)
		b.Seen(guid(1))
		advance(35 * time.Minute)
		b.Seen(guid(2)) // Polls read it from now on.
		advance(40 * time.Minute)
		stop()
		var missed []request
		for _, r := range h.graph.historyRequests() {
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

func TestPoll_RetriesFailedUserBetweenBackToBackPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(60)
		h.settings.PollInterval = 2 * time.Minute
		h.graph.latency = 12 * time.Second // so that reading all takes three minutes
		unwell := true
		h.graph.fail = func(r request) error {
			if unwell && r.user == guid(7) {
				return graphError(http.StatusInternalServerError, "x", 0)
			}
			return nil
		}
		_, stop := h.run(t)
		advance(10 * time.Minute)
		h.graph.set(func() { unwell = false })
		advance(time.Hour)
		at := time.Now()
		h.graph.set(func() {
			for _, id := range guids(60) {
				h.graph.interactions[id] = []time.Time{at}
			}
		})
		advance(2 * time.Hour)
		stop()
		assert.Equal(t, 60, h.intake.distinct())
	})
}

func TestQueue_ToleratesScatteredForbiddenUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1000, time.Now().Add(-150*time.Minute))
		bad := map[string]bool{}
		for i := 0; i < 1000; i += 10 {
			bad[guid(i)] = true
		}
		h.graph.fail = func(r request) error {
			if bad[r.user] {
				return forbidden()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(41 * time.Second)
		assert.Equal(t, 900, h.intake.distinct())
		assert.Empty(t, h.health())
		advance(10 * time.Minute)
		assert.Empty(t, h.health(), "nor are they when they alone are tried again")
		stop()
	})
}
