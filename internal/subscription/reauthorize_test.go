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

// refuseRenewal refuses renewals, as where an administrator withdrew consent: the list needs none.
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
		assert.WithinDuration(t, asked.Add(15*time.Minute), h.checked[len(h.checked)-1], 5*time.Minute, "from then on the list is no proof of delivery")
		assert.Len(t, h.restored, 1)
		assert.Len(t, h.lines("graph may have stopped to deliver, since the subscription can't be renewed as it asked to"), 1)

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
		assert.Empty(t, h.known[0].ReauthorizationRequestedAt)
	})
}

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
		"a short one interrupts nothing": {time.Minute, nil},
		"a long one did":                 {time.Hour, []subscription.Reason{subscription.ReasonPaused}},
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
				require.Len(t, first.known, 1)
				assert.Equal(t, asked, first.known[0].ReauthorizationRequestedAt)

				time.Sleep(test.before)
				g.failWith(nil)
				second := newHarness(t, g, func(s *subscription.Settings) { s.Known = first.known })
				second.advance(10 * time.Second)
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

func TestReauthorization_RestartConfirmsNothingWhilePaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := newHarness(t, g)
		g.failWith(refuseRenewal)
		first.sendEvent(subscription.ReauthorizationRequired, "s1")
		first.stop()
		time.Sleep(time.Hour)
		second := newHarness(t, g, func(s *subscription.Settings) { s.Known = first.known })
		second.advance(time.Hour)
		assert.Empty(t, second.checked)
		assert.Empty(t, second.restored)
		assert.Len(t, second.interruptions, 1)
	})
}

func TestManager_RenewsOnAdopt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := newHarness(t, g, users(manyUsers(100)...))
		first.advance(time.Minute)
		first.stop()
		require.Equal(t, 100, g.count("create"))

		quick := newHarness(t, g, users(manyUsers(100)...), func(s *subscription.Settings) { s.Known = first.known })
		quick.advance(time.Hour)
		quick.stop()
		assert.Zero(t, g.count("renew"), "a quick restart missed nothing")

		began := time.Now()
		late := newHarness(t, g, users(manyUsers(100)...), func(s *subscription.Settings) { s.Known, s.RenewOnAdopt = quick.known, true })
		late.advance(time.Hour)
		late.stop()
		renewals := g.callsOf("renew")
		require.Len(t, renewals, 100)
		assert.WithinDuration(t, began, renewals[0].at, time.Second)
		assert.WithinDuration(t, began.Add(20*time.Second), renewals[99].at, time.Second, "they are spread")
		assert.Len(t, late.checked, 13, "and looked at meanwhile")
	})
}

func TestManager_DrainRecordsReauthorization(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.stop()
		h.manager.Wake(subscription.Event{Kind: subscription.ReauthorizationRequired, SubscriptionID: "s1"})
		h.manager.Drain()
		assert.Equal(t, time.Now(), h.known[0].ReauthorizationRequestedAt)
	})
}
