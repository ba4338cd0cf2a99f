package receiver

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// gate stands between the webhook, which listens from the start, and what needs an encryption key, which may still have
// to be made. Until it opens nothing authentic can arrive, since no subscription names that key.
type gate struct {
	logger  *zap.Logger
	repeats *repeats
	opened  chan struct{}
	// opener and keeper are set before opened is closed.
	opener *notification.Opener
	keeper *subscription.Keeper
}

func newGate(logger *zap.Logger) *gate {
	return &gate{logger: logger, repeats: newRepeats(), opened: make(chan struct{})}
}

// open lets everything through from now on. It is called once.
func (g *gate) open(opener *notification.Opener, keeper *subscription.Keeper) {
	g.opener, g.keeper = opener, keeper
	close(g.opened)
}

func (g *gate) isOpen() bool {
	select {
	case <-g.opened:
		return true
	default:
		return false
	}
}

// Open implements webhook.Opener. It waits for the gate until ctx ends.
func (g *gate) Open(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Opened, error) {
	opened, err := g.tryOpen(ctx, collection, at)
	if err != nil {
		if count, ok := g.repeats.due("open", time.Now()); ok {
			g.logger.Warn("notifications can't be opened now, graph sends them again", zap.Int("count", count), zap.Error(err))
		}
	}
	return opened, err
}

func (g *gate) tryOpen(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Opened, error) {
	select {
	case <-g.opened:
		return g.opener.Open(ctx, collection, at)
	case <-ctx.Done():
		return notification.Opened{}, fmt.Errorf("wait for the encryption key: %w", ctx.Err())
	}
}

// Wake implements webhook.Lifecycle.
func (g *gate) Wake(event notification.Lifecycle) {
	if g.isOpen() {
		g.keeper.Wake(subscription.Event{SubscriptionID: event.SubscriptionID, Kind: event.Event})
	}
}

func (g *gate) timeLeft(now time.Time) (time.Duration, bool) {
	if !g.isOpen() {
		return 0, false
	}
	return g.keeper.TimeLeft(now)
}

// deleteSubscriptions is for after the keeper's end.
func (g *gate) deleteSubscriptions(ctx context.Context) error {
	if !g.isOpen() {
		return nil
	}
	if err := g.keeper.Delete(ctx); err != nil {
		return fmt.Errorf("delete the subscription, which else ends by itself: %w", err)
	}
	return nil
}
