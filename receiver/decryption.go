package receiver

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// decryption decrypts for the webhook, and notes when Graph was certainly there, and what it is going to send again. It implements
// webhook.Decrypter.
type decryption struct {
	*notification.Decrypter

	logger      *zap.Logger
	occasional  *occasionalLog
	undelivered *gapstore.Undelivered

	// lastAuthentic is when the last authentic notification arrived; nil before the first.
	lastAuthentic atomic.Pointer[time.Time]
}

// Decrypt implements webhook.Decrypter. The collection holds only items with a valid clientState, so items that can't be
// verified now were sent by Graph.
func (d *decryption) Decrypt(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error) {
	decrypted, err := d.Decrypter.Decrypt(ctx, collection, at)
	if err != nil {
		for i := range collection.Items {
			if item := &collection.Items[i]; item.LifecycleEvent == "" {
				d.undelivered.Track(digestOfUnopened(item), item.ResourceID, at)
			}
		}
		if count, ok := d.occasional.due("decrypt", time.Now()); ok {
			d.logger.Warn("notifications can't be decrypted now, Graph retries them",
				append(failure.Of(err).Fields(), zap.Int("count", count), zap.Error(err))...)
		}
		return decrypted, err
	}
	if authenticated(len(collection.Items), decrypted) {
		d.lastAuthentic.Store(&at)
	}
	return decrypted, nil
}

// authenticated reports whether validation tokens proved that any of the given number of items was sent by Graph. Items
// that were delivered before are counted too, although they leave nothing in decrypted.
func authenticated(items int, decrypted notification.Decrypted) bool {
	for i := range decrypted.Rejected {
		if missing := decrypted.Rejected[i].Gap; missing != gap.Undecryptable && missing != gap.Empty {
			items--
		}
	}
	return items > 0
}

// lifecycle passes lifecycle events to the subscription manager. It implements webhook.Lifecycle.
type lifecycle struct{ manager *subscription.Manager }

// Wake implements webhook.Lifecycle.
func (l lifecycle) Wake(event notification.Lifecycle) {
	l.manager.Wake(subscription.Event{SubscriptionID: event.SubscriptionID, Kind: event.Event})
}
