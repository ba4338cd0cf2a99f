// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestConflict_NamesConflictingSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 70*time.Hour, atTheirURL))
		h := newHarness(t, g)
		h.advance(time.Hour)
		assert.Zero(t, g.count("create", "delete", "renew"), "a subscription of others is not changed")
		require.Len(t, h.statuses, 1)
		assert.Equal(t, failure.SubscriptionConflict, failure.Of(h.statuses[0]).Code)
		require.ErrorContains(t, h.statuses[0], "replace_foreign")
		assert.NotContains(t, h.statuses[0].Error(), "hidden", "the query of its URL may be a secret")

		lines := h.lines("subscription fails, will be tried again")
		require.Len(t, lines, 1)
		fields := lines[0].ContextMap()
		assert.Contains(t, fields["error"], "f")
		assert.Contains(t, fields["error"], "other.example.com")
		assert.NotContains(t, fields["error"], "hidden")
		assert.Contains(t, fields["hint"], "replace_foreign")
		assert.Less(t, g.count("list"), 50, "it backs off")
		_, ok := h.manager.TimeLeft(time.Now())
		assert.False(t, ok)
		assert.Empty(t, h.checked)
		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonConflict, time.Time{}}}, h.interruptions)

		g.vanish("f")
		h.advance(5 * time.Minute)
		assert.Equal(t, []string{"s1"}, g.activeIDs(), "it creates one as soon as the slot is free")
		require.Len(t, h.statuses, 2)
		require.NoError(t, h.statuses[1])
		assert.Len(t, h.lines("subscription failure is over"), 1)
	})
}

func TestConflict_CreatesWhenSlotBecomesFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 70*time.Hour, atTheirURL))
		h := newHarness(t, g, func(s *subscription.Settings) { s.CheckInterval = time.Second })
		h.advance(59 * time.Minute)
		g.vanish("f")
		h.advance(time.Second)
		assert.Equal(t, []string{"s1"}, g.activeIDs())
		assert.Len(t, h.lines("subscription fails, will be tried again"), 1)
	})
}

// A short check interval does not shorten the backoff of a failed deletion.
func TestManager_FrequentChecksKeepBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, resource := range []string{tenantWide, userB} {
			g := &fakeGraph{fail: func(c call) error {
				if c.op == "delete" {
					return graphError(http.StatusBadGateway, "", 0)
				}
				return nil
			}}
			g.put(existing("x", 70*time.Hour, func(s *graph.Subscription) {
				s.Resource, s.EncryptionCertificateID = resource, "old"
			}))
			h := newHarness(t, g, func(s *subscription.Settings) { s.CheckInterval = time.Second })
			h.advance(time.Hour)
			assert.Less(t, g.count("delete"), 40, resource)
			h.stop()
		}
	})
}

// A conflicting subscription is replaced once, so that two collectors do not replace each other's forever.
func TestConflict_ReplacesOncePerProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 70*time.Hour, atTheirURL))
		h := newHarness(t, g, func(s *subscription.Settings) { s.ReplaceForeign = true })
		requireOps(t, h, "list", "delete", "create")
		assert.Equal(t, []string{"s1"}, g.activeIDs())
		assert.Equal(t, []subscription.Reason{subscription.ReasonConflict}, h.recreated)

		g.vanish("s1")
		g.put(existing("f", 70*time.Hour, atTheirURL))
		h.advance(time.Hour)
		assert.Equal(t, []string{"f"}, g.activeIDs(), "the second time the other one stays")
		assert.Equal(t, 1, g.count("delete"))
		assert.Len(t, h.statuses, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(c call) error {
			if c.op == "delete" {
				return graphError(http.StatusInternalServerError, "", 0)
			}
			return nil
		}}
		g.put(existing("f", 70*time.Hour, atTheirURL))
		h := newHarness(t, g, func(s *subscription.Settings) { s.ReplaceForeign = true })
		g.failWith(nil)
		h.advance(time.Minute)
		assert.Equal(t, []string{"s1"}, g.activeIDs(), "a failed deletion does not count as the one replacement")
	})
}

// Graph may report an exhausted quota although the list shows no subscription.
func TestConflict_BacksOffOnUnexplainedQuota(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusConflict, http.StatusForbidden} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, &fakeGraph{fail: func(c call) error {
				if c.op == "create" {
					return graphError(status, "Quota", 0)
				}
				return nil
			}})
			h.advance(24 * time.Hour)
			assert.Less(t, h.graph.count("create"), 600)
			assert.Greater(t, h.graph.count("create"), 280, "forever, at most 5 min apart")
			assertHourlyFailures(t, h, 24*time.Hour)
			require.Len(t, h.statuses, 1)
			var failed *graph.Error
			require.ErrorAs(t, h.statuses[0], &failed)
			assert.Equal(t, status, failed.Status)
			h.graph.failWith(nil)
			h.advance(5 * time.Minute)
			assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
		})
	}
}

// A creation that fails because of a subscription that the list showed too late is resolved by adopting it.
func TestConflict_AdoptsSubscriptionListedLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{listLag: 30 * time.Second}
		g.put(existing("x", 70*time.Hour))
		h := newHarness(t, g)
		require.Error(t, errors.Join(h.statuses...))
		h.advance(2 * time.Minute)
		assert.Equal(t, []string{"x"}, g.activeIDs())
		assert.Zero(t, g.count("delete"))
		require.Len(t, h.statuses, 2)
		assert.NoError(t, h.statuses[1])
	})
}

// replica is one of several receivers that share an application and a notification URL.
type replica struct {
	*harness
	deleted *[]time.Time
}

// deleteCounter records the deletions of one replica.
type deleteCounter struct {
	*fakeGraph
	deleted *[]time.Time
}

func (c deleteCounter) DeleteSubscription(ctx context.Context, id string) error {
	err := c.fakeGraph.DeleteSubscription(ctx, id)
	if err == nil {
		*c.deleted = append(*c.deleted, time.Now())
	}
	return err
}

// newReplica starts a receiver whose only certificate has the given id.
func newReplica(t *testing.T, g *fakeGraph, certificateID string, changes ...func(*subscription.Settings)) replica {
	t.Helper()
	deleted := new([]time.Time)
	own := func(s *subscription.Settings) {
		s.Graph = deleteCounter{g, deleted}
		s.Keys = keys(certificateID)
	}
	return replica{newHarness(t, g, append([]func(*subscription.Settings){own}, changes...)...), deleted}
}

func checkInterval(interval time.Duration) func(*subscription.Settings) {
	return func(s *subscription.Settings) { s.CheckInterval = interval }
}

// countConflicts returns the number of logged failures, each of which must name the settings to change.
func (r replica) countConflicts(t *testing.T) int {
	t.Helper()
	n := 0
	for _, line := range r.lines("subscription fails, will be tried again") {
		if fields := line.ContextMap(); assert.Contains(t, fields["hint"], "encryption.certificates") {
			assert.Contains(t, fields["hint"], "notification_url")
			n++
		}
	}
	return n
}

// requireConflict checks that the replica reports a key conflict as its only failure.
func (r replica) requireConflict(t *testing.T) {
	t.Helper()
	require.Len(t, r.statuses, 1)
	require.Equal(t, failure.SubscriptionKeyConflict, failure.Of(r.statuses[0]).Code)
	require.ErrorContains(t, r.statuses[0], "encryption.certificates")
	require.Equal(t, 1, r.countConflicts(t))
}

// certificates returns the certificate ids of the active subscriptions.
func (f *fakeGraph) certificates() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for _, s := range f.subs {
		if s.Expiration.After(time.Now()) {
			ids = append(ids, s.EncryptionCertificateID)
		}
	}
	return ids
}

func TestKeyConflict_LimitsReplacementsToTwo(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		graph    func(*fakeGraph)
		interval time.Duration
		users    []string
	}{
		"checked each second":                       {interval: time.Second},
		"checked each five minutes":                 {interval: 5 * time.Minute},
		"checked each half hour":                    {interval: 30 * time.Minute},
		"the list omits the certificates":           {interval: time.Second, graph: func(f *fakeGraph) { f.omitCertificateID = true }},
		"the list lags behind":                      {interval: time.Minute, graph: func(f *fakeGraph) { f.listLag = 20 * time.Second }},
		"two users have subscriptions of their own": {interval: time.Second, users: []string{userA, userB}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGraph{}
				if change.graph != nil {
					change.graph(g)
				}
				resources := []string{tenantWide}
				if change.users != nil {
					resources = change.users
				}
				a := newReplica(t, g, "a", checkInterval(change.interval), users(resources...))
				a.advance(change.interval/2 + change.interval)
				b := newReplica(t, g, "b", checkInterval(change.interval), users(resources...))
				b.advance(time.Minute + 2*change.interval)
				for _, r := range []replica{a, b} {
					assert.LessOrEqual(t, len(*r.deleted), 2*len(resources))
					r.requireConflict(t)
				}
				owned := g.activeIDs()
				require.Len(t, owned, len(resources))
				b.advance(30*time.Minute - change.interval)
				assert.Equal(t, owned, g.activeIDs(), "the current owner keeps it")
			})
		})
	}
}

// The receiver without the subscription gets it when that of the other one is gone.
func TestKeyConflict_SurvivorTakesOver(t *testing.T) {
	t.Parallel()
	deletes := func(t *testing.T, gone replica) {
		t.Helper()
		require.NoError(t, gone.manager.Delete(t.Context()))
	}
	for name, c := range map[string]struct {
		interval time.Duration // 5 min unless set
		end      func(t *testing.T, gone replica)
		within   time.Duration
	}{
		"when the subscription of one that crashed has ended":         {within: 71*time.Hour + 5*time.Minute},
		"at the next check after the other one deleted it at its end": {end: deletes, within: 5 * time.Minute},
		"immediately if checks are frequent":                          {interval: time.Second, end: deletes, within: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGraph{}
				interval := cmp.Or(c.interval, 5*time.Minute)
				a := newReplica(t, g, "a", checkInterval(interval))
				a.advance(interval / 2)
				b := newReplica(t, g, "b", checkInterval(interval))
				b.advance(25 * time.Minute)
				gone, left := a, b
				if g.certificates()[0] == "b" {
					gone, left = b, a
				}
				lost := left.interruptions[len(left.interruptions)-1]
				restored := len(left.restored)
				gone.stop()
				if c.end != nil {
					c.end(t, gone)
				}
				left.advance(c.within)
				require.Len(t, g.certificates(), 1)
				assert.Equal(t, left.known()[0].CertificateID, g.certificates()[0], "the survivor has it")
				require.Len(t, left.restored, restored+1)
				assert.False(t, lost.since.IsZero(), "what it missed since then is read now")
				left.advance(2*time.Hour + 2*interval)
				assert.Len(t, left.lines("subscription failure is over"), 1)
				require.Len(t, left.statuses, 2)
				assert.NoError(t, left.statuses[1])
			})
		})
	}
}

// A subscription that nobody replaces for two hours ends the conflict.
func TestKeyConflict_EndsWhenSubscriptionLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		h := newHarness(t, g)
		for round := range 3 {
			for range 2 {
				g.vanish(g.activeIDs()[0])
				g.put(existing(fmt.Sprint("b", time.Since(h.start)), 70*time.Hour, func(s *graph.Subscription) { s.EncryptionCertificateID = "theirs" }))
				h.advance(10 * time.Minute)
				require.Equal(t, []string{"new"}, g.certificates())
			}
			require.Len(t, h.statuses, 2*round+1)
			require.ErrorContains(t, h.statuses[2*round], "COP331")
			h.advance(2 * time.Hour)
			require.Len(t, h.statuses, 2*round+2)
			require.NoError(t, h.statuses[2*round+1])
		}
	})
}

func TestKeyConflict_ReplacesLeftoverImmediately(t *testing.T) {
	t.Parallel()
	lost := func(s *graph.Subscription) { s.EncryptionCertificateID = "lost" }
	for name, known := range map[string][]subscription.Known{
		"the storage was lost":         nil,
		"its key was removed":          {{ID: "x", CertificateID: "lost"}},
		"its certificate is not known": {{ID: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGraph{deleteLag: 50 * time.Second}
				g.put(existing("x", 70*time.Hour, lost))
				b := newReplica(t, g, "new", checkInterval(10*time.Second), knowing(t, known...))
				assert.Equal(t, []string{"new"}, g.certificates())
				b.advance(24 * time.Hour)
				assert.Equal(t, []string{"new"}, g.certificates())
				assert.Empty(t, b.statuses)
				assert.Equal(t, 1, g.count("create"))
			})
		})
	}
}

func TestKeyConflict_IgnoresRollingUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		for n := range 5 {
			old := newReplica(t, g, fmt.Sprintf("generation %d", n))
			old.advance(24*time.Hour + time.Minute)
			assert.Equal(t, []string{fmt.Sprintf("generation %d", n)}, g.certificates())
			assert.Empty(t, old.statuses)
			next := newReplica(t, g, fmt.Sprintf("generation %d", n+1))
			old.stop()
			assert.Equal(t, []string{fmt.Sprintf("generation %d", n+1)}, g.certificates(), "the new one replaces it immediately")
			next.stop()
		}
	})
}

// A restart forgets the conflict, so it replaces the other receiver's subscription once.
func TestKeyConflict_RestartReplacesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		a, b := newReplica(t, g, "a"), newReplica(t, g, "b")
		b.advance(30 * time.Minute)
		blocked, stays, key := a, b, "a"
		if g.certificates()[0] == "a" {
			blocked, stays, key = b, a, "b"
		}
		blocked.stop()
		before := len(*stays.deleted)
		again := newReplica(t, g, key, after(blocked.harness))
		again.advance(45 * time.Minute)
		assert.Len(t, *again.deleted, 1)
		assert.Len(t, *stays.deleted, before, "the other one waits")
		assert.Equal(t, []string{key}, g.certificates())
	})
}

// Two receivers with different resources and keys delete each other's subscriptions as surplus, twice.
func TestKeyConflict_LeavesOtherResourcesAtSameURL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		a := newReplica(t, g, "a", users(userA), checkInterval(time.Second))
		b := newReplica(t, g, "b", users(userB), checkInterval(time.Second))
		b.advance(10 * time.Minute)
		for _, r := range []replica{a, b} {
			assert.LessOrEqual(t, len(*r.deleted), 2)
			assert.Empty(t, r.statuses)
		}
		assert.ElementsMatch(t, []string{"a", "b"}, g.certificates(), "both have a subscription")
	})
}

func TestKeyConflict_NoneWithSharedCertificates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		a := newReplica(t, g, "shared", checkInterval(time.Minute))
		b := newReplica(t, g, "shared", checkInterval(time.Minute))
		b.advance(100 * time.Hour)
		assert.Equal(t, 1, g.count("create"))
		for _, r := range []replica{a, b} {
			assert.Empty(t, *r.deleted)
			assert.Empty(t, r.statuses)
		}
	})
}
