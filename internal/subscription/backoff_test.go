// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"errors"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// A Retry-After holds for all calls, to the second, and events do not shorten it.
func TestManager_ObeysRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			return graphError(http.StatusTooManyRequests, "TooManyRequests", 17*time.Second)
		}})
		for range 1000 {
			h.sendEvent(subscription.ReauthorizationRequired, "s1")
			h.sendEvent(subscription.Missed, "s1")
		}
		h.advance(17*4*time.Second + time.Second)
		assert.Equal(t, []float64{0, 17, 34, 51, 68}, seconds(h.graph.callsOf(), h.start))
		h.graph.failWith(nil)
		h.advance(17 * time.Second)
		assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(c call) error {
			if c.op == "renew" {
				return graphError(http.StatusServiceUnavailable, "", 40*time.Minute)
			}
			return nil
		})
		before := h.graph.count()
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		for range 39 {
			h.advance(time.Minute)
			h.sendEvent(subscription.ReauthorizationRequired, "s1")
			h.sendEvent(subscription.Missed, "s1")
		}
		assert.Equal(t, before+1, h.graph.count(), "no call is made meanwhile, not even a list")
		h.graph.failWith(nil)
		h.advance(time.Minute)
		assert.Equal(t, []float64{0, 2400}, seconds(h.graph.callsOf("renew"), h.start))
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			return &graph.TokenError{Status: http.StatusTooManyRequests, RetryAfter: time.Hour}
		}})
		h.advance(3*time.Hour + time.Second)
		assert.Equal(t, []float64{0, 3600, 7200, 10800}, seconds(h.graph.callsOf(), h.start), "that of a token request is obeyed as well")
	})
}

func TestManager_BacksOffWithoutRetryAfter(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"503":                graphError(http.StatusServiceUnavailable, "", 0),
		"500":                graphError(http.StatusInternalServerError, "", 0),
		"429 without a time": graphError(http.StatusTooManyRequests, "", 0),
		"401":                graphError(http.StatusUnauthorized, "", 0),
		"refused connection": syscall.ECONNREFUSED,
		"a wrong secret":     &graph.TokenError{Status: http.StatusUnauthorized, Code: "AADSTS7000215"},
		"timeout":            context.DeadlineExceeded,
	} {
		for _, op := range []string{"list", "create"} {
			t.Run(name+" of "+op, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					h := newHarness(t, &fakeGraph{fail: func(c call) error {
						if c.op == op {
							return err
						}
						return nil
					}})
					h.advance(24 * time.Hour)
					attempts := h.graph.callsOf(op)
					assert.LessOrEqual(t, len(attempts), 24*60*60/150+10, "at least 2.5 min apart in the end")
					assert.GreaterOrEqual(t, len(attempts), 24*60*60/300, "forever, at most 5 min apart")
					assert.LessOrEqual(t, h.graph.count("list"), 24*60*60/150+300)
					for i := 1; i < len(attempts); i++ {
						base := min(time.Second<<min(i-1, 12), 270*time.Second)
						assert.InDelta(t, base, attempts[i].at.Sub(attempts[i-1].at), float64(base/10+time.Second/2))
					}
					assert.Len(t, h.statuses, 1)
					assertHourlyFailures(t, h, 24*time.Hour)

					h.graph.failWith(nil)
					h.advance(5*time.Minute + time.Second)
					assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
					require.Len(t, h.statuses, 2)
					assert.NoError(t, h.statuses[1])
				})
			})
		}
	}
}

func TestManager_RetriesHandshakeAfterOneTwoFourSeconds(t *testing.T) {
	t.Parallel()
	refuse := func(c call) error {
		if c.op == "create" {
			return graphError(http.StatusBadRequest, "ValidationError", 0)
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: refuse})
		h.advance(7 * time.Second)
		assert.Equal(t, []float64{0, 1, 3, 7}, seconds(h.graph.callsOf("create"), h.start))
		h.advance(6 * time.Second)
		assert.Equal(t, 4, h.graph.count("create"), "then the usual backoff continues, with jitter")
		h.advance(4 * time.Second)
		assert.Equal(t, 5, h.graph.count("create"))
	})
}

// An expiration in the past is a failure, and does not cause a storm of creations.
func TestManager_BacksOffAfterExpirationInThePast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{rewrite: func(s *graph.Subscription) { s.Expiration = time.Time{} }})
		h.advance(time.Hour)
		assert.Less(t, h.graph.count("create"), 40, "no expiration at all")
		require.Len(t, h.statuses, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{granted: -time.Hour})
		h.advance(24 * time.Hour)
		assert.LessOrEqual(t, h.graph.count("create"), 24*60*60/150+10)
		require.Len(t, h.statuses, 1)
		require.ErrorContains(t, h.statuses[0], "clock")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(c call) error {
			if c.op == "renew" {
				h.graph.granted = -time.Hour
			}
			return nil
		})
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		require.Len(t, h.statuses, 1)
		require.ErrorContains(t, h.statuses[0], "clock")
		assert.Equal(t, 1, h.renewals[false])
	})
}

// A subscription that is lost again and again is recreated after increasing delays.
func TestManager_SlowsRecreationOfVanishingSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.CheckInterval = time.Second })
		for range 3600 {
			for _, id := range h.graph.activeIDs() {
				h.graph.vanish(id)
				h.sendEvent(subscription.SubscriptionRemoved, id)
			}
			h.advance(time.Second)
		}
		assert.Less(t, h.graph.count("create"), 40)
		assert.Greater(t, h.graph.count("create"), 10)
		created := seconds(h.graph.callsOf("create"), h.start)
		assert.LessOrEqual(t, created[1], 1.0, "the first time immediately")
	})
}

// A failed token request affects every call, so the pass ends after the first one.
func TestManager_StopsPassWithoutToken(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&graph.TokenError{Err: errors.New("auth.client_secret_file: gone")},
		&graph.TokenError{Status: http.StatusUnauthorized, Code: "invalid_client"},
		graphError(http.StatusUnauthorized, "InvalidAuthenticationToken", 0),
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.Resources = []string{userA, userB} })
			h.graph.failWith(func(call) error { return err })
			before := h.graph.count()
			h.manager.Wake(subscription.Event{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"})
			h.sendEvent(subscription.ReauthorizationRequired, "s2")
			assert.Equal(t, before+1, h.graph.count(), "the second user would meet the same failure")
		})
	}
}
