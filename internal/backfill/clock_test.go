// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// aheadUntilAnswer sets this machine's clock ten days ahead, which the first response of Graph corrects.
func (h *harness) aheadUntilAnswer() {
	h.graph.set(func() { h.graph.silent = true })
	h.now = func() time.Time {
		if h.graph.Answered() {
			return time.Now()
		}
		return time.Now().Add(240 * time.Hour)
	}
}

func TestClock_AheadAtStartOfPolls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		users   []string // those configured
		prepare func(h *harness)
		extra   int // requests of history besides those of the poll and of the second reading of the one before
	}{
		"users are configured": {guids(3), func(*harness) {}, 1},
		"users are listed":     {nil, func(h *harness) { h.graph.licensed = guids(3) }, 0},
		"the list is refused": {nil, func(h *harness) {
			h.graph.failList = forbidden
			h.directory.Seen(guids(3)...)
		}, 0},
		"Graph can't be reached at first": {guids(3), func(h *harness) {
			until := time.Now().Add(122 * time.Minute)
			h.graph.fail = func(request) error {
				if time.Now().Before(until) {
					return errStore
				}
				return nil
			}
		}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.rules.PollInterval = time.Hour
				h.users = []string{guid(100)}
				_, stop := h.run(t)
				advance(time.Minute)
				test.prepare(h)
				h.save(t)
				stop()
				h.graph.requests, h.graph.listed = nil, nil
				polled := h.state().Polled
				require.False(t, polled.IsZero())

				advance(2 * time.Hour) // The collector is down.
				for _, id := range guids(3) {
					h.graph.interactions[id] = []time.Time{polled.Add(time.Minute)}
				}
				h.users = test.users
				h.aheadUntilAnswer()
				_, stop = h.run(t)
				advance(5 * time.Minute)
				stop()
				assert.Equal(t, 3, h.pipeline.distinct())
				assert.Empty(t, h.telemetry.copy().lost)
				assert.WithinDuration(t, time.Now(), h.state().Polled, 6*time.Minute)
				assert.LessOrEqual(t, len(h.graph.historyRequests()), 6+test.extra)
			})
		})
	}
}

func TestClock_AheadAtStartOfSubscription(t *testing.T) {
	t.Parallel()
	for name, disabled := range map[string]bool{"gaps are read": false, "gaps are known only": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.rules.Subscribed, h.rules.CheckInterval, h.rules.Disabled = true, 5*time.Minute, disabled
				h.configure(3, time.Now().Add(10*time.Minute))
				confirm := func() {
					h.gaps.Update(t.Context(), func(s *gap.State, now time.Time) { s.Confirmed(h.rules, now) })
				}
				_, stop := h.run(t)
				confirm()
				h.save(t)
				stop()
				checkpoint := h.state().Checkpoint

				advance(2 * time.Hour) // The collector is down.
				h.aheadUntilAnswer()
				_, stop = h.run(t)
				advance(time.Minute)
				assert.Empty(t, h.graph.historyRequests(), "the subscription makes the first request")
				assert.Empty(t, h.telemetry.copy().lost)
				h.graph.set(func() { h.graph.silent = false })
				confirm()
				advance(10 * time.Minute)
				stop()
				assert.Empty(t, h.telemetry.copy().lost)
				assert.WithinDuration(t, time.Now(), h.state().Checkpoint, 15*time.Minute)
				if disabled {
					assert.InDelta(t, 3.2, h.missing()[gap.Startup].Hours(), 0.2)
					return
				}
				assert.Equal(t, 3, h.pipeline.distinct())
				assert.WithinDuration(t, checkpoint.Add(-70*time.Minute), h.graph.historyRequests()[0].from, time.Second)
				assert.Empty(t, h.missing())
			})
		})
	}
}
