package subscription_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
		assert.Zero(t, g.count("create", "delete", "renew"), "it is not ours to touch")
		require.Len(t, h.statuses, 1)
		var inTheWay *subscription.ConflictError
		require.ErrorAs(t, h.statuses[0], &inTheWay)
		assert.Equal(t, subscription.ConflictError{ID: "f", Host: "other.example.com"}, *inTheWay)
		require.ErrorContains(t, h.statuses[0], "replace_foreign")
		assert.NotContains(t, h.statuses[0].Error(), "hidden", "the query of its URL may be a secret")

		lines := h.lines("subscription fails, will be tried again")
		require.Len(t, lines, 1)
		said := lines[0].ContextMap()
		assert.Contains(t, said["error"], "f")
		assert.Contains(t, said["error"], "other.example.com")
		assert.NotContains(t, said["error"], "hidden")
		assert.Contains(t, said["hint"], "replace_foreign")
		assert.Less(t, g.count("list"), 50, "it backs off")
		_, ok := h.manager.TimeLeft(time.Now())
		assert.False(t, ok)
		assert.Empty(t, h.checked)
		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonConflict, time.Time{}}}, h.interruptions)

		g.vanish("f")
		h.advance(5 * time.Minute)
		assert.Equal(t, []string{"s1"}, g.activeIDs(), "it creates as soon as the place is free")
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
		g.put(existing("f2", 70*time.Hour, atTheirURL))
		h.advance(time.Hour)
		assert.Equal(t, []string{"f2"}, g.activeIDs(), "the second time it gives way")
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
		assert.Equal(t, []string{"s1"}, g.activeIDs(), "a deletion that failed does not use the one time up")
	})
}

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
			assert.Greater(t, h.graph.count("create"), 280, "for ever, at most 5 min apart")
			assertHourlyFailures(t, h, 24*time.Hour)
			require.Len(t, h.statuses, 1)
			var said *graph.Error
			require.ErrorAs(t, h.statuses[0], &said)
			assert.Equal(t, status, said.Status)
			h.graph.failWith(nil)
			h.advance(5 * time.Minute)
			assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
		})
	}
}

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
