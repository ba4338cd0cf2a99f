// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestSubscription_IsAdoptedAfterRestart(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "")
	first := h.run(t)
	subscription := h.awaitSubscribed(t)
	first.terminate(t)
	second := h.run(t)
	second.awaitLine(t, "subscription adopted", waitTimeout)
	in := prompts(t, 10, 2)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, subscription.ID, h.awaitSubscribed(t).ID)
	assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1)
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
}

// A second collector with another notification URL does not replace the subscription of the first.
func TestSubscription_SecondCollectorKeepsFirst(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "")
	first := h.run(t)
	subscription := h.awaitSubscribed(t)
	other := *h
	other.webhook, other.storage = freeAddress(t), t.TempDir()
	other.environment = []string{"OTHER_WEBHOOK=" + other.webhook}
	other.configure(t, `
receivers:
  m365_copilot:
    webhook: {endpoint: "${env:OTHER_WEBHOOK}"}
`)
	second := other.run(t)
	line := second.awaitLine(t, "subscription fails", waitTimeout)
	assert.Contains(t, line, h.webhook, "the host of the conflicting subscription")
	assert.Contains(t, line, subscription.ID)
	assert.Contains(t, line, "replace_foreign")
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, 8), "both continue to check")
	in := prompts(t, 10, 2)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, subscription.ID, h.awaitSubscribed(t).ID)
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
	assert.Empty(t, first.linesWith("subscription fails"), "the first one's subscription is active, so nothing is wrong with it")

	first.terminate(t)
	require.NoError(t, h.emulator.ExpireSubscription(subscription.ID, time.Now()))
	second.awaitLine(t, "subscription failure is over", time.Minute)
	taken := h.awaitSubscribed(t)
	again := h.run(t)
	line = again.awaitLine(t, "subscription fails", waitTimeout)
	assert.Contains(t, line, other.webhook, "now the second one conflicts with the first")
	assert.Contains(t, line, taken.ID)
	require.NoError(t, h.emulator.WaitRequests(deadline(t), graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+4))
	assert.Equal(t, taken.ID, h.awaitSubscribed(t).ID)
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
}
