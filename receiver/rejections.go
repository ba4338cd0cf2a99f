package receiver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// rejections counts and logs rejected notifications, each with its reason and hint.
type rejections struct {
	logger      *zap.Logger
	telemetry   *telemetry
	occasional  *occasionalLog
	undelivered *gapstore.Undelivered
	gaps        *gapstore.Store
}

// Reject counts rejected items, and stores the gaps of missing ones before it returns, since Graph does not retry them.
func (r *rejections) Reject(ctx context.Context, rejected []notification.Rejection) {
	missing := false
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
			r.gaps.Update(ctx, func(state *gap.State, now time.Time) {
				state.Item(r.gaps.Rules(), rejection.Gap, rejection.ItemID, now)
			})
			r.undelivered.Resolve(rejection.ContentDigest)
			missing = true
		}
	}
	for reason, one := range kinds {
		r.telemetry.rejected(ctx, reason, one.count)
		if count, ok := r.occasional.dueAfter(string(reason), one.count, time.Now()); ok {
			r.logger.Warn("notification rejected", append(failure.Of(one.err).Fields(),
				zap.String("reason", string(reason)), zap.Int("count", count), zap.Error(one.err))...)
		}
	}
	if missing {
		flush(ctx, r.gaps)
	}
}
