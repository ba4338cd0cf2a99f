package receiver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestComponents_MissingIncludesPendingGaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		backfiller := backfill.New(backfill.Settings{Disabled: true})
		r := &components{
			backfiller: backfiller, gapTracker: newGapTracker(newStore(t), zap.NewNop(), backfiller), maxGap: 168 * time.Hour,
			undelivered: newUndelivered(newStore(t), zap.NewNop(), retryDeadline, backfiller), silence: &silenceDetector{},
		}
		assert.Empty(t, r.missing(now))
		assert.Zero(t, r.needed())

		r.gapTracker.Checked(now)
		time.Sleep(30 * time.Hour)
		hour := func(n int) time.Duration { return time.Duration(n) * time.Hour }
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Subscription: hour(30) + maxNotificationDelay}, r.missing(time.Now()), "nobody knows since then")
		assert.Equal(t, now.Add(-maxNotificationDelay-backfill.Overlap), r.needed())

		r.gapTracker.Interrupted(tenantWide, subscription.ReasonExpired, now.Add(-hour(2)))
		backfiller.Open(backfill.Gap{Reason: backfill.Undelivered, From: now.Add(-hour(1)), To: now})
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Undelivered: hour(1), backfill.Subscription: hour(32) + maxNotificationDelay}, r.missing(time.Now()))
		assert.Equal(t, now.Add(-hour(2)-maxNotificationDelay-backfill.Overlap), r.needed())

		time.Sleep(hour(200))
		assert.Equal(t, time.Now().Add(-hour(168)-maxNotificationDelay), r.needed(), "further back nothing is read")
	})
}
