// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// What is published while the ingress is broken is not delivered later if its subscription is removed meanwhile.
func TestBreakIngress_LosesDeliveriesOfRemovedSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	g.BreakIngress()

	_, err := g.Publish(t.Context(), newInteraction("1764599400001", "s", "1", alice, "Word"))
	require.NoError(t, err)
	require.NoError(t, g.Wait(deadline(t), func(stats graphtest.Stats) bool { return stats.Refused >= 2 }), "it is retried")
	require.NoError(t, g.RemoveSubscription(t.Context(), s.ID, false))
	require.NoError(t, g.WaitIdle(deadline(t)))
	offered, err := g.Publish(t.Context(), newInteraction("1764599400002", "s", "2", alice, "Word"))
	require.NoError(t, err)
	assert.Zero(t, offered)
	status, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, nil))
	assert.Equal(t, http.StatusBadRequest, status)
	_, message := errorOf(answer)
	assert.Contains(t, message, "HTTP status code is 'BadGateway'")

	g.RestoreIngress()
	g.subscribe(e, nil)
	_, err = g.Publish(t.Context(), newInteraction("1764599400003", "s", "3", alice, "Word"))
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), 1))
	posts, _ := e.received()
	assert.Len(t, posts, 1, "only what was published after the outage")
	assert.ElementsMatch(t, []string{"1764599400001", "1764599400002"}, g.Lost())
	found, _ := g.historyIDs(historyPath(alice, nil))
	assert.Equal(t, []string{"1764599400003", "1764599400002", "1764599400001"}, found)
}

// Within the life of a subscription, an outage only delays.
func TestBreakIngress_DelaysDeliveriesOfRemainingSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	g.BreakIngress()
	_, err := g.Publish(t.Context(), newInteraction("1764599400001", "s", "1", alice, "Word"))
	require.NoError(t, err)
	_, err = g.SendLifecycle(t.Context(), graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	require.NoError(t, g.Wait(deadline(t), func(stats graphtest.Stats) bool { return stats.Refused >= 4 }))
	posts, _ := e.received()
	assert.Empty(t, posts)
	g.RestoreIngress()
	require.NoError(t, g.WaitIdle(deadline(t)))
	posts, _ = e.received()
	assert.Len(t, posts, 2)
	assert.Empty(t, g.Lost())
}
