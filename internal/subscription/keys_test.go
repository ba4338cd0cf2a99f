// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
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

// setKeys sets new keys and waits until they were processed.
func (h *harness) setKeys(keys subscription.Keys) {
	h.locked(func() {})
	h.manager.SetKeys(keys)
	h.advance(time.Second)
}

func TestSetKeys_ReplacesSubscriptionOfEarlierCertificate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		graph     *fakeGraph
		keys      subscription.Keys
		reason    subscription.Reason
		confirmed time.Duration // since the start
	}{
		"whose key is still available": {&fakeGraph{}, keys("newer", "new"), subscription.ReasonReplaced, 7 * time.Minute},
		"whose key is gone":            {&fakeGraph{}, keys("newer"), subscription.ReasonRemovedKey, 5 * time.Minute},
		"if lists name no certificate": {
			&fakeGraph{omitCertificateID: true}, keys("newer", "new"), subscription.ReasonReplaced, 7 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, test.graph)
				h.advance(7 * time.Minute)
				h.setKeys(test.keys)
				requireOps(t, h, "list", "create", "list", "list", "delete", "create")
				created := h.graph.callsOf("create")[1].got
				assert.Equal(t, "newer", created.EncryptionCertificateID)
				assert.Equal(t, secret+tenantWide, created.ClientState)
				assert.Equal(t, []subscription.Reason{test.reason}, h.recreated)
				require.Len(t, h.interruptions, 2)
				assert.Equal(t, interruption{tenantWide, test.reason, h.start.Add(test.confirmed)}, h.interruptions[1])
				assert.Len(t, h.restored, 2)
				assert.Equal(t, []subscription.Known{{ID: "s2", CertificateID: "newer"}}, h.known())

				h.advance(time.Hour)
				assert.Equal(t, 2, h.graph.count("create"), "it is replaced once")
			})
		})
	}
}

func TestSetKeys_KeepsSubscriptionOfSameFirstCertificate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.advance(time.Minute)
		h.setKeys(keys("new", "old", "another"))
		h.setKeys(keys("new"))
		requireOps(t, h, "list", "create", "list", "list")
		assert.Len(t, h.interruptions, 1, "only the one before the first creation")
		assert.Empty(t, h.lines("subscription adopted"))
		left, found := h.manager.TimeLeft(time.Now())
		assert.True(t, found)
		assert.Equal(t, 71*time.Hour-62*time.Second, left)
	})
}

// Changes that nobody can decrypt are missing from the moment at which the key is gone, even if Graph can't be called then.
func TestSetKeys_InterruptsAtOnceWithoutKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(call) error { return graphError(http.StatusTooManyRequests, "", time.Hour) })
		h.advance(6 * time.Minute)
		h.setKeys(keys("newer"))
		require.Len(t, h.interruptions, 2)
		assert.Equal(t, subscription.ReasonRemovedKey, h.interruptions[1].reason)
		lines := h.lines("subscription can't be decrypted any more")
		require.Len(t, lines, 1)
		assert.Equal(t, string(failure.CertificateMissing), lines[0].ContextMap()["code"])
		assert.Len(t, h.restored, 1)
		h.graph.failWith(nil)
		h.advance(time.Hour)
		assert.Equal(t, []string{"s2"}, h.graph.activeIDs())
		assert.Len(t, h.restored, 2)
	})
}

func TestSetKeys_LosesNoLifecycleEvent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind   string
		keys   subscription.Keys
		reason subscription.Reason
		ops    []string // after the creation
	}{
		"missed, before a replacement": {
			subscription.Missed, keys("newer", "new"), subscription.ReasonMissed, []string{"list", "delete", "create"},
		},
		"missed, without a replacement": {subscription.Missed, keys("new", "another"), subscription.ReasonMissed, []string{"list"}},
		"removed":                       {subscription.SubscriptionRemoved, keys("newer", "new"), subscription.ReasonRemoved, []string{"list", "create"}},
		"a reauthorization":             {subscription.ReauthorizationRequired, keys("new", "another"), "", []string{"renew", "list"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, &fakeGraph{})
				h.advance(time.Minute)
				if test.kind == subscription.SubscriptionRemoved {
					h.graph.vanish("s1")
				}
				h.manager.Wake(subscription.Event{Kind: test.kind, SubscriptionID: "s1"})
				h.setKeys(test.keys)
				requireOps(t, h, append([]string{"list", "create"}, test.ops...)...)
				assert.Len(t, h.restored, len(h.interruptions))
				if test.reason == "" {
					assert.Len(t, h.interruptions, 1, "only the one before the first creation")
					return
				}
				require.Greater(t, len(h.interruptions), 1)
				assert.Equal(t, test.reason, h.interruptions[1].reason)
			})
		})
	}
}

// A certificate that Graph does not accept need not wait for the back-off once it is replaced.
func TestSetKeys_RetriesFailedCreationAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" && c.got.EncryptionCertificateID == "new" {
				return graphError(http.StatusBadRequest, "BadRequest", 0)
			}
			return nil
		}})
		h.advance(time.Hour)
		require.Empty(t, h.graph.activeIDs())
		h.setKeys(keys("newer"))
		assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
	})
}

func TestSetKeys_EndsConflictWithSharedKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		h := newHarness(t, g)
		for _, id := range []string{"b1", "b2", "b3"} {
			for _, own := range g.activeIDs() {
				g.vanish(own)
			}
			g.put(existing(id, 70*time.Hour, func(s *graph.Subscription) { s.EncryptionCertificateID = "theirs" }))
			h.advance(5 * time.Minute)
		}
		require.Equal(t, []string{"b3"}, g.activeIDs(), "the replacement is deferred")
		require.Error(t, h.statuses[len(h.statuses)-1])
		h.setKeys(keys("theirs"))
		assert.Equal(t, []string{"b3"}, g.activeIDs())
		assert.Len(t, h.lines("subscription adopted"), 1)
		require.NoError(t, h.statuses[len(h.statuses)-1])
	})
}

// Keys that are set before the first list are those of the first creation.
func TestSetKeys_BeforeFirstList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(call) error { return graphError(http.StatusInternalServerError, "", 0) }}
		h := newHarness(t, g)
		h.setKeys(keys("newer"))
		g.failWith(nil)
		h.advance(5 * time.Minute)
		require.Len(t, g.callsOf("create"), 1)
		assert.Equal(t, "newer", g.callsOf("create")[0].got.EncryptionCertificateID)
	})
}
