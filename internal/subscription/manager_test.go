// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestManager_CreatesMissingSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		requireOps(t, h, "list", "create")
		got := h.graph.callsOf("create")[0].got
		assert.Equal(t, tenantWide, got.Resource)
		assert.Equal(t, ourURL, got.NotificationURL)
		assert.Equal(t, ourURL, got.LifecycleNotificationURL)
		assert.Equal(t, []string{"created", "updated", "deleted"}, got.ChangeTypes)
		assert.Equal(t, secret+tenantWide, got.ClientState)
		assert.Equal(t, "new", got.EncryptionCertificateID)
		assert.Equal(t, []byte("der"), got.EncryptionCertificate)
		assert.True(t, h.start.Add(71*time.Hour).Equal(got.Expiration), "%s", got.Expiration)

		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonAbsent, time.Time{}}}, h.interruptions)
		assert.Equal(t, []time.Time{h.start}, h.restored)
		assert.Equal(t, []time.Time{h.start}, h.checked)
		assert.Equal(t, []subscription.Known{{ID: "s1", CertificateID: "new"}}, h.known())
		assert.Equal(t, map[bool]int{true: 1}, h.created)
		assert.Empty(t, h.statuses, "health did not change")

		require.Equal(t, 1, h.logs.Len())
		line := h.lines("subscription created")[0].ContextMap()
		assert.Equal(t, "s1", line["id"])
		assert.Equal(t, "copilot.example.com", line["host"])
		assert.Contains(t, line, "expiration")

		h.advance(time.Hour)
		assert.Equal(t, 13, h.graph.count("list"), "one list each check interval")
		assert.Len(t, h.checked, 13)
		assert.Equal(t, 1, h.graph.count("create"))
	})
}

func TestManager_AdoptsUnchangedAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := newHarness(t, g)
		first.stop()
		g.omitCertificateID = true
		time.Sleep(time.Hour)
		second := newHarness(t, g, after(first))
		second.advance(30 * time.Minute)
		assert.Equal(t, 1, g.count("create"))
		assert.Zero(t, g.count("delete", "renew"))
		require.Len(t, second.lines("subscription adopted"), 1)
		assert.Empty(t, second.interruptions)
		assert.Equal(t, second.start, second.checked[0])
		assert.Empty(t, first.adopted, "it created its subscription")
		assert.Equal(t, []time.Time{second.start}, second.adopted)
		left, ok := second.manager.TimeLeft(time.Now())
		assert.True(t, ok)
		assert.Equal(t, 71*time.Hour-90*time.Minute, left)
	})
}

func TestManager_RenewsAtTwoThirdsOfGrantedLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.CheckInterval = time.Hour })
		h.advance(30*24*time.Hour + time.Minute)
		patches := h.graph.callsOf("renew")
		assert.Len(t, patches, 15, "30 days hold 15 times two thirds of 71 h")
		assert.Equal(t, h.start.Add(71*time.Hour*2/3), patches[0].at)
		assert.Equal(t, 1, h.graph.count("create"))
		assert.Equal(t, 15, h.renewals[true])
		assert.Len(t, h.lines("subscription renewed"), 15)
		assert.Len(t, h.interruptions, 1, "only the one before the first creation")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{granted: 45 * time.Minute})
		h.advance(31 * time.Minute)
		assert.Equal(t, []float64{1800}, seconds(h.graph.callsOf("renew"), h.start), "the granted lifetime counts, not the requested one")
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("x", 24*time.Hour))
		h := newHarness(t, g)
		h.advance(time.Hour)
		assert.Equal(t, []float64{(24*time.Hour - 71*time.Hour/3).Seconds()}, seconds(h.graph.callsOf("renew"), h.start),
			"an adopted one is assumed to have had the configured lifetime")
	})
}

// A failing renewal is retried until the subscription expires, and then it is recreated.
func TestManager_RetriesRenewalUntilExpiration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(c call) error {
			if c.op == "renew" {
				return graphError(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		})
		h.advance(71*time.Hour - time.Second)
		assert.Equal(t, 1, h.graph.count("create"))
		assert.Greater(t, h.graph.count("renew"), 200)
		left, ok := h.manager.TimeLeft(time.Now())
		assert.True(t, ok)
		assert.Equal(t, time.Second, left)
		h.advance(2 * time.Second)
		assert.Equal(t, []string{"s2"}, h.graph.activeIDs())
		assert.Equal(t, []subscription.Reason{subscription.ReasonExpired}, h.recreated)
		lost := h.interruptions[1]
		assert.Equal(t, subscription.ReasonExpired, lost.reason)
		assert.WithinDuration(t, h.start.Add(71*time.Hour), lost.since, 5*time.Minute, "since the last successful check")
		assertHourlyFailures(t, h, 71*time.Hour/3)
		assert.Len(t, h.lines("subscription failure is over"), 1)
	})
}

func TestManager_RecreatesExpiredSubscriptionImmediately(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{granted: 67*time.Minute + 7*time.Second}, func(s *subscription.Settings) { s.CheckInterval = 100 * time.Hour })
		h.graph.failWith(func(c call) error {
			if c.op == "renew" {
				return graphError(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		})
		h.advance(70 * time.Minute)
		assert.Equal(t, []float64{0, 67*60 + 7}, seconds(h.graph.callsOf("create"), h.start))
	})
}

func TestManager_RecreatesLostSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(12 * time.Minute)
		h.graph.vanish("s1")
		h.advance(3*time.Minute - time.Second)
		assert.Empty(t, h.graph.activeIDs())
		h.advance(time.Second)
		assert.Equal(t, []string{"s2"}, h.graph.activeIDs(), "the next check finds it")
		assert.Equal(t, interruption{tenantWide, subscription.ReasonLost, h.start.Add(10 * time.Minute)}, h.interruptions[1])
		assert.Equal(t, h.start.Add(15*time.Minute), h.restored[1])
		assert.Equal(t, []subscription.Known{{ID: "s2", CertificateID: "new"}}, h.known())
		require.Len(t, h.lines("subscription recreated"), 1)
		assert.Equal(t, "lost", h.lines("subscription recreated")[0].ContextMap()["reason"])
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.CheckInterval = 100 * time.Hour })
		h.advance(time.Hour)
		h.graph.vanish("s1")
		h.advance(47 * time.Hour)
		requireOps(t, h, "list", "create", "renew", "list", "create")
		assert.Equal(t, h.graph.callsOf("renew")[0].at, h.graph.callsOf("create")[1].at, "404 on PATCH recreates immediately")
		assert.Equal(t, []subscription.Reason{subscription.ReasonLost}, h.recreated)
	})
}

// The response to a creation or renewal takes precedence over a list that lags behind.
func TestManager_ToleratesLaggingList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{listLag: 50 * time.Second})
		h.advance(20 * time.Second)
		h.sendEvent(subscription.Missed, "s1")
		h.advance(time.Hour)
		assert.Equal(t, 1, h.graph.count("create"))
		assert.Empty(t, h.statuses)

		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		h.advance(20 * time.Second)
		h.sendEvent(subscription.Missed, "s1")
		left, _ := h.manager.TimeLeft(time.Now())
		assert.Equal(t, 71*time.Hour-20*time.Second, left, "an old expiration in the list is ignored")
	})
}

func TestManager_ReplacesAfterCertificateRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("x", 50*time.Hour, func(s *graph.Subscription) { s.EncryptionCertificateID = "old" }))
		g.fail = func(c call) error {
			if c.op == "delete" {
				return graphError(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		}
		h := newHarness(t, g)
		left, ok := h.manager.TimeLeft(time.Now())
		assert.True(t, ok, "the old one delivers meanwhile")
		assert.Equal(t, 50*time.Hour, left)
		assert.Empty(t, h.interruptions)
		g.failWith(nil)
		h.advance(3 * time.Second)
		requireOps(t, h, "list", "delete", "list", "delete", "create")
		assert.Equal(t, []string{"s1"}, g.activeIDs())
		require.Len(t, h.interruptions, 1)
		assert.Equal(t, subscription.ReasonReplaced, h.interruptions[0].reason)
		assert.False(t, h.interruptions[0].since.IsZero())
		assert.Equal(t, []subscription.Reason{subscription.ReasonReplaced}, h.recreated)
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("x", 50*time.Hour, func(s *graph.Subscription) { s.EncryptionCertificateID = "lost" }))
		g.fail = func(c call) error {
			if c.op == "create" && len(g.calls) < 4 {
				return graphError(http.StatusBadGateway, "", 0)
			}
			return nil
		}
		h := newHarness(t, g)
		h.advance(3 * time.Second)
		requireOps(t, h, "list", "delete", "create", "list", "create")
		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonRemovedKey, time.Time{}}}, h.interruptions)
		assert.Equal(t, []subscription.Reason{subscription.ReasonRemovedKey}, h.recreated)
	})
}

// If Graph writes a property differently than requested, the subscription is not replaced again and again.
func TestManager_AcceptsSubscriptionRewrittenByGraph(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{rewrite: func(s *graph.Subscription) {
			s.ChangeTypes, s.NotificationURL = []string{"created"}, s.NotificationURL+"/"
		}}
		h := newHarness(t, g)
		h.advance(200 * time.Hour)
		assert.Equal(t, 1, g.count("create"))
		assert.Zero(t, g.count("delete"))

		g.mu.Lock()
		g.subs[0].NotificationURL = theirURL
		g.mu.Unlock()
		h.advance(5 * time.Minute)
		assert.Equal(t, []string{"s2"}, g.activeIDs(), "a change by others is undone")
	})
}

func TestManager_RunReturnsOnCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.stop()
		assert.Zero(t, time.Since(h.start))
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		h := newHarness(t, g, func(s *subscription.Settings) { s.Graph = hangingGraph{g} })
		h.advance(time.Minute)
		h.stop()
		assert.Equal(t, time.Minute, time.Since(h.start))
		assert.Zero(t, h.logs.Len(), "a canceled call is not a failure")
		assert.Empty(t, h.statuses)
	})
}

// hangingGraph is a Graph whose creation blocks until the context is canceled.
type hangingGraph struct{ *fakeGraph }

func (hangingGraph) CreateSubscription(ctx context.Context, _ graph.Subscription) (graph.Subscription, error) {
	<-ctx.Done()
	return graph.Subscription{}, ctx.Err()
}

func TestManager_DeleteRemovesOwnSubscriptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 50*time.Hour, atTheirURL, func(s *graph.Subscription) { s.Resource = userB }))
		h := newHarness(t, g)
		h.stop()
		require.NoError(t, h.manager.Delete(t.Context()))
		assert.Equal(t, []string{"f"}, g.activeIDs())
		assert.Empty(t, h.known())
		require.NoError(t, h.manager.Delete(t.Context()))
		assert.Equal(t, 1, g.count("delete"), "one deletion is enough")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.stop()
		h.graph.vanish("s1")
		require.NoError(t, h.manager.Delete(t.Context()), "one that no longer exists counts as deleted")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.stop()
		h.graph.failWith(func(call) error { return graphError(http.StatusServiceUnavailable, "", 0) })
		err := h.manager.Delete(t.Context())
		require.ErrorContains(t, err, "delete subscription s1")
		var failed *graph.Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, http.StatusServiceUnavailable, failed.Status)
	})
}

func TestManager_StoresLaterWhatFails(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(*harness){
		"at the next check": func(h *harness) { h.advance(5 * time.Minute) },
		"when Run returns":  func(h *harness) { h.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failing := newStorage()
				failing.fail = errors.New("the disk is full")
				h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.Store = statestore.New(failing) })
				h.advance(30 * time.Minute)
				assert.Len(t, h.lines("own subscriptions can't be stored"), 1)
				assert.Empty(t, h.known())
				failing.fail = nil
				later(h)
				assert.Equal(t, []subscription.Known{{ID: "s1", CertificateID: "new"}}, h.known())
			})
		})
	}
}
