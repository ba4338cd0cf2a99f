package subscription_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestReauthorizationIsOnePatchAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(100 * time.Second)
		b.wake(subscription.ReauthorizationRequired, "s1")
		requireOps(t, b, "list", "create", "renew")
		assert.Equal(t, []float64{100}, seconds(b.graph.callsOf("renew"), b.start))
		left, _ := b.keeper.TimeLeft(time.Now())
		assert.Equal(t, 71*time.Hour, left)

		b.pass(10 * time.Second)
		b.wake(subscription.ReauthorizationRequired, "s1")
		b.pass(10 * time.Minute)
		assert.Equal(t, []float64{100, 160}, seconds(b.graph.callsOf("renew"), b.start), "one within the minute is done when it is over")
	})
}

func TestAFloodOfEventsIsAtMostOnePatchAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		for range 10_000 {
			b.wake(subscription.ReauthorizationRequired, "s1")
			time.Sleep(60 * time.Millisecond)
		}
		b.pass(time.Hour)
		patches := b.graph.callsOf("renew")
		assert.Len(t, patches, 11, "ten minutes of events")
		for i := 1; i < len(patches); i++ {
			assert.Equal(t, time.Minute, patches[i].at.Sub(patches[i-1].at))
		}
		assert.Equal(t, 1+600/300+3600/300, b.graph.count("list"), "such events read no list")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		for range 10_000 {
			b.wake(subscription.Missed, "s1")
			time.Sleep(60 * time.Millisecond)
		}
		assert.LessOrEqual(t, b.graph.count("list"), 61, "a list each ten seconds")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		var senders sync.WaitGroup
		for i := range 10 {
			senders.Go(func() {
				for j := range 3000 {
					b.keeper.Wake(subscription.Event{Kind: subscription.SubscriptionRemoved, SubscriptionID: fmt.Sprint("strange ", i, " ", j)})
				}
			})
		}
		senders.Wait()
		synctest.Wait()
		b.pass(time.Second)
		requireOps(t, b, "list", "create")
		b.wake(subscription.ReauthorizationRequired, "s1")
		assert.Equal(t, 1, b.graph.count("renew"), "the bound of the inbox does not last")
	})
}

func TestAFailedReauthorizationFollowsTheBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(c call) error {
			if c.op == "renew" && b.graph.countLocked("renew") <= 3 {
				return refusal(http.StatusBadGateway, "", 0)
			}
			return nil
		})
		for range 600 {
			b.wake(subscription.ReauthorizationRequired, "s1")
			time.Sleep(100 * time.Millisecond)
		}
		tries := b.graph.callsOf("renew")
		require.GreaterOrEqual(t, len(tries), 4)
		for i := 1; i < 4; i++ {
			wait, bound := tries[i].at.Sub(tries[i-1].at), time.Second<<i
			assert.GreaterOrEqual(t, wait, bound/2)
			assert.LessOrEqual(t, wait, bound)
		}
		assert.Len(t, tries, 4, "and after the success the minute begins")
	})
}

func TestARemovedSubscriptionIsRecreatedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(6 * time.Minute)
		b.graph.drop("s1")
		b.wake(subscription.SubscriptionRemoved, "s1")
		assert.Equal(t, []string{"s2"}, b.graph.living())
		assert.Equal(t, b.start.Add(6*time.Minute), b.graph.callsOf("create")[1].at)
		assert.Equal(t, interruption{tenantWide, subscription.ReasonRemoved, b.start.Add(5 * time.Minute)}, b.interruptions[1])
		assert.Equal(t, []subscription.Reason{subscription.ReasonRemoved}, b.recreated)
		b.wake(subscription.SubscriptionRemoved, "s1")
		b.pass(time.Second)
		assert.Equal(t, 2, b.graph.count("create"), "the old id means nothing any more")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(6 * time.Minute)
		b.wake(subscription.SubscriptionRemoved, "s1")
		requireOps(t, b, "list", "create", "list", "list", "delete", "create")
		assert.Equal(t, []string{"s2"}, b.graph.living(), "one that the list still shows is deleted first")
		assert.Equal(t, []subscription.Reason{subscription.ReasonRemoved}, b.recreated)
	})
}

func TestMissedChangesAreToldAndTheListIsReadAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(6 * time.Minute)
		b.wake(subscription.Missed, "s1")
		requireOps(t, b, "list", "create", "list", "list")
		assert.Equal(t, interruption{tenantWide, subscription.ReasonMissed, b.start.Add(5 * time.Minute)}, b.interruptions[1])
		assert.Equal(t, b.start.Add(6*time.Minute), b.restored[1])
		assert.Empty(t, b.recreated)
	})
}

func TestEventsThatAreNotOursChangeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(90 * time.Second)
		for _, kind := range []string{subscription.ReauthorizationRequired, subscription.SubscriptionRemoved, subscription.Missed} {
			b.wake(kind, "somebody else's")
			b.wake(kind, "")
		}
		b.wake("somethingNew", "s1")
		b.pass(90 * time.Second)
		requireOps(t, b, "list", "create")
		assert.Len(t, b.interruptions, 1)
	})
}

func TestEventsOfAnEndedSubscriptionChangeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.drop("s1")
		b.graph.failing(func(c call) error {
			if c.op == "create" {
				return refusal(http.StatusForbidden, "", 0)
			}
			return nil
		})
		for range 10 {
			b.wake(subscription.SubscriptionRemoved, "s1")
			b.wake(subscription.ReauthorizationRequired, "s1")
			b.pass(time.Second)
		}
		assert.Len(t, b.lines("subscription ended"), 1)
		assert.Zero(t, b.graph.count("renew"))
	})
}

func TestAnEventBeforeTheFirstListIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(call) error { return refusal(http.StatusInternalServerError, "", 0) }}
		g.put(existing("x", 70*time.Hour))
		b := begin(t, g)
		b.wake(subscription.ReauthorizationRequired, "x")
		g.failing(nil)
		b.pass(2 * time.Second)
		requireOps(t, b, "list", "list", "renew")
	})
}

func TestWhatGraphMissedIsToldAlsoWhileNoCallMayBeMadeAndAtTheEnd(t *testing.T) {
	t.Parallel()
	held := func(t *testing.T) *bench {
		t.Helper()
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(call) error { return refusal(http.StatusTooManyRequests, "", time.Hour) })
		b.pass(6 * time.Minute)
		return b
	}
	synctest.Test(t, func(t *testing.T) {
		b := held(t)
		calls := len(b.graph.calls)
		b.wake(subscription.Missed, "s1")
		assert.Equal(t, interruption{tenantWide, subscription.ReasonMissed, b.start}, b.interruptions[1])
		assert.Len(t, b.graph.calls, calls, "throttled for an hour")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(time.Minute)
		b.stop()
		b.keeper.Wake(subscription.Event{Kind: subscription.Missed, SubscriptionID: "s1"})
		b.keeper.Wake(subscription.Event{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"})
		assert.Equal(t, []subscription.Event{{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"}}, b.keeper.Drain())
		assert.Equal(t, interruption{tenantWide, subscription.ReasonMissed, b.start}, b.interruptions[1])
	})
}
