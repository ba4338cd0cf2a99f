package subscription_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

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
		assert.Zero(t, h.logs.Len(), "what the end cut off has not failed")
		assert.Empty(t, h.statuses)
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.Resources = nil })
		h.advance(time.Hour)
		h.stop()
		assert.Zero(t, h.graph.count())
	})
}

// hangingGraph is a Graph whose creation takes until the caller gives up.
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
		assert.Empty(t, h.known)
		require.NoError(t, h.manager.Delete(t.Context()))
		assert.Equal(t, 1, g.count("delete"), "once is enough")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.stop()
		h.graph.vanish("s1")
		require.NoError(t, h.manager.Delete(t.Context()), "gone already is as good")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.stop()
		h.graph.failWith(func(call) error { return graphError(http.StatusServiceUnavailable, "", 0) })
		err := h.manager.Delete(t.Context())
		require.ErrorContains(t, err, "delete subscription s1")
		var said *graph.Error
		require.ErrorAs(t, err, &said)
		assert.Equal(t, http.StatusServiceUnavailable, said.Status)
	})
}

// lostResponseGraph is a Graph that creates, and whose answer does not come before the caller gives up.
type lostResponseGraph struct{ *fakeGraph }

func (s lostResponseGraph) CreateSubscription(ctx context.Context, wanted graph.Subscription) (graph.Subscription, error) {
	if _, err := s.fakeGraph.CreateSubscription(ctx, wanted); err != nil {
		return graph.Subscription{}, err
	}
	<-ctx.Done()
	return graph.Subscription{}, ctx.Err()
}

func TestManager_DeleteRemovesCanceledCreation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 50*time.Hour, atTheirURL, func(s *graph.Subscription) { s.Resource = userB }))
		h := newHarness(t, g, func(s *subscription.Settings) { s.Graph = lostResponseGraph{g} })
		h.stop()
		require.Len(t, g.activeIDs(), 2, "it was created after all")
		require.NoError(t, h.manager.Delete(t.Context()))
		assert.Equal(t, []string{"f"}, g.activeIDs())
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		h := newHarness(t, g, func(s *subscription.Settings) { s.Graph = lostResponseGraph{g} })
		h.stop()
		g.failWith(func(c call) error { return graphError(http.StatusServiceUnavailable, c.op, 0) })
		require.ErrorContains(t, h.manager.Delete(t.Context()), "creation was cut off")
		g.failWith(func(c call) error {
			if c.op == "delete" {
				return graphError(http.StatusServiceUnavailable, c.op, 0)
			}
			return nil
		})
		require.ErrorContains(t, h.manager.Delete(t.Context()), "delete subscription")
		g.failWith(nil)
		require.NoError(t, h.manager.Delete(t.Context()))
		assert.Empty(t, g.activeIDs())
	})
}
