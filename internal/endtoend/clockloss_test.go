package endtoend_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClock_TenMinutesBehindLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, "receivers: {m365_copilot: {subscription: {check_interval: 5m}}}", withDirectory)
	clock := h.clock(t, binary)
	clock.setOffset(-10 * time.Minute)
	h.run(t)
	h.awaitSubscribed(t)
	kept := prompt(t, 0, user(0), time.Now())
	h.publish(t, kept)
	h.awaitAcknowledged(t, 1)
	clock.setOffset(0) // between two checks, so that it is a pause like any other
	h.advanceToHourlyPass(t, clock)
	h.backend.await(t, interactionKeys(t, kept), waitTimeout)
}

func TestClock_WrongTimeZoneLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, "receivers: {m365_copilot: {subscription: {lifetime: 60h}}}", withDirectory, withShortTokens)
	clock := h.clock(t, binary)
	clock.setOffset(8 * time.Hour)
	collector := h.run(t)
	h.awaitSubscribed(t)
	kept := prompt(t, 0, user(0), time.Now())
	h.publish(t, kept)
	h.awaitAcknowledged(t, 1)
	collector.awaitLine(t, "history read", waitTimeout)
	clock.setOffset(0)
	h.backend.await(t, interactionKeys(t, kept), waitTimeout)
}

func TestClock_FourMinutesBehindBackfillsRefused(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newHarness(t, withoutQueue, withDirectory, withShortRetry)
	clock := h.clock(t, binary)
	clock.setOffset(-4 * time.Minute) // and tokens are taken
	h.run(t)
	h.awaitSubscribed(t)
	h.backend.stop()
	refused := prompt(t, 0, user(0), time.Now())
	h.publish(t, refused)
	h.awaitLost(t, 1)
	h.backend.start(t)
	clock.advance(4*time.Hour + 31*time.Minute)
	h.backend.await(t, interactionKeys(t, refused), waitTimeout)
}

// advanceToHourlyPass lets an hour pass and has the collector look for what is due, by one more gap.
func (h *harness) advanceToHourlyPass(t *testing.T, clock *clock) {
	t.Helper()
	clock.advance(61 * time.Minute)
	c, err := h.emulator.Collection(prompt(t, 1, user(0), time.Now().Add(-30*time.Minute)))
	require.NoError(t, err)
	c.ValidationTokens = []string{h.emulator.Token(func(claims map[string]any) { claims["exp"] = shifted(claims["exp"], -48*time.Hour) })}
	_, err = h.emulator.Post(t.Context(), c)
	require.NoError(t, err)
}
