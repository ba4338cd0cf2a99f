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

// failures is how often each call fails in a row before it works.
const failures = 2

// calls are all calls that the receiver makes for a subscription, a notification and its user, a renewal and a backfill.
var calls = []graphtest.Operation{
	graphtest.OpToken, graphtest.OpList, graphtest.OpCreate, graphtest.OpUsers, graphtest.OpUser, graphtest.OpHistory, graphtest.OpKeys,
	graphtest.OpRenew,
}

func TestGraphFailure_RetriesEachCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault graphtest.Fault
		asked time.Duration
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
			h := newFailingHarness(t, test.fault)
			begun, pause := time.Now(), graphtest.MeasurePauses(t.Context())
			in := h.exerciseCalls(t)
			h.backend.await(t, interactionKeys(t, in...), time.Minute)
			assert.Zero(t, h.backend.duplicates())
			h.assertFewRequests(t, time.Since(begun))
			if test.asked > 0 {
				h.assertRetryAfterObeyed(t, test.fault.Status, test.asked, pause())
			}
		})
	}
}

const licensedUsers = 10

// newFailingHarness returns a harness where each call fails a few times, and whose first start imports an hour of ten
// licensed users. The directory has one more user. Concurrency is 1, since requests in flight can't obey a Retry-After that arrives meanwhile.
func newFailingHarness(t *testing.T, fault graphtest.Fault) *collectorHarness {
	t.Helper()
	h := newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {lookback: 1h, concurrency: 1}
    identity: {directory: true}
`, func(settings *graphtest.Settings) {
		settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
	})
	fault.Times = failures
	for _, call := range calls {
		h.emulator.Fail(call, fault)
	}
	users := make([]string, licensedUsers)
	for n := range users {
		users[n] = user(n)
	}
	h.emulator.SetUsers(users...)
	h.emulator.Join(graphtest.Person{ID: user(licensedUsers)})
	return h
}

// exerciseCalls makes the collector use each of the calls, and returns the interactions that must arrive.
func (h *collectorHarness) exerciseCalls(t *testing.T) []graphtest.Interaction {
	t.Helper()
	in := prompts(t, 40, licensedUsers)
	require.NoError(t, h.emulator.AddHistory(in[:20]...))
	h.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // pauses grow while nothing works
	defer cancel()
	_, err := h.emulator.WaitSubscribed(ctx)
	require.NoError(t, err)
	in = append(in, prompt(t, len(in), user(licensedUsers), time.Now()))
	h.publish(t, in[20:]...)
	require.NoError(t, h.emulator.WaitDelivered(ctx, 21))
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpUser, failures+1))
	_, err = h.emulator.SendLifecycle(ctx, graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	require.NoError(t, h.emulator.Wait(ctx, func(graphtest.Stats) bool {
		live := h.emulator.Subscriptions()
		return len(live) == 1 && !live[0].Patched.IsZero()
	}))
	return in
}

// assertFewRequests asserts that each failure cost only one more request.
func (h *collectorHarness) assertFewRequests(t *testing.T, took time.Duration) {
	t.Helper()
	stats := h.emulator.Stats()
	t.Logf("recovered within %s, requests %v", took.Round(time.Second), stats.Requests)
	assert.LessOrEqual(t, stats.Requests[graphtest.OpHistory], licensedUsers+1+failures) // the one more, if seen before the list
	// The subscription is verified each second, and after each change.
	assert.LessOrEqual(t, stats.Requests[graphtest.OpList], int(took.Seconds())+2*failures+3)
	for _, call := range []graphtest.Operation{
		graphtest.OpCreate, graphtest.OpUsers, graphtest.OpUser, graphtest.OpKeys, graphtest.OpRenew,
	} {
		assert.LessOrEqual(t, stats.Requests[call], failures+1, call)
	}
	// A subscription is created and renewed with a token of the last minute.
	assert.LessOrEqual(t, stats.Requests[graphtest.OpToken], failures+1+int(took/time.Minute))
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
}

// assertRetryAfterObeyed asserts that each call with Retry-After was retried after that time, and at most a second later, without
// the longest pause of this process.
func (h *collectorHarness) assertRetryAfterObeyed(t *testing.T, status int, asked, pause time.Duration) {
	t.Helper()
	for _, call := range calls {
		if call == graphtest.OpKeys {
			continue // Entra ID's public keys, which no token limits
		}
		requests, retried := h.emulator.Requests(call), 0
		for i, request := range requests {
			if request.Status != status || i+1 == len(requests) {
				continue
			}
			waited := requests[i+1].At.Sub(request.At)
			assert.GreaterOrEqual(t, waited, asked, call)
			assert.LessOrEqual(t, waited-pause, asked+time.Second, call)
			retried++
		}
		assert.Equal(t, failures, retried, call)
	}
}

func TestGraphFailure_RetriesWithoutStorm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault graphtest.Fault
		// spacing is the minimum time between two tries.
		spacing time.Duration
	}{
		"429 with Retry-After":   {graphtest.Fault{Status: 429, RetryAfter: "3"}, 3 * time.Second},
		"503 with Retry-After":   {graphtest.Fault{Status: 503, RetryAfter: "2"}, 2 * time.Second},
		"503":                    {graphtest.Fault{Status: 503}, time.Second},
		"500":                    {graphtest.Fault{Status: 500}, time.Second},
		"a connection reset":     {graphtest.Fault{Reset: true}, time.Second},
		"an endless body":        {graphtest.Fault{Endless: true}, time.Second},
		"a body that is no JSON": {graphtest.Fault{InvalidJSON: true}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newCollectorHarness(t, "")
			h.emulator.Fail(graphtest.AnyGraph, test.fault)
			collector := h.run(t)
			collector.awaitLine(t, "subscription fails", waitTimeout)
			<-time.After(8 * time.Second)
			tries := h.emulator.Requests(graphtest.OpList)
			assert.LessOrEqual(t, len(tries), 8, "retries are spaced")
			for i := range tries[1:] {
				assert.GreaterOrEqual(t, tries[i+1].At.Sub(tries[i].At), test.spacing)
			}
			assert.Len(t, collector.linesWith("subscription fails"), 1, "it is logged once")
			h.emulator.Heal()
			h.awaitSubscribed(t)
			collector.awaitLine(t, "subscription failure is over", waitTimeout)
			in := prompts(t, 10, 2)
			h.publish(t, in...)
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
		})
	}
}
