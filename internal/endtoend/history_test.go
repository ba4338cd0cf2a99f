package endtoend_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestWhatHappenedWhileTheCollectorWasDownIsFoundAlsoByASecondStart(t *testing.T) {
	t.Parallel()
	const users = 50
	s := newSite(t, `
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
	s.emulator.SetUsers(licensed...)
	first := s.run(t)
	s.subscribed(t)
	in := prompts(t, 520, users)
	s.publish(t, in[:20]...)
	s.backend.await(t, names(t, in[:20]...), soon)
	first.terminate(t)

	s.publish(t, in[20:]...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost == 500 }), "Graph gives up")
	require.NoError(t, s.emulator.ExpireSubscription(s.emulator.Subscriptions()[0].ID, time.Now()))

	second := s.run(t)
	require.NoError(t, s.emulator.WaitRequests(ctx, graphtest.OpHistory, users/2))
	second.kill9()
	s.run(t)
	s.backend.await(t, names(t, in...), time.Minute)
	const underWay = 3 * 10 // in a request of the exporter, and from each of two readers
	assert.LessOrEqual(t, s.backend.repetitions(), underWay)
	requests := len(s.emulator.Requests(graphtest.OpHistory))
	t.Logf("%d history requests for %d users, with a crash after %d", requests, users, users/2)
	assert.Less(t, requests, users+users/2, "it goes on where it stopped")
}

func TestARemovedSubscriptionIsRecreatedAndTheTimeBetweenIsRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	collector := s.run(t)
	subscription := s.subscribed(t)
	in := prompts(t, 30, 3)
	s.publish(t, in[:6]...)
	s.backend.await(t, names(t, in[:6]...), soon)
	require.NoError(t, s.emulator.RemoveSubscription(t.Context(), subscription.ID, false))
	removed := time.Now()
	s.publish(t, in[6:]...)
	collector.awaitLine(t, "subscription recreated", soon)
	t.Logf("recreated after %s", time.Since(removed))
	assert.Less(t, time.Since(removed), 5*time.Second, "check_interval is 1 s")
	s.backend.await(t, names(t, in...), soon)
}

// They take the processors for themselves, which the tests of crashes and answers can't spare.
func TestTheHistoryOf100000UsersIsReadInLittleMemory(t *testing.T) {
	few := memoryOfReading(t, 1_000)
	many := memoryOfReading(t, 100_000)
	assert.Less(t, many, int64(300<<20))
	assert.Less(t, many-few, int64(40<<20), "a hundred times as many users at the same concurrency")
}

// memoryOfReading is the largest resident size of a collector that reads the history of so many users, 16 at once.
func memoryOfReading(t *testing.T, users int) int64 {
	t.Helper()
	s := newSite(t, `
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
	s.emulator.SetUsers(ids...)
	in := prompts(t, 100, users)
	require.NoError(t, s.emulator.AddHistory(in...))
	collector := s.run(t)
	collector.awaitLine(t, "history read", 4*time.Minute)
	s.backend.await(t, names(t, in...), soon)
	peak := collector.peakMemory(t)
	t.Logf("%d users, %d history requests, peak memory %d MiB", users, s.emulator.Stats().Requests[graphtest.OpHistory], peak>>20)
	collector.terminate(t)
	return peak
}

// peakMemory is the largest resident size of the process so far, in bytes.
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

// It has the processors for itself: what is measured is when requests arrive.
func TestHistoryIsReadAtMost25TimesASecond(t *testing.T) {
	s := newSite(t, `
receivers:
  m365_copilot:
    history: {lookback: 1h, concurrency: 16}
`, func(settings *graphtest.Settings) {
		settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
	})
	ids := make([]string, 200)
	for n := range ids {
		ids[n] = user(n)
	}
	s.emulator.SetUsers(ids...)
	collector := s.run(t)
	collector.awaitLine(t, "history read", time.Minute)
	requests := s.emulator.Requests(graphtest.OpHistory)
	require.Len(t, requests, len(ids))
	took := requests[len(requests)-1].At.Sub(requests[0].At)
	t.Logf("%d requests in %s", len(requests), took)
	for i := range requests[:len(requests)-100] {
		// 100 requests take four seconds, with half a one for how they travel on a busy machine.
		assert.Greater(t, requests[i+100].At.Sub(requests[i].At), 3500*time.Millisecond)
	}
}
