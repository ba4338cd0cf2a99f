package subscription

import (
	"context"
	"net/http"
	"time"
)

// renewDue renews what is old enough, or what Graph wants to be reauthorized. A PATCH does both, and Microsoft warns of
// sending reauthorize beside it: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
func (k *Manager) renewDue(ctx context.Context) {
	for _, w := range k.resources {
		if at, needed := w.patchAt(); needed && !time.Now().Before(at) && k.mayCall(ctx) {
			k.renew(ctx, w)
		}
	}
}

func (k *Manager) renew(ctx context.Context, w *resourceState) {
	asked := time.Now().Add(k.s.Lifetime).UTC()
	got, err := k.s.Graph.RenewSubscription(ctx, w.sub.ID, asked)
	now := time.Now()
	if err == nil && !got.Expiration.After(now) {
		err = errPastExpiration
	}
	k.s.Telemetry.Renewal(ctx, err)
	switch {
	case err == nil:
		k.worked(&w.retryState)
		w.grant(got.Expiration, now)
		k.clearReauthorization(w, now)
		k.event("subscription renewed", w)
		k.restore(w, now)
	case statusOf(err) == http.StatusNotFound:
		// Graph says to create a new one rather than to try again.
		k.markLost(w, ReasonLost)
	default:
		k.failed(ctx, &w.retryState, opRenew, err)
	}
}

// markLost notes that the subscription in use is no more.
func (k *Manager) markLost(w *resourceState, reason Reason) {
	if reason != ReasonExpired {
		k.gone[w.sub.ID] = true
	}
	w.end(time.Now())
	k.warn("subscription ended", w, reasonField(reason))
	k.interrupt(w, reason, w.aliveAt)
}

// interrupt opens an interruption, or gives the open one a better reason.
func (k *Manager) interrupt(w *resourceState, reason Reason, since time.Time) {
	if w.interruption == "" {
		k.s.Observer.Interrupted(w.resource, reason, since)
	}
	w.interruption = reason
}

// restore notes that the resource has a living subscription, and closes an interruption. That Graph lists it says nothing
// while delivery may have paused.
func (k *Manager) restore(w *resourceState, at time.Time) {
	if w.paused(at) {
		return
	}
	w.aliveAt = at
	if w.interruption != "" {
		w.interruption = ""
		k.s.Observer.Restored(w.resource, at)
	}
}
