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

// shortTokens has Graph prove itself with tokens that an hour makes invalid.
func shortTokens(settings *graphtest.Settings) { settings.ValidationTokenLifetime = 30 * time.Minute }

// seldom leaves the collector to what it is told: between two checks of the subscription there is no other.
const seldom = "receivers: {m365_copilot: {subscription: {check_interval: 1h}}}"

func TestAClockAnHourAheadIsSaidAndWhatItKeepsOutIsFoundHourly(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, seldom, withDirectory, shortTokens)
	clock := s.clock(t, binary)
	clock.set(time.Hour)
	collector := s.run(t)
	s.subscribed(t)
	in := prompts(t, 290, 5) // of five minutes
	s.publish(t, in[:10]...)
	line := collector.awaitLine(t, "notification rejected", soon)
	assert.Contains(t, line, "token_expired")
	assertTimes(t, line, time.Now().Add(30*time.Minute), time.Now().Add(time.Hour))
	s.backend.await(t, names(t, in[:10]...), soon)
	assert.Contains(t, collector.awaitLine(t, "history read", soon), `"reasons": ["unverified"]`)

	s.publish(t, in[10:200]...)
	s.acknowledged(t, 200)
	clock.pass(time.Hour)
	s.publish(t, in[200:]...) // it is these that have the collector look, since its timers do not know that it is time
	s.acknowledged(t, 290)
	s.backend.await(t, names(t, in...), soon)
	assert.Equal(t, map[string]int{"history": 290}, s.backend.from(), "nothing was let in, and each was found once")

	clock.set(0)
	fresh := prompt(t, 290, user(0), time.Now())
	s.publish(t, fresh)
	s.backend.await(t, names(t, fresh), soon)
	assert.Equal(t, map[string]int{"history": 290, "notification": 1}, s.backend.from())
}

func TestAClockAnHourBehindIsSaidAndWhatItKeptOutIsFoundOnceItIsSet(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, "", withDirectory)
	clock := s.clock(t, binary)
	clock.set(-time.Hour)
	collector := s.run(t)
	s.subscribed(t)
	in := prompts(t, 20, 5)
	s.publish(t, in[:10]...)
	line := collector.awaitLine(t, "notification rejected", soon)
	assert.Contains(t, line, "token_not_yet_valid")
	assertTimes(t, line, time.Now(), time.Now().Add(-time.Hour))
	s.acknowledged(t, 10)
	assert.Empty(t, s.backend.from(), "nothing was let in, and by this clock none of it has happened yet")

	clock.set(0)
	s.publish(t, in[10:]...)
	s.backend.await(t, names(t, in...), soon)
	collector.awaitLine(t, `"unverified"`, soon)
	assert.Zero(t, s.backend.repetitions())
}

func TestAClockSoFarAheadThatGraphRefusesTheSubscriptionIsSaid(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, "")
	clock := s.clock(t, binary)
	clock.set(61 * time.Minute) // and a subscription is asked for 71 of at most 72 hours
	collector := s.run(t)
	line := collector.awaitLine(t, "subscription fails", soon)
	assert.Contains(t, line, "set the clock of the collector's host")
	assert.Empty(t, s.emulator.Subscriptions())
	clock.set(0)
	collector.awaitLine(t, "subscription failure is over", soon)
	s.subscribed(t)
	in := prompts(t, 10, 2)
	s.publish(t, in...)
	s.backend.await(t, names(t, in...), soon)
}

// acknowledged waits until the collector has taken or turned down so many interactions.
func (s *site) acknowledged(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.WaitDelivered(ctx, n))
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
