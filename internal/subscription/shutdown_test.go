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

func TestCancellationEndsRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.stop()
		assert.Zero(t, time.Since(b.start))
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		b := begin(t, g, func(s *subscription.Settings) { s.Graph = hanging{g} })
		b.pass(time.Minute)
		b.stop()
		assert.Equal(t, time.Minute, time.Since(b.start))
		assert.Zero(t, b.logs.Len(), "what the end cut off has not failed")
		assert.Empty(t, b.statuses)
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, func(s *subscription.Settings) { s.Resources = nil })
		b.pass(time.Hour)
		b.stop()
		assert.Zero(t, b.graph.count())
	})
}

// hanging is a Graph whose creation takes until the caller gives up.
type hanging struct{ *fakeGraph }

func (hanging) CreateSubscription(ctx context.Context, _ graph.Subscription) (graph.Subscription, error) {
	<-ctx.Done()
	return graph.Subscription{}, ctx.Err()
}

func TestDeletesItsOwnOnShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 50*time.Hour, foreign, func(s *graph.Subscription) { s.Resource = userB }))
		b := begin(t, g)
		b.stop()
		require.NoError(t, b.keeper.Delete(t.Context()))
		assert.Equal(t, []string{"f"}, g.living())
		assert.Empty(t, b.known)
		require.NoError(t, b.keeper.Delete(t.Context()))
		assert.Equal(t, 1, g.count("delete"), "once is enough")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.stop()
		b.graph.drop("s1")
		require.NoError(t, b.keeper.Delete(t.Context()), "gone already is as good")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.stop()
		b.graph.failing(func(call) error { return refusal(http.StatusServiceUnavailable, "", 0) })
		err := b.keeper.Delete(t.Context())
		require.ErrorContains(t, err, "delete subscription s1")
		var said *graph.Error
		require.ErrorAs(t, err, &said)
		assert.Equal(t, http.StatusServiceUnavailable, said.Status)
	})
}

// unanswered is a Graph that creates, and whose answer does not come before the caller gives up.
type unanswered struct{ *fakeGraph }

func (s unanswered) CreateSubscription(ctx context.Context, wanted graph.Subscription) (graph.Subscription, error) {
	if _, err := s.fakeGraph.CreateSubscription(ctx, wanted); err != nil {
		return graph.Subscription{}, err
	}
	<-ctx.Done()
	return graph.Subscription{}, ctx.Err()
}

func TestDeletesWhatWasBeingCreatedOnShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("f", 50*time.Hour, foreign, func(s *graph.Subscription) { s.Resource = userB }))
		b := begin(t, g, func(s *subscription.Settings) { s.Graph = unanswered{g} })
		b.stop()
		require.Len(t, g.living(), 2, "it was created after all")
		require.NoError(t, b.keeper.Delete(t.Context()))
		assert.Equal(t, []string{"f"}, g.living())
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		b := begin(t, g, func(s *subscription.Settings) { s.Graph = unanswered{g} })
		b.stop()
		g.failing(func(c call) error { return refusal(http.StatusServiceUnavailable, c.op, 0) })
		require.ErrorContains(t, b.keeper.Delete(t.Context()), "creation was cut off")
		g.failing(func(c call) error {
			if c.op == "delete" {
				return refusal(http.StatusServiceUnavailable, c.op, 0)
			}
			return nil
		})
		require.ErrorContains(t, b.keeper.Delete(t.Context()), "delete subscription")
		g.failing(nil)
		require.NoError(t, b.keeper.Delete(t.Context()))
		assert.Empty(t, g.living())
	})
}
