// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestReauthorization_SendsOnePatchImmediately(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(100 * time.Second)
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		requireOps(t, h, "list", "create", "renew")
		assert.Equal(t, []float64{100}, seconds(h.graph.callsOf("renew"), h.start))
		left, _ := h.manager.TimeLeft(time.Now())
		assert.Equal(t, 71*time.Hour, left)

		h.advance(10 * time.Second)
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		h.advance(10 * time.Minute)
		assert.Equal(t, []float64{100, 160}, seconds(h.graph.callsOf("renew"), h.start), "one within a minute of the first is sent after that minute")
	})
}

// However many events arrive, there is at most one PATCH a minute, and no more lists than Graph allows.
func TestLifecycleEvents_LimitCallsDuringFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		for range 10_000 {
			h.sendEvent(subscription.ReauthorizationRequired, "s1")
			time.Sleep(60 * time.Millisecond)
		}
		h.advance(time.Hour)
		patches := h.graph.callsOf("renew")
		assert.Len(t, patches, 11, "ten minutes of events")
		for i := 1; i < len(patches); i++ {
			assert.Equal(t, time.Minute, patches[i].at.Sub(patches[i-1].at))
		}
		assert.Equal(t, 1+600/300+3600/300, h.graph.count("list"), "these events cause no list")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		for range 10_000 {
			h.sendEvent(subscription.Missed, "s1")
			time.Sleep(60 * time.Millisecond)
		}
		lists := h.graph.callsOf("list")
		for i := range lists[25:] {
			assert.GreaterOrEqual(t, lists[25+i].at.Sub(lists[i].at), 20*time.Second, "Graph allows 25 in 20 s")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		var senders sync.WaitGroup
		for i := range 10 {
			senders.Go(func() {
				for j := range 3000 {
					h.manager.Wake(subscription.Event{Kind: subscription.SubscriptionRemoved, SubscriptionID: fmt.Sprint("unknown ", i, " ", j)})
				}
			})
		}
		senders.Wait()
		synctest.Wait()
		h.advance(time.Second)
		requireOps(t, h, "list", "create")
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		assert.Equal(t, 1, h.graph.count("renew"), "the inbox is empty again")
	})
}

func TestReauthorization_BacksOffAfterFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(c call) error {
			if c.op == "renew" && h.graph.countLocked("renew") <= 3 {
				return graphError(http.StatusBadGateway, "", 0)
			}
			return nil
		})
		for range 600 {
			h.sendEvent(subscription.ReauthorizationRequired, "s1")
			time.Sleep(100 * time.Millisecond)
		}
		attempts := h.graph.callsOf("renew")
		require.GreaterOrEqual(t, len(attempts), 4)
		for i := 1; i < 4; i++ {
			wait, bound := attempts[i].at.Sub(attempts[i-1].at), time.Second<<i
			assert.GreaterOrEqual(t, wait, bound/2)
			assert.LessOrEqual(t, wait, bound)
		}
		assert.Len(t, attempts, 4, "after the success the minute begins")
	})
}

func TestManager_RecreatesRemovedSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(6 * time.Minute)
		h.graph.vanish("s1")
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		assert.Equal(t, []string{"s2"}, h.graph.activeIDs())
		assert.Equal(t, h.start.Add(6*time.Minute), h.graph.callsOf("create")[1].at)
		assert.Equal(t, interruption{tenantWide, subscription.ReasonRemoved, h.start.Add(5 * time.Minute)}, h.interruptions[1])
		assert.Equal(t, []subscription.Reason{subscription.ReasonRemoved}, h.recreated)
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		h.advance(time.Second)
		assert.Equal(t, 2, h.graph.count("create"), "events with the old id are ignored")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(6 * time.Minute)
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		requireOps(t, h, "list", "create", "list", "list", "delete", "create")
		assert.Equal(t, []string{"s2"}, h.graph.activeIDs(), "one that the list still shows is deleted first")
		assert.Equal(t, []subscription.Reason{subscription.ReasonRemoved}, h.recreated)
	})
}

// A missed event opens an interruption and reads the list immediately.
func TestLifecycleEvents_MissedOpensInterruption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(6 * time.Minute)
		h.sendEvent(subscription.Missed, "s1")
		requireOps(t, h, "list", "create", "list", "list")
		assert.Equal(t, interruption{tenantWide, subscription.ReasonMissed, h.start.Add(5 * time.Minute)}, h.interruptions[1])
		assert.Equal(t, h.start.Add(6*time.Minute), h.restored[1])
		assert.Empty(t, h.recreated)
	})
}

func TestLifecycleEvents_IgnoreUnknownSubscriptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(90 * time.Second)
		for _, kind := range []string{subscription.ReauthorizationRequired, subscription.SubscriptionRemoved, subscription.Missed} {
			h.sendEvent(kind, "unknown")
			h.sendEvent(kind, "")
		}
		h.sendEvent("somethingNew", "s1")
		h.advance(90 * time.Second)
		requireOps(t, h, "list", "create")
		assert.Len(t, h.interruptions, 1)
	})
}

func TestLifecycleEvents_IgnoreEndedSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.vanish("s1")
		h.graph.failWith(func(c call) error {
			if c.op == "create" {
				return graphError(http.StatusForbidden, "", 0)
			}
			return nil
		})
		for range 10 {
			h.sendEvent(subscription.SubscriptionRemoved, "s1")
			h.sendEvent(subscription.ReauthorizationRequired, "s1")
			h.advance(time.Second)
		}
		require.Len(t, h.lines("subscription ended"), 1)
		assert.Equal(t, string(failure.SubscriptionInterrupted), h.lines("subscription ended")[0].ContextMap()["code"])
		assert.Zero(t, h.graph.count("renew"))
	})
}

func TestLifecycleEvents_KeptUntilFirstList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(call) error { return graphError(http.StatusInternalServerError, "", 0) }}
		g.put(existing("x", 70*time.Hour))
		h := newHarness(t, g)
		h.sendEvent(subscription.ReauthorizationRequired, "x")
		g.failWith(nil)
		h.advance(2 * time.Second)
		requireOps(t, h, "list", "list", "renew")
	})
}

func TestLifecycleEvents_MissedReportedInBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(call) error { return graphError(http.StatusTooManyRequests, "", time.Hour) })
		h.advance(6 * time.Minute)
		calls := len(h.graph.calls)
		h.sendEvent(subscription.Missed, "s1")
		assert.Equal(t, interruption{tenantWide, subscription.ReasonMissed, h.start}, h.interruptions[1])
		assert.Len(t, h.graph.calls, calls, "throttled for an hour")
	})
}

// Events that arrive during the last pass are reported before Run returns, the reauthorization for the next run.
func TestLifecycleEvents_ReportedBeforeRunReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(call) error {
			h.manager.Wake(subscription.Event{Kind: subscription.Missed, SubscriptionID: "s1"})
			h.manager.Wake(subscription.Event{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"})
			h.cancel()
			return nil
		})
		h.advance(6 * time.Minute)
		requireOps(t, h, "list", "create", "list")
		require.Len(t, h.interruptions, 2)
		assert.Equal(t, subscription.ReasonMissed, h.interruptions[1].reason)
		assert.True(t, h.start.Add(5*time.Minute).Equal(h.known()[0].ReauthorizationRequestedAt))
	})
}

// refuseRenewal refuses renewals, as after an administrator has revoked consent, which the list does not need.
func refuseRenewal(c call) error {
	if c.op == "renew" {
		return graphError(http.StatusForbidden, "Forbidden", 0)
	}
	return nil
}

func TestReauthorization_LongFailureOpensInterruption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(time.Hour)
		h.graph.failWith(refuseRenewal)
		asked := time.Now()
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		h.advance(24 * time.Hour)
		require.Len(t, h.interruptions, 2)
		assert.Equal(t, interruption{tenantWide, subscription.ReasonPaused, asked}, h.interruptions[1])
		assert.WithinDuration(t, asked.Add(15*time.Minute), h.checked[len(h.checked)-1], 5*time.Minute, "from then on a list does not prove delivery")
		assert.Len(t, h.restored, 1)
		paused := h.lines("Graph may have paused delivery, because the reauthorization that it asked for has not succeeded")
		require.Len(t, paused, 1)
		assert.Equal(t, string(failure.SubscriptionInterrupted), paused[0].ContextMap()["code"])

		h.graph.failWith(nil)
		h.advance(10 * time.Minute)
		assert.Len(t, h.restored, 2)
		assert.WithinDuration(t, time.Now(), h.checked[len(h.checked)-1], 5*time.Minute)
		assert.Len(t, h.interruptions, 2)
		assert.Equal(t, 1, h.graph.count("create"))
	})
}

func TestReauthorization_QuickSuccessOpensNoInterruption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(refuseRenewal)
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		h.advance(10 * time.Minute)
		h.graph.failWith(nil)
		h.advance(time.Hour)
		assert.Len(t, h.interruptions, 1)
		assert.Empty(t, h.known()[0].ReauthorizationRequestedAt)
	})
}

// A paused subscription that is then lost is one interruption, until the next one is active.
func TestReauthorization_LossWhilePausedKeepsInterruption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(refuseRenewal)
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		h.advance(20 * time.Minute)
		h.graph.vanish("s1")
		h.advance(10 * time.Minute)
		assert.Len(t, h.interruptions, 2)
		assert.Len(t, h.restored, 2)
		assert.Equal(t, []string{"s2"}, h.graph.activeIDs())
	})
}

func TestReauthorization_PersistsAcrossRestart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before  time.Duration
		reasons []subscription.Reason
	}{
		"a short one opens no interruption": {time.Minute, nil},
		"a long one opens an interruption":  {time.Hour, []subscription.Reason{subscription.ReasonPaused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGraph{}
				first := newHarness(t, g)
				g.failWith(refuseRenewal)
				asked := time.Now()
				first.sendEvent(subscription.ReauthorizationRequired, "s1")
				first.stop()
				require.Len(t, first.known(), 1)
				assert.True(t, asked.Equal(first.known()[0].ReauthorizationRequestedAt))

				time.Sleep(test.before)
				g.failWith(nil)
				second := newHarness(t, g, after(first))
				second.advance(10 * time.Second)
				assert.Equal(t, 2, g.count("renew"), "one failed and one succeeded")
				require.Len(t, second.known(), 1)
				require.Len(t, second.interruptions, len(test.reasons))
				assert.Len(t, second.restored, len(test.reasons))
				for i, reason := range test.reasons {
					assert.Equal(t, reason, second.interruptions[i].reason)
					assert.True(t, asked.Equal(second.interruptions[i].since))
				}
				assert.Empty(t, second.known()[0].ReauthorizationRequestedAt)
			})
		})
	}
}

func TestReauthorization_RestartConfirmsNothingWhilePaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := newHarness(t, g)
		g.failWith(refuseRenewal)
		first.sendEvent(subscription.ReauthorizationRequired, "s1")
		first.stop()
		time.Sleep(time.Hour)
		second := newHarness(t, g, after(first))
		second.advance(time.Hour)
		assert.Empty(t, second.checked)
		assert.Empty(t, second.restored)
		assert.Len(t, second.interruptions, 1)
	})
}

// After a pause in which lifecycle events may have been missed, such as that of a suspended machine, subscriptions are renewed at once.
func TestManager_RenewsAfterPause(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pause  time.Duration
		renews int
	}{
		"a short one misses no events": {8 * time.Minute, 0},
		"a long one may miss events":   {16 * time.Minute, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGraph{}
				h := newHarness(t, g)
				h.advance(time.Second)
				g.failWith(func(call) error { return errors.New("no route to host") })
				h.advance(test.pause)
				g.failWith(nil)
				h.advance(6 * time.Minute)
				assert.Equal(t, test.renews, g.count("renew"))
				h.advance(6 * time.Hour)
				assert.Equal(t, test.renews, g.count("renew"), "once")
			})
		})
	}
}

// The renewals of many users last longer than the pause after which events count as missed, and must not cause themselves again.
func TestManager_RenewsManyAfterPauseOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &slowRenewals{fakeGraph: &fakeGraph{}}
		resources := manyUsers(60)
		first := newHarness(t, g.fakeGraph, users(resources...))
		first.stop()
		late := newHarness(t, g.fakeGraph, users(resources...), after(first), func(s *subscription.Settings) {
			s.Graph, s.RenewOnAdopt = g, true
		})
		late.advance(3 * time.Hour)
		late.stop()
		assert.Equal(t, 60, g.count("renew"))
		assert.Greater(t, len(late.checked), 30, "checks continue meanwhile")
	})
}

// slowRenewals is a Graph whose renewals take 20 seconds.
type slowRenewals struct{ *fakeGraph }

func (g *slowRenewals) RenewSubscription(ctx context.Context, id string, expiration time.Time) (graph.Subscription, error) {
	time.Sleep(20 * time.Second)
	return g.fakeGraph.RenewSubscription(ctx, id, expiration)
}

// Where events may have been missed, adopted subscriptions are renewed at once.
func TestManager_RenewsOnAdopt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := newHarness(t, g, users(manyUsers(100)...))
		first.advance(time.Minute)
		first.stop()
		require.Equal(t, 100, g.count("create"))

		quick := newHarness(t, g, users(manyUsers(100)...), after(first))
		quick.advance(time.Hour)
		quick.stop()
		assert.Zero(t, g.count("renew"), "a quick restart missed no events")

		began := time.Now()
		late := newHarness(t, g, users(manyUsers(100)...), after(quick), func(s *subscription.Settings) { s.RenewOnAdopt = true })
		late.advance(time.Hour)
		late.stop()
		renewals := g.callsOf("renew")
		require.Len(t, renewals, 100)
		assert.WithinDuration(t, began, renewals[0].at, time.Second)
		assert.WithinDuration(t, began, renewals[99].at, time.Second)
		assert.Len(t, late.checked, 13, "checks continue meanwhile")
	})
}
