package receiver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestWhatIsMissingAndWhatIsNeededIncludesWhatIsNotInTheBookYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		filler := history.New(history.Settings{Disabled: true})
		r := &rooms{
			filler: filler, continuity: newContinuity(newStore(t), zap.NewNop(), filler), maxGap: 168 * time.Hour,
			refused: newRefused(newStore(t), zap.NewNop(), givenUp, filler), silence: &silence{},
		}
		assert.Empty(t, r.missing(now))
		assert.Zero(t, r.needed())

		r.continuity.Checked(now)
		time.Sleep(30 * time.Hour)
		hour := func(n int) time.Duration { return time.Duration(n) * time.Hour }
		assert.Equal(t, map[history.Reason]time.Duration{history.Subscription: hour(30) + lateness}, r.missing(time.Now()), "nobody knows since then")
		assert.Equal(t, now.Add(-lateness-history.Overlap), r.needed())

		r.continuity.Interrupted(tenantWide, subscription.ReasonExpired, now.Add(-hour(2)))
		filler.Open(history.Gap{Reason: history.Refused, From: now.Add(-hour(1)), To: now})
		assert.Equal(t, map[history.Reason]time.Duration{history.Refused: hour(1), history.Subscription: hour(32) + lateness}, r.missing(time.Now()))
		assert.Equal(t, now.Add(-hour(2)-lateness-history.Overlap), r.needed())

		time.Sleep(hour(200))
		assert.Equal(t, time.Now().Add(-hour(168)-lateness), r.needed(), "further back nothing is read")
	})
}
