// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const idOfB = "0bbbbbbb-0000-4000-8000-00000000000b"

func users(resources ...string) func(*subscription.Settings) {
	return func(s *subscription.Settings) { s.Resources = resources }
}

// manyUsers returns the resources of n users.
func manyUsers(n int) []string {
	var resources []string
	for i := range n {
		resources = append(resources, fmt.Sprintf("copilot/users/u%04d/interactionHistory/getAllEnterpriseInteractions", i))
	}
	return resources
}

// refuseUserB refuses the creation for userB, who has no license.
func refuseUserB(c call) error {
	if c.op == "create" && c.id == userB {
		return &graph.Error{
			Operation: "create subscription", Status: http.StatusForbidden, Code: "Forbidden",
			Message: "User '[id]' does not have a valid Copilot license.", RequestID: "r-7",
		}
	}
	return nil
}

func TestUsers_UnlicensedUserDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: refuseUserB}, users(userB, userA))
		assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
		h.advance(10 * 24 * time.Hour)
		assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
		assert.InDelta(t, 10*24/(71.0*2/3), h.graph.count("renew"), 1)
		assert.LessOrEqual(t, h.graph.count("create"), 10*24*60*60/150+10)
		require.NotEmpty(t, h.checked)
		assert.WithinDuration(t, time.Now(), h.checked[len(h.checked)-1], 5*time.Minute, "the other one is still confirmed")
		_, ok := h.manager.TimeLeft(time.Now())
		assert.False(t, ok, "one has never been active")

		require.Len(t, h.statuses, 1)
		assertHourlyFailures(t, h, 10*24*time.Hour)
		line := h.lines("subscription fails, will be tried again")[0].ContextMap()
		assert.Equal(t, []any{"users[0]"}, line["for"])
		for _, entry := range h.logs.All() {
			assert.NotContains(t, strings.ToLower(fmt.Sprint(entry.Message, entry.ContextMap())), idOfB)
		}
		assert.NotContains(t, strings.ToLower(h.statuses[0].Error()), idOfB, "a user id is personal data")
		require.ErrorContains(t, h.statuses[0], "users[0]")

		h.graph.failWith(nil)
		h.advance(5 * time.Minute)
		assert.Len(t, h.graph.activeIDs(), 2)
		require.Len(t, h.statuses, 2)
		assert.NoError(t, h.statuses[1])
	})
}

// Failures with the same code but different hints are logged separately.
func TestReport_SeparatesFailuresByHint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := func(c call) error {
			if c.op == "create" && c.id == userA {
				return &graph.Error{Operation: "create subscription", Status: http.StatusForbidden, Code: "Forbidden", Message: "Subscription Limit of '10' reached."}
			}
			return refuseUserB(c)
		}
		h := newHarness(t, &fakeGraph{fail: full}, users(userB, userA))
		h.advance(time.Hour)
		lines := h.lines("subscription fails, will be tried again")
		require.Len(t, lines, 2)
		assert.NotEqual(t, lines[0].ContextMap()["hint"], lines[1].ContextMap()["hint"])
	})
}

func TestUsers_ShareOneList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{}, users(manyUsers(100)...))
		h.advance(time.Hour - time.Second)
		assert.Len(t, h.graph.activeIDs(), 100)
		assert.Equal(t, 12, h.graph.count("list"))
		h.advance(47 * time.Hour)
		assert.Equal(t, 100, h.graph.count("renew"))
	})
}

// slowGraph is a Graph whose creations are slow, since each waits for a handshake.
type slowGraph struct {
	*fakeGraph
	delay time.Duration
}

func (s slowGraph) CreateSubscription(ctx context.Context, wanted graph.Subscription) (graph.Subscription, error) {
	time.Sleep(s.delay)
	return s.fakeGraph.CreateSubscription(ctx, wanted)
}

func TestUsers_SlowCreationsDoNotDelayRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		h := newHarness(t, g, users(manyUsers(200)...), func(s *subscription.Settings) { s.Graph = slowGraph{g, 10 * time.Second} })
		h.advance(time.Minute)
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		asked := time.Now()
		h.advance(time.Minute)
		require.Equal(t, 1, g.count("renew"))
		assert.WithinDuration(t, asked, g.callsOf("renew")[0].at, 45*time.Second)
		h.advance(time.Hour)
		assert.Len(t, g.activeIDs(), 200)
		assert.Less(t, g.count("list"), 100)
	})
}

// A server failure is likely to meet the other users too, so they are tried later.
func TestUsers_ServerFailureStopsPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" {
				return graphError(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		}}, users(manyUsers(200)...))
		assert.Equal(t, 1, h.graph.count("create"))
		assert.Equal(t, []any{"users[0]"}, h.lines("subscription fails, will be tried again")[0].ContextMap()["for"])
		h.advance(24 * time.Hour)
		assert.Less(t, h.graph.count(), 5*(24*60*60/150+20))
		assertHourlyFailures(t, h, 24*time.Hour)
		assert.Len(t, h.statuses, 1)
		h.graph.failWith(nil)
		h.advance(10 * time.Minute)
		assert.Len(t, h.graph.activeIDs(), 200)
		assert.Len(t, h.lines("subscription failure is over"), 1)
	})
}

// Each user's gap is known, though no call can be made for those after the first that fails.
func TestUsers_EachIsInterruptedWhileCallsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(c call) error {
			if c.op == "delete" {
				return graphError(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		}}
		for n, resource := range []string{userA, userB} {
			g.put(existing(fmt.Sprint("x", n), 70*time.Hour, func(s *graph.Subscription) {
				s.Resource, s.EncryptionCertificateID = resource, "gone"
			}))
		}
		h := newHarness(t, g, users(userA, userB))
		assert.ElementsMatch(t, []interruption{
			{userA, subscription.ReasonRemovedKey, time.Time{}}, {userB, subscription.ReasonRemovedKey, time.Time{}},
		}, h.interruptions)
		h.advance(time.Hour)
		assert.Empty(t, h.checked)
		require.NotEmpty(t, h.allInterrupted)
		assert.WithinDuration(t, time.Now(), h.allInterrupted[len(h.allInterrupted)-1], 5*time.Minute)
	})
}

// A server failure that only some users meet does not keep the others from having a subscription.
func TestUsers_ServerFailureOfSomeDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		resources := manyUsers(20)
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" && slices.Contains(resources[:5], c.id) {
				return graphError(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		}}, users(resources...))
		h.advance(2 * time.Minute)
		assert.Len(t, h.graph.activeIDs(), 15)
		h.advance(10 * 24 * time.Hour)
		assert.Len(t, h.graph.activeIDs(), 15, "they are renewed in time")
		assert.Equal(t, 15, h.graph.created)
		assert.WithinDuration(t, time.Now(), h.checked[len(h.checked)-1], 6*time.Minute)
		assertHourlyFailures(t, h, 10*24*time.Hour)
	})
}

func TestUsers_RefusalsRespectListRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" {
				return graphError(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		}}, users(manyUsers(300)...))
		h.advance(20 * time.Minute)
		lists := h.graph.callsOf("list")
		assert.Greater(t, len(lists), 100, "their delays differ")
		for i := range lists[25:] {
			assert.GreaterOrEqual(t, lists[25+i].at.Sub(lists[i].at), 20*time.Second, "Graph allows 25 in 20 s")
		}
	})
}

// A failure that many users meet is logged once, also if one more meets it later.
func TestReport_LogsFailureOfManyUsersOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		resources := manyUsers(30)
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" && c.id != resources[29] {
				return graphError(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		}}, users(resources...))
		h.graph.failWith(func(c call) error {
			if c.op == "create" {
				return graphError(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		})
		h.graph.vanish("s1")
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		h.advance(10 * time.Second)
		lines := h.lines("subscription fails, will be tried again")
		require.Len(t, lines, 1)
		assert.Len(t, lines[0].ContextMap()["for"], 10)
		assert.EqualValues(t, 29, lines[0].ContextMap()["count"])
		assert.Len(t, h.statuses, 1, "the set of failures is the same")
	})
}

func TestUsers_DeletesUnwantedSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(c call) error {
			if c.op == "delete" {
				return graphError(http.StatusBadGateway, "", 0)
			}
			return nil
		}}
		g.put(existing("b", 50*time.Hour, func(s *graph.Subscription) { s.Resource = userB }))
		g.put(existing("f", 50*time.Hour, atTheirURL, func(s *graph.Subscription) { s.Resource = "/users" }))
		h := newHarness(t, g, users(userA))
		requireOps(t, h, "list", "create", "delete")
		require.Len(t, h.statuses, 1)
		g.failWith(nil)
		h.advance(5 * time.Second)
		assert.ElementsMatch(t, []string{"f", "s1"}, g.activeIDs())
		assert.Len(t, h.lines("surplus subscription deleted"), 1)
		require.Len(t, h.statuses, 2)
		assert.NoError(t, h.statuses[1])
	})
}

func TestManager_TimeLeftIsShortest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: refuseUserB}
		h := newHarness(t, g, users(userA, userB))
		_, ok := h.manager.TimeLeft(time.Now())
		assert.False(t, ok, "not while one has never been active")
		g.failWith(nil)
		h.advance(5 * time.Second)
		left, ok := h.manager.TimeLeft(h.start.Add(5 * time.Second))
		assert.True(t, ok)
		assert.Equal(t, 71*time.Hour-5*time.Second, left, "the one that ends first counts")
		left, _ = h.manager.TimeLeft(h.start.Add(1000 * time.Hour))
		assert.Zero(t, left, "never below zero")

		g.failWith(func(c call) error {
			if c.op == "create" {
				return graphError(http.StatusForbidden, "", 0)
			}
			return nil
		})
		g.vanish("s1")
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		left, ok = h.manager.TimeLeft(time.Now())
		assert.True(t, ok)
		assert.Zero(t, left, "a lost one has no time left")
	})
}

// A resource without a usable subscription is interrupted even if the old one cannot be deleted.
func TestUsers_InterruptedWhileOldCannotBeDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		misfit := existing("old", 70*time.Hour, func(s *graph.Subscription) { s.Resource, s.EncryptionCertificateID = userB, "gone" })
		g.subs = append(g.subs, misfit)
		g.failWith(func(c call) error {
			if c.op == "delete" {
				return graphError(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		})
		h := newHarness(t, g, func(s *subscription.Settings) { s.Resources = []string{userA, userB} })
		h.advance(time.Hour)
		assert.Contains(t, h.interruptions, interruption{userB, subscription.ReasonRemovedKey, time.Time{}})
		assert.Len(t, h.restored, 1, "the one of the other user")
		assert.Len(t, h.interruptions, 2, "it is reported once")
	})
}
