package receiver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// rejections counts and logs rejected notifications, each with its reason and hint.
type rejections struct {
	logger      *zap.Logger
	telemetry   *telemetry
	occasional  *occasionalLog
	undelivered *undelivered
	gaps        interface {
		Item(reason backfill.Reason, itemID string, now time.Time)
		Flush(ctx context.Context) error
	}
}

// flushTimeout bounds how long the answer to Graph waits until gaps are stored.
const flushTimeout = time.Second

// Reject counts rejected items, and stores the gaps of missing ones before it returns, since Graph does not retry them.
func (r *rejections) Reject(ctx context.Context, rejected []notification.Rejection) {
	now, missing := time.Now(), false
	type kind struct {
		count int
		err   error // of the first item
	}
	kinds := map[notification.Reason]kind{}
	for _, rejection := range rejected {
		one := kinds[rejection.Reason]
		one.count += max(rejection.Count, 1)
		if one.err == nil {
			one.err = rejection.Err
		}
		kinds[rejection.Reason] = one
		if rejection.Gap != "" {
			r.gaps.Item(backfill.Reason(rejection.Gap), rejection.ItemID, now)
			r.undelivered.resolve(rejection.ContentDigest)
			missing = true
		}
	}
	for reason, one := range kinds {
		r.telemetry.rejected(ctx, reason, one.count)
		if count, ok := r.occasional.dueAfter(string(reason), one.count, now); ok {
			r.logger.Warn("notification rejected",
				zap.String("reason", string(reason)), zap.Int("count", count), zap.Error(one.err))
		}
	}
	if missing {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = r.gaps.Flush(ctx) // A failure is logged there, and the gap stays known in memory.
	}
}
