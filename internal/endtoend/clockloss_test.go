package endtoend_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAClockTenMinutesBehindLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, "receivers: {m365_copilot: {subscription: {check_interval: 5m}}}", withDirectory)
	clock := s.clock(t, binary)
	clock.set(-10 * time.Minute)
	s.run(t)
	s.subscribed(t)
	kept := prompt(t, 0, user(0), time.Now())
	s.publish(t, kept)
	s.acknowledged(t, 1)
	clock.set(0) // between two checks, so that it is a pause like any other
	s.untilTheHourlyReading(t, clock)
	s.backend.await(t, names(t, kept), soon)
}

func TestAClockEightHoursAheadAsAWrongTimeZoneMakesItLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, "receivers: {m365_copilot: {subscription: {lifetime: 60h}}}", withDirectory, shortTokens)
	clock := s.clock(t, binary)
	clock.set(8 * time.Hour)
	collector := s.run(t)
	s.subscribed(t)
	kept := prompt(t, 0, user(0), time.Now())
	s.publish(t, kept)
	s.acknowledged(t, 1)
	collector.awaitLine(t, "history read", soon)
	clock.set(0)
	s.backend.await(t, names(t, kept), soon)
}

func TestWhatIsRefusedByAClockFourMinutesBehindIsFoundInTheHistory(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	s := newSite(t, withoutQueue, withDirectory, impatiently)
	clock := s.clock(t, binary)
	clock.set(-4 * time.Minute) // and tokens are taken
	s.run(t)
	s.subscribed(t)
	s.backend.down()
	refused := prompt(t, 0, user(0), time.Now())
	s.publish(t, refused)
	s.givenUp(t, 1)
	s.backend.up(t)
	clock.pass(4*time.Hour + 31*time.Minute)
	s.backend.await(t, names(t, refused), soon)
}

// untilTheHourlyReading lets an hour pass and has the collector look for what is due, by one more gap.
func (s *site) untilTheHourlyReading(t *testing.T, clock *clock) {
	t.Helper()
	clock.pass(61 * time.Minute)
	c, err := s.emulator.Collection(prompt(t, 1, user(0), time.Now().Add(-30*time.Minute)))
	require.NoError(t, err)
	c.ValidationTokens = []string{s.emulator.Token(func(claims map[string]any) { claims["exp"] = shifted(claims["exp"], -48*time.Hour) })}
	_, err = s.emulator.Post(t.Context(), c)
	require.NoError(t, err)
}
