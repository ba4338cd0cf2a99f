package receiver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// rejections counts what was not let in, and says why with its mend.
type rejections struct {
	logger    *zap.Logger
	telemetry *telemetry
	repeats   *repeats
	// gap says that an item is missing.
	gap func(reason history.Reason, itemID string, now time.Time)
}

// Reject takes note of rejected items. It never blocks.
func (r *rejections) Reject(ctx context.Context, rejected []notification.Rejection) {
	now := time.Now()
	for _, rejection := range rejected {
		r.telemetry.rejected(ctx, rejection.Reason)
		if rejection.Gap != "" {
			r.gap(history.Reason(rejection.Gap), rejection.ItemID, now)
		}
		if count, ok := r.repeats.due(string(rejection.Reason), now); ok {
			r.logger.Warn("notification rejected",
				zap.String("reason", string(rejection.Reason)), zap.Int("count", count), zap.Error(rejection.Err))
		}
	}
}
