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

func TestObeysRetryAfterToTheSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{fail: func(c call) error {
			return refusal(http.StatusTooManyRequests, "TooManyRequests", 17*time.Second)
		}})
		for range 1000 {
			b.wake(subscription.ReauthorizationRequired, "s1")
			b.wake(subscription.Missed, "s1")
		}
		b.pass(17*4*time.Second + time.Second)
		assert.Equal(t, []float64{0, 17, 34, 51, 68}, seconds(b.graph.callsOf(), b.start))
		b.graph.failing(nil)
		b.pass(17 * time.Second)
		assert.Equal(t, []string{"s1"}, b.graph.living())
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(c call) error {
			if c.op == "renew" {
				return refusal(http.StatusServiceUnavailable, "", 40*time.Minute)
			}
			return nil
		})
		before := b.graph.count()
		b.wake(subscription.ReauthorizationRequired, "s1")
		for range 39 {
			b.pass(time.Minute)
			b.wake(subscription.ReauthorizationRequired, "s1")
			b.wake(subscription.Missed, "s1")
		}
		assert.Equal(t, before+1, b.graph.count(), "no call goes out meanwhile, not even a look at the list")
		b.graph.failing(nil)
		b.pass(time.Minute)
		assert.Equal(t, []float64{0, 2400}, seconds(b.graph.callsOf("renew"), b.start))
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{fail: func(c call) error {
			return &graph.TokenError{Status: http.StatusTooManyRequests, RetryAfter: 1000 * time.Hour}
		}})
		b.pass(3*time.Hour + time.Second)
		assert.Equal(t, []float64{0, 3600, 7200, 10800}, seconds(b.graph.callsOf(), b.start), "an absurd demand is obeyed for an hour")
	})
}

func TestBacksOffWithoutRetryAfter(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"503":                refusal(http.StatusServiceUnavailable, "", 0),
		"500":                refusal(http.StatusInternalServerError, "", 0),
		"429 without a time": refusal(http.StatusTooManyRequests, "", 0),
		"401":                refusal(http.StatusUnauthorized, "", 0),
		"refused connection": syscall.ECONNREFUSED,
		"a wrong secret":     &graph.TokenError{Status: http.StatusUnauthorized, Code: "invalid_client", AADSTS: "AADSTS7000215"},
		"timeout":            context.DeadlineExceeded,
	} {
		for _, op := range []string{"list", "create"} {
			t.Run(name+" of "+op, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := begin(t, &fakeGraph{fail: func(c call) error {
						if c.op == op {
							return err
						}
						return nil
					}})
					b.pass(24 * time.Hour)
					tries := b.graph.callsOf(op)
					assert.LessOrEqual(t, len(tries), 24*60*60/150+10, "at least 2.5 min apart in the end")
					assert.GreaterOrEqual(t, len(tries), 24*60*60/300, "for ever, at most 5 min apart")
					assert.LessOrEqual(t, b.graph.count("list"), 24*60*60/150+300)
					for i := 1; i < len(tries); i++ {
						bound := min(time.Second<<min(i, 12), 5*time.Minute)
						wait := tries[i].at.Sub(tries[i-1].at)
						assert.GreaterOrEqual(t, wait, bound/2)
						assert.LessOrEqual(t, wait, bound+time.Second)
					}
					assert.Len(t, b.statuses, 1)
					assertHourlyFailures(t, b, 24*time.Hour)

					b.graph.failing(nil)
					b.pass(5*time.Minute + time.Second)
					assert.Equal(t, []string{"s1"}, b.graph.living())
					require.Len(t, b.statuses, 2)
					assert.NoError(t, b.statuses[1])
				})
			})
		}
	}
}

func TestTriesAFailingHandshakeAgainAfterOneTwoAndFourSeconds(t *testing.T) {
	t.Parallel()
	refuse := func(c call) error {
		if c.op == "create" {
			return refusal(http.StatusBadRequest, "ValidationError", 0)
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{fail: refuse})
		b.pass(7 * time.Second)
		assert.Equal(t, []float64{0, 1, 3, 7}, seconds(b.graph.callsOf("create"), b.start))
		b.pass(7 * time.Second)
		assert.Equal(t, 4, b.graph.count("create"), "then the usual back-off goes on")
		b.pass(10 * time.Second)
		assert.Equal(t, 5, b.graph.count("create"))
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(time.Hour)
		b.graph.drop("s1")
		b.graph.failing(refuse)
		b.pass(5*time.Minute + 10*time.Second)
		creations := b.graph.callsOf("create")[1:]
		require.GreaterOrEqual(t, len(creations), 2)
		assert.NotEqual(t, time.Second, creations[1].at.Sub(creations[0].at), "later on, the waits have jitter")
	})
}

func TestAGrantInThePastIsAFailureAndNotAStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{rewrite: func(s *graph.Subscription) { s.Expiration = time.Time{} }})
		b.pass(time.Hour)
		assert.Less(t, b.graph.count("create"), 40, "nor is none at all")
		require.Len(t, b.statuses, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{granted: -time.Hour})
		b.pass(24 * time.Hour)
		assert.LessOrEqual(t, b.graph.count("create"), 24*60*60/150+10)
		require.Len(t, b.statuses, 1)
		require.ErrorContains(t, b.statuses[0], "clock")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(c call) error {
			if c.op == "renew" {
				b.graph.granted = -time.Hour
			}
			return nil
		})
		b.wake(subscription.ReauthorizationRequired, "s1")
		require.Len(t, b.statuses, 1)
		require.ErrorContains(t, b.statuses[0], "clock")
		assert.Equal(t, 1, b.renewals[false])
	})
}

func TestASubscriptionThatKeepsVanishingIsRecreatedEverMoreSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, func(s *subscription.Settings) { s.CheckInterval = time.Second })
		for range 3600 {
			for _, id := range b.graph.living() {
				b.graph.drop(id)
				b.wake(subscription.SubscriptionRemoved, id)
			}
			b.pass(time.Second)
		}
		assert.Less(t, b.graph.count("create"), 40)
		assert.Greater(t, b.graph.count("create"), 10)
		created := seconds(b.graph.callsOf("create"), b.start)
		assert.LessOrEqual(t, created[1], 1.0, "the first time at once")
	})
}

func TestWithoutATokenNoOtherCallIsTried(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&graph.CredentialError{Setting: "auth.client_secret_file", Path: "/run/x", Err: errors.New("gone")},
		&graph.TokenError{Status: http.StatusUnauthorized, Code: "invalid_client"},
		refusal(http.StatusUnauthorized, "InvalidAuthenticationToken", 0),
	} {
		synctest.Test(t, func(t *testing.T) {
			b := begin(t, &fakeGraph{}, func(s *subscription.Settings) { s.Resources = []string{userA, userB} })
			b.graph.failing(func(call) error { return err })
			before := b.graph.count()
			b.keeper.Wake(subscription.Event{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"})
			b.wake(subscription.ReauthorizationRequired, "s2")
			assert.Equal(t, before+1, b.graph.count(), "the second user would meet the same")
		})
	}
}
