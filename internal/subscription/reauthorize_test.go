package subscription_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// withdrawn refuses renewals, as where an administrator withdrew consent: the list needs none.
func withdrawn(c call) error {
	if c.op == "renew" {
		return refusal(http.StatusForbidden, "Forbidden", 0)
	}
	return nil
}

func TestAReauthorizationThatFailsForLongMayHavePausedDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(time.Hour)
		b.graph.failing(withdrawn)
		asked := time.Now()
		b.wake(subscription.ReauthorizationRequired, "s1")
		b.pass(24 * time.Hour)
		require.Len(t, b.interruptions, 2)
		assert.Equal(t, interruption{tenantWide, subscription.ReasonPaused, asked}, b.interruptions[1])
		assert.WithinDuration(t, asked.Add(15*time.Minute), b.checked[len(b.checked)-1], 5*time.Minute, "from then on the list is no proof of delivery")
		assert.Len(t, b.restored, 1)
		assert.Len(t, b.lines("graph may have stopped to deliver, since the subscription can't be renewed as it asked to"), 1)

		b.graph.failing(nil)
		b.pass(10 * time.Minute)
		assert.Len(t, b.restored, 2)
		assert.WithinDuration(t, time.Now(), b.checked[len(b.checked)-1], 5*time.Minute)
		assert.Len(t, b.interruptions, 2)
		assert.Equal(t, 1, b.graph.count("create"))
	})
}

func TestAReauthorizationThatSucceedsSoonInterruptsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(withdrawn)
		b.wake(subscription.ReauthorizationRequired, "s1")
		b.pass(10 * time.Minute)
		b.graph.failing(nil)
		b.pass(time.Hour)
		assert.Len(t, b.interruptions, 1)
		assert.Empty(t, b.known[0].ReauthorizationRequestedAt)
	})
}

func TestAPausedSubscriptionThatIsLostIsOneInterruptionUntilTheNextOneLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(withdrawn)
		b.wake(subscription.ReauthorizationRequired, "s1")
		b.pass(20 * time.Minute)
		b.graph.drop("s1")
		b.pass(10 * time.Minute)
		assert.Len(t, b.interruptions, 2)
		assert.Len(t, b.restored, 2)
		assert.Equal(t, []string{"s2"}, b.graph.living())
	})
}

func TestAnUnansweredReauthorizationOutlivesARestart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before  time.Duration
		reasons []subscription.Reason
	}{
		"a short one interrupts nothing": {time.Minute, nil},
		"a long one did":                 {time.Hour, []subscription.Reason{subscription.ReasonPaused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGraph{}
				first := begin(t, g)
				g.failing(withdrawn)
				asked := time.Now()
				first.wake(subscription.ReauthorizationRequired, "s1")
				first.stop()
				require.Len(t, first.known, 1)
				assert.Equal(t, asked, first.known[0].ReauthorizationRequestedAt)

				time.Sleep(test.before)
				g.failing(nil)
				second := begin(t, g, func(s *subscription.Settings) { s.Known = first.known })
				second.pass(10 * time.Second)
				assert.Equal(t, 2, g.count("renew"), "one that failed and one that did not")
				require.Len(t, second.known, 1)
				require.Len(t, second.interruptions, len(test.reasons))
				assert.Len(t, second.restored, len(test.reasons))
				for i, reason := range test.reasons {
					assert.Equal(t, interruption{tenantWide, reason, asked}, second.interruptions[i])
				}
				assert.Empty(t, second.known[0].ReauthorizationRequestedAt)
			})
		})
	}
}

func TestARestartConfirmsNothingWhileDeliveryMayHavePaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := begin(t, g)
		g.failing(withdrawn)
		first.wake(subscription.ReauthorizationRequired, "s1")
		first.stop()
		time.Sleep(time.Hour)
		second := begin(t, g, func(s *subscription.Settings) { s.Known = first.known })
		second.pass(time.Hour)
		assert.Empty(t, second.checked)
		assert.Empty(t, second.restored)
		assert.Len(t, second.interruptions, 1)
	})
}

func TestWhatIsAdoptedAfterEventsMayHaveGoneByUnheardIsRenewedSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := begin(t, g, users(manyUsers(100)...))
		first.pass(time.Minute)
		first.stop()
		require.Equal(t, 100, g.count("create"))

		quick := begin(t, g, users(manyUsers(100)...), func(s *subscription.Settings) { s.Known = first.known })
		quick.pass(time.Hour)
		quick.stop()
		assert.Zero(t, g.count("renew"), "a quick restart missed nothing")

		began := time.Now()
		late := begin(t, g, users(manyUsers(100)...), func(s *subscription.Settings) { s.Known, s.RenewOnAdopt = quick.known, true })
		late.pass(time.Hour)
		late.stop()
		renewals := g.callsOf("renew")
		require.Len(t, renewals, 100)
		assert.WithinDuration(t, began, renewals[0].at, time.Second)
		assert.WithinDuration(t, began.Add(20*time.Second), renewals[99].at, time.Second, "they are spread")
		assert.Len(t, late.checked, 13, "and looked at meanwhile")
	})
}

func TestAnEventThatComesTooLateForThisRunIsForTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.stop()
		b.keeper.Wake(subscription.Event{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"})
		b.keeper.Drain()
		assert.Equal(t, time.Now(), b.known[0].ReauthorizationRequestedAt)
	})
}
