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

func TestSaysWhoStandsInTheWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 70*time.Hour, foreign))
		b := begin(t, g)
		b.pass(time.Hour)
		assert.Zero(t, g.count("create", "delete", "renew"), "it is not ours to touch")
		require.Len(t, b.statuses, 1)
		var inTheWay *subscription.ConflictError
		require.ErrorAs(t, b.statuses[0], &inTheWay)
		assert.Equal(t, subscription.ConflictError{ID: "f", Host: "other.example.com"}, *inTheWay)
		require.ErrorContains(t, b.statuses[0], "replace_foreign")
		assert.NotContains(t, b.statuses[0].Error(), "hidden", "the query of its URL may be a secret")

		lines := b.lines("subscription fails, will be tried again")
		require.Len(t, lines, 1)
		said := lines[0].ContextMap()
		assert.Contains(t, said["error"], "f")
		assert.Contains(t, said["error"], "other.example.com")
		assert.NotContains(t, said["error"], "hidden")
		assert.Contains(t, said["hint"], "replace_foreign")
		assert.Less(t, g.count("list"), 50, "it backs off")
		_, ok := b.keeper.TimeLeft(time.Now())
		assert.False(t, ok)
		assert.Empty(t, b.checked)
		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonConflict, time.Time{}}}, b.interruptions)

		g.drop("f")
		b.pass(5 * time.Minute)
		assert.Equal(t, []string{"s1"}, g.living(), "it creates as soon as the place is free")
		require.Len(t, b.statuses, 2)
		require.NoError(t, b.statuses[1])
		assert.Len(t, b.lines("subscription failure is over"), 1)
	})
}

func TestCreatesAsSoonAsALookShowsThePlaceFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 70*time.Hour, foreign))
		b := begin(t, g, func(s *subscription.Settings) { s.CheckInterval = time.Second })
		b.pass(59 * time.Minute)
		g.drop("f")
		b.pass(time.Second)
		assert.Equal(t, []string{"s1"}, g.living())
		assert.Len(t, b.lines("subscription fails, will be tried again"), 1)
	})
}

func TestFrequentLooksDoNotShortenABackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, resource := range []string{tenantWide, userB} {
			g := &fakeGraph{fail: func(c call) error {
				if c.op == "delete" {
					return refusal(http.StatusBadGateway, "", 0)
				}
				return nil
			}}
			g.put(existing("x", 70*time.Hour, func(s *graph.Subscription) {
				s.Resource, s.EncryptionCertificateID = resource, "old"
			}))
			b := begin(t, g, func(s *subscription.Settings) { s.CheckInterval = time.Second })
			b.pass(time.Hour)
			assert.Less(t, g.count("delete"), 40, resource)
			b.stop()
		}
	})
}

func TestReplacesAForeignOneOnceForEachProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 70*time.Hour, foreign))
		b := begin(t, g, func(s *subscription.Settings) { s.ReplaceForeign = true })
		requireOps(t, b, "list", "delete", "create")
		assert.Equal(t, []string{"s1"}, g.living())
		assert.Equal(t, []subscription.Reason{subscription.ReasonConflict}, b.recreated)

		g.drop("s1")
		g.put(existing("f2", 70*time.Hour, foreign))
		b.pass(time.Hour)
		assert.Equal(t, []string{"f2"}, g.living(), "the second time it gives way")
		assert.Equal(t, 1, g.count("delete"))
		assert.Len(t, b.statuses, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(c call) error {
			if c.op == "delete" {
				return refusal(http.StatusInternalServerError, "", 0)
			}
			return nil
		}}
		g.put(existing("f", 70*time.Hour, foreign))
		b := begin(t, g, func(s *subscription.Settings) { s.ReplaceForeign = true })
		g.failing(nil)
		b.pass(time.Minute)
		assert.Equal(t, []string{"s1"}, g.living(), "a deletion that failed does not use the one time up")
	})
}

func TestAQuotaThatTheListDoesNotExplainIsSaidAndBackedOff(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusConflict, http.StatusForbidden} {
		synctest.Test(t, func(t *testing.T) {
			b := begin(t, &fakeGraph{fail: func(c call) error {
				if c.op == "create" {
					return refusal(status, "Quota", 0)
				}
				return nil
			}})
			b.pass(24 * time.Hour)
			assert.Less(t, b.graph.count("create"), 600)
			assert.Greater(t, b.graph.count("create"), 280, "for ever, at most 5 min apart")
			assertHourlyFailures(t, b, 24*time.Hour)
			require.Len(t, b.statuses, 1)
			var said *graph.Error
			require.ErrorAs(t, b.statuses[0], &said)
			assert.Equal(t, status, said.Status)
			b.graph.failing(nil)
			b.pass(5 * time.Minute)
			assert.Equal(t, []string{"s1"}, b.graph.living())
		})
	}
}

func TestAConflictWithASubscriptionThatTheListShowedLateIsResolvedByAdoption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{lag: 30 * time.Second}
		g.put(existing("x", 70*time.Hour))
		b := begin(t, g)
		require.Error(t, errors.Join(b.statuses...))
		b.pass(2 * time.Minute)
		assert.Equal(t, []string{"x"}, g.living())
		assert.Zero(t, g.count("delete"))
		require.Len(t, b.statuses, 2)
		assert.NoError(t, b.statuses[1])
	})
}
