package endtoend_test

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// withShortTokens has Graph prove itself with tokens that an hour makes invalid.
func withShortTokens(settings *graphtest.Settings) {
	settings.ValidationTokenLifetime = 30 * time.Minute
}

// hourlyChecks leaves the collector to what it is told: between two checks of the subscription there is no other.
const hourlyChecks = "receivers: {m365_copilot: {subscription: {check_interval: 1h}}}"

func TestClock_OneHourAheadBackfillsHourly(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, hourlyChecks, withDirectory, withShortTokens)
	clock := h.clock(t, binary)
	clock.setOffset(time.Hour)
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 290, 5) // of five minutes
	h.publish(t, in[:10]...)
	line := collector.awaitLine(t, "notification rejected", waitTimeout)
	assert.Contains(t, line, "token_expired")
	assertTimes(t, line, time.Now().Add(30*time.Minute), time.Now().Add(time.Hour))
	h.backend.await(t, interactionKeys(t, in[:10]...), waitTimeout)
	assert.Contains(t, collector.awaitLine(t, "history read", waitTimeout), `"reasons": ["unverified"]`)

	h.publish(t, in[10:200]...)
	h.awaitAcknowledged(t, 200)
	clock.advance(time.Hour)
	h.publish(t, in[200:]...) // it is these that have the collector look, since its timers do not know that it is time
	h.awaitAcknowledged(t, 290)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, map[string]int{"history": 290}, h.backend.recordsBySource(), "nothing was let in, and each was found once")

	clock.setOffset(0)
	fresh := prompt(t, 290, user(0), time.Now())
	h.publish(t, fresh)
	h.backend.await(t, interactionKeys(t, fresh), waitTimeout)
	assert.Equal(t, map[string]int{"history": 290, "notification": 1}, h.backend.recordsBySource())
}

func TestClock_OneHourBehindBackfillsOnceSet(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, "", withDirectory)
	clock := h.clock(t, binary)
	clock.setOffset(-time.Hour)
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 20, 5)
	h.publish(t, in[:10]...)
	line := collector.awaitLine(t, "notification rejected", waitTimeout)
	assert.Contains(t, line, "token_not_yet_valid")
	assertTimes(t, line, time.Now(), time.Now().Add(-time.Hour))
	h.awaitAcknowledged(t, 10)
	assert.Empty(t, h.backend.recordsBySource(), "nothing was let in, and by this clock none of it has happened yet")

	clock.setOffset(0)
	h.publish(t, in[10:]...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	collector.awaitLine(t, `"unverified"`, waitTimeout)
	assert.Zero(t, h.backend.duplicates())
}

func TestClock_TooFarAheadToSubscribeIsReported(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, "")
	clock := h.clock(t, binary)
	clock.setOffset(61 * time.Minute) // and a subscription is asked for 71 of at most 72 hours
	collector := h.run(t)
	line := collector.awaitLine(t, "subscription fails", waitTimeout)
	assert.Contains(t, line, "set the clock of the collector's host")
	assert.Empty(t, h.emulator.Subscriptions())
	clock.setOffset(0)
	collector.awaitLine(t, "subscription failure is over", waitTimeout)
	h.awaitSubscribed(t)
	in := prompts(t, 10, 2)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
}

// awaitAcknowledged waits until the collector has taken or turned down so many interactions.
func (h *harness) awaitAcknowledged(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitDelivered(ctx, n))
}

var utc = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// assertTimes asserts that a line names these times, give or take a minute, and the clock as what to look at.
func assertTimes(t *testing.T, line string, want ...time.Time) {
	t.Helper()
	assert.Contains(t, line, "check the clock of this machine")
	said := utc.FindAllString(line, -1)
	require.Len(t, said, len(want), line)
	for i := range want {
		at, err := time.Parse(time.RFC3339, said[i])
		require.NoError(t, err)
		assert.WithinDuration(t, want[i], at, time.Minute)
	}
}
