package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestEveryWayInWhichGraphFailsIsWaitedForWithoutAStorm(t *testing.T) {
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
			s := newSite(t, "")
			s.emulator.Fail(graphtest.AnyGraph, test.fault)
			collector := s.run(t)
			collector.awaitLine(t, "subscription fails", soon)
			<-time.After(8 * time.Second)
			tries := s.emulator.Requests(graphtest.OpList)
			assert.LessOrEqual(t, len(tries), 8, "no storm")
			for i := range tries[1:] {
				assert.GreaterOrEqual(t, tries[i+1].At.Sub(tries[i].At), test.spacing, "what Graph asked to wait is waited")
			}
			assert.Len(t, collector.said("subscription fails"), 1, "it is said once")
			s.emulator.Heal()
			s.subscribed(t)
			collector.awaitLine(t, "subscription failure is over", soon)
			in := prompts(t, 10, 2)
			s.publish(t, in...)
			s.backend.await(t, names(t, in...), soon)
		})
	}
}

func TestARestartAdoptsTheSubscription(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	first := s.run(t)
	subscription := s.subscribed(t)
	first.terminate(t)
	second := s.run(t)
	second.awaitLine(t, "subscription adopted", soon)
	in := prompts(t, 10, 2)
	s.publish(t, in...)
	s.backend.await(t, names(t, in...), soon)
	assert.Equal(t, subscription.ID, s.subscribed(t).ID)
	assert.Len(t, s.emulator.Requests(graphtest.OpCreate), 1)
	assert.Empty(t, s.emulator.Requests(graphtest.OpDelete))
}

func TestASecondCollectorWithAnotherURLLeavesTheFirstAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	first := s.run(t)
	subscription := s.subscribed(t)
	other := *s
	other.webhook, other.storage = freeAddress(t), t.TempDir()
	other.environment = []string{"OTHER_WEBHOOK=" + other.webhook}
	other.own(t, `
receivers:
  m365_copilot:
    webhook: {endpoint: "${env:OTHER_WEBHOOK}"}
`)
	second := other.run(t)
	line := second.awaitLine(t, "subscription fails", soon)
	assert.Contains(t, line, s.webhook, "the host that stands in the way")
	assert.Contains(t, line, subscription.ID)
	assert.Contains(t, line, "replace_foreign")
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.WaitRequests(ctx, graphtest.OpList, 8), "both go on looking")
	in := prompts(t, 10, 2)
	s.publish(t, in...)
	s.backend.await(t, names(t, in...), soon)
	assert.Equal(t, subscription.ID, s.subscribed(t).ID)
	assert.Empty(t, s.emulator.Requests(graphtest.OpDelete))
	assert.Empty(t, first.said("subscription fails"), "the first one's subscription lives, so nothing is wrong with it")

	first.terminate(t)
	require.NoError(t, s.emulator.ExpireSubscription(subscription.ID, time.Now()))
	second.awaitLine(t, "subscription failure is over", time.Minute)
	taken := s.subscribed(t)
	again := s.run(t)
	line = again.awaitLine(t, "subscription fails", soon)
	assert.Contains(t, line, other.webhook, "now it is the second that stands in the way of the first")
	assert.Contains(t, line, taken.ID)
	require.NoError(t, s.emulator.WaitRequests(t.Context(), graphtest.OpList, len(s.emulator.Requests(graphtest.OpList))+4))
	assert.Equal(t, taken.ID, s.subscribed(t).ID)
	assert.Empty(t, s.emulator.Requests(graphtest.OpDelete))
}

func TestAClockThatIsAnHourOffIsSaid(t *testing.T) {
	t.Parallel()
	for reason, shift := range map[string]time.Duration{"token_expired": -25 * time.Hour, "token_not_yet_valid": time.Hour} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "")
			collector := s.run(t)
			s.subscribed(t)
			c, err := s.emulator.Collection(prompts(t, 1, 1)...)
			require.NoError(t, err)
			c.ValidationTokens = []string{s.emulator.Token(func(claims map[string]any) {
				for _, name := range []string{"iat", "nbf", "exp"} {
					claims[name] = shifted(claims[name], shift)
				}
			})}
			status, err := s.emulator.Post(t.Context(), c)
			require.NoError(t, err)
			assert.Equal(t, 202, status)
			line := collector.awaitLine(t, reason, soon)
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
