package receiver

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// subscriptionGaps opens and ends the gaps of interrupted subscriptions, and keeps the list of this collector's subscriptions
// for the next run, since Graph's list may not show whose they are. It implements subscription.Observer.
type subscriptionGaps struct {
	gaps  *gapstore.Store
	known *statestore.Value[[]subscription.Known]
	// own is what known holds.
	own []subscription.Known
}

func newSubscriptionGaps(gaps *gapstore.Store, store *statestore.Store, logger *zap.Logger) *subscriptionGaps {
	return &subscriptionGaps{gaps: gaps, known: statestore.NewValue[[]subscription.Known](statestore.ValueSettings{
		Store: store, Key: "subscriptions", Version: 1, Name: "own subscriptions", Logger: logger,
	})}
}

func (g *subscriptionGaps) update(event func(state *gap.State, now time.Time)) {
	g.gaps.Update(context.Background(), event)
}

func (g *subscriptionGaps) Checked() {
	g.update(func(state *gap.State, now time.Time) { state.Confirmed(g.gaps.Rules(), now) })
	g.save(context.Background())
}

func (g *subscriptionGaps) Adopted() { g.update((*gap.State).Adopted) }

func (g *subscriptionGaps) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	why := gap.Subscription
	if reason == subscription.ReasonRemovedKey {
		why = gap.RemovedKey
	}
	// After a crash the subscription that is created next looks as if it had never been interrupted.
	g.gaps.Record(context.Background(), func(state *gap.State, now time.Time) {
		state.Interrupted(resource, why, scopeOf(resource), since, now)
	})
}

func (g *subscriptionGaps) Restored(resource string) {
	g.update(func(state *gap.State, now time.Time) { state.Restored(resource, now) })
}

func (g *subscriptionGaps) Known(known []subscription.Known) {
	g.own = known
	g.known.Changed()
	g.save(context.Background())
}

// save stores the list of own subscriptions if storage does not have it yet.
func (g *subscriptionGaps) save(ctx context.Context) {
	own := g.own
	_ = g.known.Save(ctx, func() []subscription.Known { return own }) // a failure is logged there
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
