// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestThrottle_LimitsRequestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(500)
		h.settings.Concurrency = 16
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Minute)
		stop()

		requests := h.graph.historyRequests()
		require.Len(t, requests, 500)
		for i := 25; i < len(requests); i++ {
			assert.GreaterOrEqual(t, requests[i].at.Sub(requests[i-25].at), time.Second-time.Millisecond, "26 requests take at least a second")
		}
		assert.Less(t, requests[499].at.Sub(requests[0].at), 21*time.Second, "and the limit is used")
	})
}

func TestThrottle_HonorsRetryAfter(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"too many requests": 429, "unavailable": 503, "another status with the header": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(200)
				h.graph.latency = 10 * time.Millisecond
				n := 0
				var throttledAt time.Time
				h.graph.fail = func(request) error {
					if n++; n == 50 {
						throttledAt = time.Now()
						return graphError(status, "", 37*time.Second)
					}
					return nil
				}
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(5 * time.Minute)
				stop()

				requests := h.graph.historyRequests()
				require.Len(t, requests, 201, "only the refused page is requested again")
				resumed := time.Time{}
				for _, r := range requests[50:] {
					// Another response may have been in flight.
					if r.at.Sub(throttledAt) > 100*time.Millisecond && resumed.IsZero() {
						resumed = r.at
					}
				}
				assert.InDelta(t, 37, resumed.Sub(throttledAt).Seconds(), 0.1)
				assert.Empty(t, h.health(), "being throttled is no failure")
			})
		})
	}
}

func TestThrottle_ReportsLongThrottlingAndRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(3)
		n, ended := 0, false
		h.graph.fail = func(request) error {
			if ended {
				return nil
			}
			n++
			return graphError([]int{429, 503}[n%2], "", 30*time.Second)
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(14 * time.Minute)
		assert.Empty(t, h.health())
		advance(24 * time.Hour)
		assert.Len(t, h.health(), 1)
		assert.InDelta(t, 24, h.logged("history can't be read"), 1, "once an hour while it lasts")
		h.graph.set(func() { ended = true })
		advance(time.Minute)
		stop()
		require.Len(t, h.health(), 2)
		require.NoError(t, h.health()[1])
		assert.Equal(t, 1, h.logs.FilterMessageSnippet("history can be read again").Len())
	})
}

func TestThrottle_BacksOffWhileGraphFails(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"429 without Retry-After":  graphError(429, "", 0),
		"503 without Retry-After":  graphError(503, "", 0),
		"500":                      graphError(500, "", 0),
		"401":                      graphError(401, "", 0),
		"no token":                 &graph.TokenError{Status: 400, Code: "AADSTS7000215"},
		"an unreadable credential": &graph.TokenError{Err: errors.New("no such file")},
		"connection reset":         errors.New("read tcp 127.0.0.1:1: connection reset by peer"),
		"invalid JSON":             graph.ErrUnreadable,
		"a missing permission":     forbidden(),
		"a cloud that does not have this history": graphError(404, "Requested API is not supported. Please check the path.", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(300, time.Now().Add(-150*time.Minute))
				h.graph.fail = func(request) error { return err }
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(time.Hour)
				requests := h.graph.historyRequests()
				assert.Less(t, len(requests), 400, "an hour of failure sees few requests")
				secondHalf := 0
				for _, r := range requests {
					if r.at.After(requests[0].at.Add(30 * time.Minute)) {
						secondHalf++
					}
				}
				assert.Less(t, secondHalf, 150)
				assert.Equal(t, map[gap.Reason]time.Duration{gap.Startup: time.Hour}, h.missing(), "the gap stays")
				assert.LessOrEqual(t, h.logged("history can't be read, will be"), 1, "it is logged once")

				h.graph.set(func() { h.graph.fail = nil })
				advance(3 * time.Hour)
				assert.Equal(t, 300, h.pipeline.distinct(), "all users are read in the end")
				assert.Empty(t, h.missing())
				assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
				health := h.health()
				if len(health) > 0 {
					require.Len(t, health, 2)
					require.Error(t, health[0])
					require.NoError(t, health[1])
					require.ErrorIs(t, health[0], err)
					assert.Contains(t, health[0].Error(), failure.Of(err).Hint)
				}
				stop()
			})
		})
	}
}

func TestBackfiller_RestartsUserAfterPageFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		start := time.Now().Add(-150 * time.Minute)
		var at []time.Time
		for i := range 35 {
			at = append(at, start.Add(time.Duration(i)*time.Second))
		}
		h.configure(1, at...)
		h.graph.pageSize = 10
		failed := false
		h.graph.fail = func(r request) error {
			if r.next == "20" && !failed {
				failed = true
				return graphError(500, "", 0)
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Minute)
		var pages []string
		for _, r := range h.graph.historyRequests() {
			pages = append(pages, r.next)
		}
		assert.Equal(t, []string{"", "10", "20", "", "10", "20", "30"}, pages)
		assert.Equal(t, 35, h.pipeline.distinct())
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestBackfiller_HandlesRefusedDelivery(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err      error
		taken    int
		requests int
		missing  time.Duration
		message  string
	}{
		"temporarily: delivery is retried, and Graph is not requested meanwhile": {errors.New("queue is full"), 0, 2, time.Hour, "delivery is retried"},
		"permanently: they count as read":                                        {consumererror.NewPermanent(errors.New("no")), 0, 10, 0, "permanently"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(10, time.Now().Add(-150*time.Minute))
				h.settings.Concurrency = 2
				h.pipeline.refuse = func() error { return test.err }
				_, stop := h.run(t)
				h.open(hour(gap.Undelivered))
				advance(10 * time.Minute)
				assert.Len(t, h.graph.historyRequests(), test.requests)
				assert.Equal(t, test.missing, h.missing()[gap.Undelivered])
				assert.Less(t, h.pipeline.snapshot().tries, 2*40+10)
				assert.Equal(t, 1, h.logged(test.message))
				h.pipeline.mu.Lock()
				h.pipeline.refuse = nil
				h.pipeline.mu.Unlock()
				advance(time.Minute)
				assert.Empty(t, h.missing())
				stop()
			})
		})
	}
}
