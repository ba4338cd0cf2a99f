package backfill_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestUsers_LosesNothingWhenLicenseIsAssigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = 5 * time.Minute
		h.users(2)
		failed := guid(1)
		h.graph.fail = func(r request) error {
			if r.user == failed && len(h.graph.interactions[failed]) == 0 {
				return noLicense()
			}
			return nil
		}
		_, stop := h.run(t)
		advance(time.Hour)
		for range 120 { // five days of prompts, one each hour
			h.graph.set(func() { h.graph.interactions[failed] = append(h.graph.interactions[failed], time.Now()) })
			advance(time.Hour)
		}
		assert.Equal(t, 120, h.intake.distinct())
		assert.Empty(t, h.telemetry.copy().lost)
		stop()
	})
}

func TestUsers_ReadsSkippedTimeWhenUnlicensedUserIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(2)
		licensed := false
		h.graph.fail = func(r request) error {
			if r.user == guid(0) && !licensed {
				return noLicense()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(10 * time.Hour)
		h.graph.set(func() {
			licensed, h.graph.interactions[guid(0)] = true, []time.Time{time.Now().Add(-150 * time.Minute)}
		})
		b.Open(gap(backfill.Subscription))
		advance(3 * time.Hour)
		assert.Zero(t, h.intake.distinct(), "the user is left alone")
		asked := len(h.graph.historyRequests())
		b.Seen(guid(0), guid(0))
		b.Seen(guid(1), guid(0))
		advance(time.Minute)
		assert.Equal(t, 1, h.intake.distinct())
		assert.Len(t, h.graph.historyRequests(), asked+1, "and nobody else is asked for")
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, b.Missing(time.Now()))
		stop()
	})
}

func TestStore_KeepsStateAfterFailedLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		first := backfill.New(h.settings)
		require.NoError(t, first.Load(t.Context()))
		first.Open(backfill.Gap{Reason: backfill.Lookback, From: time.Now().Add(-720 * time.Hour), To: time.Now()})
		first.Seen(guid(7))
		require.NoError(t, first.Save(t.Context()))

		h.settings.Disabled = true // so that nothing is closed
		h.store.setBroken(true)
		second := backfill.New(h.settings)
		require.ErrorIs(t, second.Load(t.Context()), errStore)
		second.Item(backfill.Empty, "", time.Now())
		require.ErrorIs(t, second.Flush(t.Context()), errStore)
		h.store.setBroken(false)
		require.NoError(t, second.Flush(t.Context()))
		require.NoError(t, second.Save(t.Context()))

		third := backfill.New(h.settings)
		require.NoError(t, third.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Lookback: 720 * time.Hour, backfill.Empty: time.Hour}, third.Missing(time.Now()))
	})
}

func TestBackfiller_ExpiresInterruptedPassWhenDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.latency = time.Hour
		h.users(3)
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		b.Open(backfill.Gap{Reason: backfill.Lookback, From: time.Now().Add(-720 * time.Hour), To: time.Now().Add(-700 * time.Hour)})
		advance(time.Minute)
		stop()
		require.NoError(t, b.Save(t.Context()))

		h.settings.Disabled = true
		b, stop = h.run(t)
		assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup])
		advance(168 * time.Hour)
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1, backfill.Lookback: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestNeeded_CoversOpenGapsAndPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = time.Hour
		h.graph.latency = time.Minute
		h.users(1)
		b, stop := h.run(t)
		synctest.Wait()
		began := time.Now()
		assert.Equal(t, began.Add(-time.Hour-5*time.Minute).Unix(), b.Needed().Unix(), "the poll under way, with its overlap")
		b.Open(gap(backfill.Undelivered))
		assert.Equal(t, began.Add(-3*time.Hour-5*time.Minute).Unix(), b.Needed().Unix())
		advance(59 * time.Minute)
		assert.Equal(t, began.Add(-time.Hour-5*time.Minute).Unix(), b.Needed().Unix(), "its last hour is to be read again")
		stop()
	})
	assert.Zero(t, backfill.New(backfill.Settings{}).Needed())
}
