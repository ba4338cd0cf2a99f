package receiver

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// subscriptionGaps opens and ends the gaps of interrupted subscriptions, and keeps the list of this collector's subscriptions
// for the next run. It implements subscription.Observer.
type subscriptionGaps struct {
	gaps  *gapstore.Store
	known *statestore.Value[[]subscription.Known]
}

const (
	knownKey     = "subscriptions"
	knownVersion = 1
)

func newSubscriptionGaps(gaps *gapstore.Store, store *statestore.Store, logger *zap.Logger) *subscriptionGaps {
	return &subscriptionGaps{gaps: gaps, known: statestore.NewValue[[]subscription.Known](statestore.ValueSettings{
		Store: store, Key: knownKey, Version: knownVersion, Name: "own subscriptions", Logger: logger,
	})}
}

// load returns this collector's subscriptions of earlier runs, since Graph's list may not show whose they are. It fails if the
// storage can't be read; a damaged value is logged and replaced.
func (g *subscriptionGaps) load(ctx context.Context) ([]subscription.Known, error) {
	known, _, err := g.known.Load(ctx)
	return known, err
}

func (g *subscriptionGaps) update(event func(state *gap.State, now time.Time)) {
	g.gaps.Update(context.Background(), event)
}

// Checked implements subscription.Observer.
func (g *subscriptionGaps) Checked(time.Time) {
	g.update(func(state *gap.State, now time.Time) { state.Confirmed(g.gaps.Rules(), now) })
}

// Adopted implements subscription.Observer.
func (g *subscriptionGaps) Adopted(time.Time) { g.update((*gap.State).Adopted) }

// Interrupted implements subscription.Observer.
func (g *subscriptionGaps) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	why := gap.Subscription
	if reason == subscription.ReasonRemovedKey {
		why = gap.RemovedKey
	}
	g.update(func(state *gap.State, now time.Time) { state.Interrupted(resource, why, scopeOf(resource), since, now) })
	// After a crash the subscription that is created next looks as if it had never been interrupted.
	flush(context.Background(), g.gaps)
}

// flushTimeout bounds how long a caller waits until gaps are stored.
const flushTimeout = time.Second

// flush stores gaps before something depends on them, also if ctx ends. A failure is logged by the store, and the gaps stay known in memory.
func flush(ctx context.Context, gaps *gapstore.Store) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	_ = gaps.Flush(ctx)
}

// Restored implements subscription.Observer.
func (g *subscriptionGaps) Restored(resource string, _ time.Time) {
	g.update(func(state *gap.State, now time.Time) { state.Restored(resource, now) })
}

// Known implements subscription.Observer.
func (g *subscriptionGaps) Known(known []subscription.Known) {
	g.known.Changed()
	_ = g.known.Save(context.Background(), func() []subscription.Known { return known }) // a failure is logged there
}

// scopeOf returns whose interactions a resource has: those of the user in its path, or of all.
func scopeOf(resource string) gap.Scope {
	for part := range strings.SplitSeq(resource, "/") {
		if user, ok := gap.ParseUser(part); ok {
			return gap.Scope{Users: []gap.User{user}}
		}
	}
	return gap.Scope{}
}

// digestOf returns what identifies an interaction's notification when it is sent again: its encrypted content, or its ids if it
// came without content.
func digestOf(received *interaction.Received) gapstore.Digest {
	if received.ContentDigest == (gapstore.Digest{}) {
		return digestOfIDs(received.SubscriptionID, received.ID)
	}
	return received.ContentDigest
}

// digestOfUnopened returns the same of an item that could not be decrypted.
func digestOfUnopened(item *notification.Item) gapstore.Digest {
	if digest := item.ContentDigest(); digest != (gapstore.Digest{}) {
		return digest
	}
	return digestOfIDs(item.SubscriptionID, item.ResourceID)
}

func digestOfIDs(subscriptionID, id string) gapstore.Digest {
	return sha256.Sum256([]byte(subscriptionID + "\x1f" + id))
}

// deliveredCheck tells the decrypter what was delivered already, and stops tracking it as undelivered. It implements
// notification.Seen.
type deliveredCheck struct {
	cache       *dedupe.Cache
	undelivered *gapstore.Undelivered
}

// Known implements notification.Seen.
func (d deliveredCheck) Known(digest [sha256.Size]byte) bool {
	delivered := d.cache.Known(digest)
	if delivered {
		d.undelivered.Resolve(digest)
	}
	return delivered
}
