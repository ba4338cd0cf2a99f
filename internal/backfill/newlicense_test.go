package backfill_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestAUserWhoGetsALicenseLosesNothingOfTheTimeLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.PollInterval = 5 * time.Minute
		w.users(2)
		late := guid(1)
		w.graph.fail = func(r request) error {
			if r.user == late && len(w.graph.happened[late]) == 0 {
				return noLicense()
			}
			return nil
		}
		_, stop := w.run(t)
		pass(time.Hour)
		for range 120 { // five days of prompts, one each hour
			w.graph.set(func() { w.graph.happened[late] = append(w.graph.happened[late], time.Now()) })
			pass(time.Hour)
		}
		assert.Equal(t, 120, w.intake.distinct())
		assert.Empty(t, w.telemetry.copy().lost)
		stop()
	})
}

func TestOfAUserWhoPromptsAllSinceItWasLeftAloneIsReadAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(2)
		licensed := false
		w.graph.fail = func(r request) error {
			if r.user == guid(0) && !licensed {
				return noLicense()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(10 * time.Hour)
		w.graph.set(func() { licensed, w.graph.happened[guid(0)] = true, []time.Time{time.Now().Add(-150 * time.Minute)} })
		f.Open(gap(backfill.Subscription))
		pass(3 * time.Hour)
		assert.Zero(t, w.intake.distinct(), "the user is left alone")
		asked := len(w.graph.asked())
		f.Seen(guid(0), guid(0))
		f.Seen(guid(1), guid(0))
		pass(time.Minute)
		assert.Equal(t, 1, w.intake.distinct())
		assert.Len(t, w.graph.asked(), asked+1, "and nobody else is asked for")
		assert.Equal(t, w.telemetry.copy().opened, w.telemetry.copy().closed)
		assert.Empty(t, f.Missing(time.Now()))
		stop()
	})
}

func TestWhatCouldNotBeReadAtTheStartIsNeitherForgottenNorOverwritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		first := backfill.New(w.settings)
		require.NoError(t, first.Load(t.Context()))
		first.Open(backfill.Gap{Reason: backfill.Lookback, From: time.Now().Add(-720 * time.Hour), To: time.Now()})
		first.Seen(guid(7))
		require.NoError(t, first.Save(t.Context()))

		w.settings.Disabled = true // so that nothing is closed
		w.store.breaks(true)
		second := backfill.New(w.settings)
		require.ErrorIs(t, second.Load(t.Context()), errStore)
		second.Item(backfill.Empty, "", time.Now())
		require.ErrorIs(t, second.Flush(t.Context()), errStore)
		w.store.breaks(false)
		require.NoError(t, second.Flush(t.Context()))
		require.NoError(t, second.Save(t.Context()))

		third := backfill.New(w.settings)
		require.NoError(t, third.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Lookback: 720 * time.Hour, backfill.Empty: time.Hour}, third.Missing(time.Now()))
	})
}

func TestAReadingThatWasUnderWayIsGivenUpLikeAnyGapWhereNothingIsReadAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.graph.took = time.Hour
		w.users(3)
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		f.Open(backfill.Gap{Reason: backfill.Lookback, From: time.Now().Add(-720 * time.Hour), To: time.Now().Add(-700 * time.Hour)})
		pass(time.Minute)
		stop()
		require.NoError(t, f.Save(t.Context()))

		w.settings.Disabled = true
		f, stop = w.run(t)
		assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.Startup])
		pass(168 * time.Hour)
		assert.Empty(t, f.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1, backfill.Lookback: 1}, w.telemetry.copy().closed)
		stop()
	})
}

func TestWhatIsToBeReadMustStillBeKnownAsDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.PollInterval = time.Hour
		w.graph.took = time.Minute
		w.users(1)
		f, stop := w.run(t)
		synctest.Wait()
		began := time.Now()
		assert.Equal(t, began.Add(-time.Hour-5*time.Minute).Unix(), f.Needed().Unix(), "the poll under way, with its overlap")
		f.Open(gap(backfill.Undelivered))
		assert.Equal(t, began.Add(-3*time.Hour-5*time.Minute).Unix(), f.Needed().Unix())
		pass(59 * time.Minute)
		assert.Equal(t, began.Add(-time.Hour-5*time.Minute).Unix(), f.Needed().Unix(), "its last hour is to be read again")
		stop()
	})
	assert.Zero(t, backfill.New(backfill.Settings{}).Needed())
}
