// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// What happened while the collector was down is found even if the next run crashes during the backfill.
func TestHistory_BackfillResumesAfterCrash(t *testing.T) {
	skipIfShort(t, "it crashes a collector")
	t.Parallel()
	const users = 50
	h := newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {requests_per_second: 20, concurrency: 2}
`, func(settings *graphtest.Settings) {
		settings.RetryFor = time.Second
		settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
	})
	var licensed []string
	for n := range users {
		licensed = append(licensed, user(n))
	}
	h.emulator.SetUsers(licensed...)
	first := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 520, users)
	h.publish(t, in[:20]...)
	h.backend.await(t, interactionKeys(t, in[:20]...), waitTimeout)
	first.terminate(t)

	require.NoError(t, h.emulator.WaitIdle(deadline(t)))
	lost := h.emulator.Stats().Lost // those of the first 20 that the collector had taken, but answered too late
	h.publish(t, in[20:]...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost == lost+500 }), "Graph stops retrying")
	require.NoError(t, h.emulator.ExpireSubscription(h.emulator.Subscriptions()[0].ID, time.Now()))

	second := h.run(t)
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpHistory, users/2))
	second.kill()
	h.run(t)
	h.backend.await(t, interactionKeys(t, in...), time.Minute)
	const inFlight = 3 * 10 // in a request of the exporter, and from each of two readers
	assert.LessOrEqual(t, h.backend.duplicates(), inFlight)
	requests := h.requestsOfFirstPass()
	t.Logf("%d history requests for %d users, with a crash after %d", requests, users, users/2)
	assert.GreaterOrEqual(t, requests, users)
	assert.Less(t, requests, users+users/2, "it continues where it stopped")
}

// requestsOfFirstPass counts the history requests of the first pass, which ask for the same time.
func (h *collectorHarness) requestsOfFirstPass() (n int) {
	requests := h.emulator.Requests(graphtest.OpHistory)
	for _, r := range requests {
		if r.Query == requests[0].Query {
			n++
		}
	}
	return n
}

func TestHistory_FillsGapOfRemovedSubscription(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "")
	collector := h.run(t)
	subscription := h.awaitSubscribed(t)
	in := prompts(t, 30, 3)
	h.publish(t, in[:6]...)
	h.backend.await(t, interactionKeys(t, in[:6]...), waitTimeout)
	require.NoError(t, h.emulator.AddHistory(in[6:]...)) // they are in the history without being sent
	require.NoError(t, h.emulator.RemoveSubscription(t.Context(), subscription.ID, false))
	removed := time.Now()
	collector.awaitLine(t, "subscription recreated", waitTimeout)
	require.NoError(t, h.emulator.WaitRequests(deadline(t), graphtest.OpCreate, 2)) // noted once the answer is sent
	recreated := h.emulator.Requests(graphtest.OpCreate)[1].At
	t.Logf("recreated after %s", recreated.Sub(removed))
	checks := slices.DeleteFunc(h.emulator.Requests(graphtest.OpList), func(r graphtest.Request) bool {
		return r.At.Before(removed) || r.At.After(recreated)
	})
	// The first check may find it too new to be in the list.
	assert.LessOrEqual(t, len(checks), 4, "a check each second, and a back-off since it lasted less than 5 minutes")
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, map[string]int{"notification": 6, "history": 24}, h.backend.recordsBySource())
}

// It does not run in parallel, since it uses all processors and would delay tests that measure time.
func TestHistory_MemoryFor100000Users(t *testing.T) {
	skipIfShort(t, "it is a test of a large size")
	few := memoryOfReading(t, 1_000)
	many := memoryOfReading(t, 100_000)
	assert.Less(t, many, int64(300<<20))
	assert.Less(t, many-few, int64(40<<20), "a hundred times as many users at the same concurrency")
}

// memoryOfReading returns the peak resident size of a collector that reads the history of users, 16 at once.
func memoryOfReading(t *testing.T, users int) int64 {
	t.Helper()
	h := newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {lookback: 1h, requests_per_second: 100000, concurrency: 16}
`, func(settings *graphtest.Settings) {
		settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
		settings.RecordSize = 10
		settings.HistoryLimit = -1 // it is memory that is measured
	})
	ids := make([]string, users)
	for n := range ids {
		ids[n] = user(n)
	}
	h.emulator.SetUsers(ids...)
	in := prompts(t, 100, users)
	require.NoError(t, h.emulator.AddHistory(in...))
	collector := h.run(t)
	collector.awaitLine(t, "history read", 15*time.Minute)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	peak := collector.peakMemory(t)
	t.Logf("%d users, %d history requests, peak memory %d MiB", users, h.emulator.Stats().Requests[graphtest.OpHistory], peak>>20)
	collector.terminate(t)
	return peak
}

// peakMemory returns the peak resident size of the process, in bytes.
func (p *process) peakMemory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	require.FailNow(t, "no VmHWM")
	return 0
}

// It does not run in parallel, since it measures when requests arrive.
func TestHistory_AtMost25RequestsPerSecond(t *testing.T) {
	skipIfShort(t, "it is a test of load")
	h := newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {lookback: 1h, concurrency: 8}
`, func(settings *graphtest.Settings) {
		settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
	})
	ids := make([]string, 200)
	for n := range ids {
		ids[n] = user(n)
	}
	h.emulator.SetUsers(ids...)
	collector := h.run(t)
	collector.awaitLine(t, "history read", time.Minute)
	requests := h.emulator.Requests(graphtest.OpHistory)
	require.Len(t, requests, len(ids))
	slices.SortFunc(requests, func(a, b graphtest.Request) int { return a.At.Compare(b.At) })
	took := requests[len(requests)-1].At.Sub(requests[0].At)
	t.Logf("%d requests in %s", len(requests), took)
	for i := range requests[:len(requests)-100] {
		// 100 requests take four seconds, and 92 of them 3.68 s: at most 8 may wait until a busy machine notes their time.
		assert.Greater(t, requests[i+100].At.Sub(requests[i].At), 3500*time.Millisecond)
	}
}

func TestHistory_BackfillsForRemovedKey(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "receivers: {m365_copilot: {encryption: {certificates: ["+keyPair(t, "old")+"]}}}")
	first := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 23, 3)
	h.publish(t, in[:3]...) // so that each of the three users was seen
	h.backend.await(t, interactionKeys(t, in[:3]...), waitTimeout)
	late, err := h.emulator.Collection(in[3:]...)
	require.NoError(t, err)
	require.NoError(t, h.emulator.AddHistory(in[3:]...)) // they are in the history without being sent
	first.terminate(t)

	h.configure(t, "receivers: {m365_copilot: {encryption: {certificates: ["+keyPair(t, "renewed")+"]}}}")
	second := h.run(t)
	line := second.awaitLine(t, "history read", waitTimeout)
	assert.Contains(t, line, "removed_key")
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool {
		return stats.Requests[graphtest.OpCreate] == 2 && len(h.emulator.Subscriptions()) == 1
	}), "the subscription for the removed key is replaced")
	status, err := h.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status, "Graph need not retry what can't be decrypted")
	assert.Zero(t, h.backend.duplicates())
}

func TestHistory_FillsGapOfSuspendedHost(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, "", withDirectory)
	clock := h.clock(t, binary)
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 30, 5)
	h.publish(t, in[:10]...)
	h.backend.await(t, interactionKeys(t, in[:10]...), waitTimeout)
	require.NoError(t, h.emulator.AddHistory(in[10:]...)) // they are in the history without being sent
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+3))
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "nothing is known to be missing")

	clock.suspend(3 * time.Hour) // for the monotonic clock, as for timers, nothing has happened
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Contains(t, collector.awaitLine(t, "history read", waitTimeout), `"reasons": ["subscription"]`)
	assert.Equal(t, map[string]int{"notification": 10, "history": 20}, h.backend.recordsBySource(), "each once")
}

// withoutQueue makes the pipeline refuse whatever the backend does not accept, without frequent checks of the subscription.
const withoutQueue = `
receivers:
  m365_copilot:
    subscription: {check_interval: 1h}
exporters:
  otlp_http:
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
`

// withDirectory grants the permission to list users, so that the collector can read the history of each.
func withDirectory(settings *graphtest.Settings) {
	settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
}

// withShortRetry makes Graph stop retrying after twelve seconds instead of four hours. In that time the collector checks at
// least once for expired items.
func withShortRetry(settings *graphtest.Settings) { settings.RetryFor = 12 * time.Second }

func TestHistory_BackfillsAfterRetryDeadline(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	for name, wait := range map[string]func(*clock, time.Duration){
		"while the collector waits":               (*clock).advance,
		"while the collector's host is suspended": (*clock).suspend,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newCollectorHarness(t, withoutQueue, withDirectory, withShortRetry)
			clock := h.clock(t, binary)
			collector := h.run(t)
			h.awaitSubscribed(t)
			h.backend.stop()
			in := prompts(t, 40, 7)
			h.publish(t, in...)
			h.awaitLost(t, len(in))

			h.backend.start(t)
			assert.Empty(t, h.backend.recordsBySource(), "nothing is retried any more")
			assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "Graph may still retry it")
			wait(clock, 4*time.Hour+31*time.Minute)
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
			line := collector.awaitLine(t, "history read", waitTimeout)
			assert.Contains(t, line, `"reasons": ["undelivered"]`)
			assert.Equal(t, map[string]int{"history": len(in)}, h.backend.recordsBySource(), "each once")
		})
	}
}

// awaitLost waits until Graph has stopped retrying n interactions, each answer to which was 503.
func (h *collectorHarness) awaitLost(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost == n }))
	h.assertRefused(t)
}

// assertRefused asserts that each answer to a notification was 503. An attempt may have none, if it took too long.
func (h *collectorHarness) assertRefused(t *testing.T) {
	t.Helper()
	answers := 0
	for _, a := range h.emulator.Acknowledgements() {
		if !a.Handshake && a.Err == nil {
			assert.Equal(t, http.StatusServiceUnavailable, a.Status)
			answers++
		}
	}
	assert.Positive(t, answers)
}
