// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// subscriptionGaps opens and ends the gaps of interrupted subscriptions. It implements subscription.Observer.
type subscriptionGaps struct {
	gaps *gapstore.Store
}

func (g subscriptionGaps) update(event func(state *gap.State, now time.Time)) {
	g.gaps.Update(context.Background(), event)
}

func (g subscriptionGaps) Checked() {
	g.update(func(state *gap.State, now time.Time) { state.Confirmed(g.gaps.Rules(), now) })
}

func (g subscriptionGaps) AllInterrupted() {
	g.update(func(state *gap.State, now time.Time) { state.AllInterrupted(g.gaps.Rules(), now) })
}

func (g subscriptionGaps) Adopted() { g.update((*gap.State).Adopted) }

func (g subscriptionGaps) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	why := gap.Subscription
	if reason == subscription.ReasonRemovedKey {
		why = gap.RemovedKey
	}
	// After a crash the subscription that is created next looks as if it had never been interrupted.
	g.gaps.Record(context.Background(), func(state *gap.State, now time.Time) {
		state.Interrupted(resource, why, scopeOf(resource), since, now)
	})
}

func (g subscriptionGaps) Restored(resource string) {
	g.update(func(state *gap.State, now time.Time) { state.Restored(resource, now) })
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
