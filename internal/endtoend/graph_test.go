package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestGraphFailure_RetriesWithoutStorm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault graphtest.Fault
		// spacing is the least time between two tries.
		spacing time.Duration
	}{
		"429 with Retry-After":   {graphtest.Fault{Status: 429, RetryAfter: "3"}, 3 * time.Second},
		"503 with Retry-After":   {graphtest.Fault{Status: 503, RetryAfter: "2"}, 2 * time.Second},
		"503":                    {graphtest.Fault{Status: 503}, 0},
		"500":                    {graphtest.Fault{Status: 500}, 0},
		"a connection reset":     {graphtest.Fault{Reset: true}, 0},
		"an endless body":        {graphtest.Fault{Endless: true}, 0},
		"a body that is no JSON": {graphtest.Fault{InvalidJSON: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, "")
			h.emulator.Fail(graphtest.AnyGraph, test.fault)
			collector := h.run(t)
			collector.awaitLine(t, "subscription fails", waitTimeout)
			<-time.After(8 * time.Second)
			tries := h.emulator.Requests(graphtest.OpList)
			assert.LessOrEqual(t, len(tries), 8, "no storm")
			for i := range tries[1:] {
				assert.GreaterOrEqual(t, tries[i+1].At.Sub(tries[i].At), test.spacing, "what Graph asked to wait is waited")
			}
			assert.Len(t, collector.linesWith("subscription fails"), 1, "it is said once")
			h.emulator.Heal()
			h.awaitSubscribed(t)
			collector.awaitLine(t, "subscription failure is over", waitTimeout)
			in := prompts(t, 10, 2)
			h.publish(t, in...)
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
		})
	}
}

func TestSubscription_IsAdoptedAfterRestart(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
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

func TestSubscription_SecondCollectorKeepsFirst(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
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
	assert.Contains(t, line, h.webhook, "the host that stands in the way")
	assert.Contains(t, line, subscription.ID)
	assert.Contains(t, line, "replace_foreign")
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, 8), "both go on looking")
	in := prompts(t, 10, 2)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, subscription.ID, h.awaitSubscribed(t).ID)
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
	assert.Empty(t, first.linesWith("subscription fails"), "the first one's subscription lives, so nothing is wrong with it")

	first.terminate(t)
	require.NoError(t, h.emulator.ExpireSubscription(subscription.ID, time.Now()))
	second.awaitLine(t, "subscription failure is over", time.Minute)
	taken := h.awaitSubscribed(t)
	again := h.run(t)
	line = again.awaitLine(t, "subscription fails", waitTimeout)
	assert.Contains(t, line, other.webhook, "now it is the second that stands in the way of the first")
	assert.Contains(t, line, taken.ID)
	require.NoError(t, h.emulator.WaitRequests(t.Context(), graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+4))
	assert.Equal(t, taken.ID, h.awaitSubscribed(t).ID)
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
}

func TestClock_OneHourOffIsReported(t *testing.T) {
	t.Parallel()
	for reason, shift := range map[string]time.Duration{"token_expired": -25 * time.Hour, "token_not_yet_valid": time.Hour} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, "")
			collector := h.run(t)
			h.awaitSubscribed(t)
			c, err := h.emulator.Collection(prompts(t, 1, 1)...)
			require.NoError(t, err)
			c.ValidationTokens = []string{h.emulator.Token(func(claims map[string]any) {
				for _, name := range []string{"iat", "nbf", "exp"} {
					claims[name] = shifted(claims[name], shift)
				}
			})}
			status, err := h.emulator.Post(t.Context(), c)
			require.NoError(t, err)
			assert.Equal(t, 202, status)
			line := collector.awaitLine(t, reason, waitTimeout)
			assert.Contains(t, line, "clock")
		})
	}
}

func shifted(claim any, by time.Duration) any {
	switch seconds := claim.(type) {
	case int64:
		return seconds + int64(by.Seconds())
	case float64:
		return seconds + by.Seconds()
	default:
		return claim
	}
}
