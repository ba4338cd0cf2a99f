package subscription

import (
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// eventSpacing is the shortest time between two renewals that lifecycle events ask for.
	eventSpacing = time.Minute
	// shortLife is how long a subscription must have lived for its loss not to count as one of a series.
	shortLife = 10 * time.Minute
)

// resourceState is one resource that is to have a subscription. Its attempt is the one at giving it one, or at renewing it.
type resourceState struct {
	retryState

	resource string
	// sub is the subscription in use, or the last one; active says which. made says that this process created it.
	sub          graph.Subscription
	active, made bool
	// lived says that there has been one in this process.
	lived bool
	// grantedAt is when the expiration of sub was granted, and granted the lifetime it had then.
	grantedAt time.Time
	granted   time.Duration
	// bornAt is when sub was created or adopted, endedAt when it was found to be no more.
	bornAt, endedAt time.Time
	// aliveAt is when one was last seen alive.
	aliveAt time.Time
	// interruption is the open one, "" while there is none.
	interruption Reason
	// position is its place among the watches.
	position int
	// reauthorize says that Graph asked for a reauthorization, at askedAt, and no renewal has answered yet; eventAt is when
	// the last one did.
	reauthorize                         bool
	reauthorizationRequestedAt, eventAt time.Time
	// shortLives counts subscriptions in a row that were lost soon.
	shortLives int
	// waitsForOther says that a subscription of another receiver's key is left alone at present, and retryAt until when.
	waitsForOther bool
	// tookConflicting says that the one time is used up.
	tookConflicting bool
}

func newResourceState(resource string, position int) *resourceState {
	w := &resourceState{resource: resource, position: position}
	w.name = "tenant"
	if rest, found := strings.CutPrefix(canonical(resource), "copilot/users/"); found {
		w.name = "users[" + strconv.Itoa(position) + "]"
		w.userID, _, _ = strings.Cut(rest, "/")
	}
	return w
}

// use begins with a subscription that was created or adopted.
func (w *resourceState) use(sub graph.Subscription, made bool, now time.Time) {
	w.sub, w.made = sub, made
	w.active, w.lived = true, true
	w.bornAt = now
	w.reauthorize = false
}

// grant notes how long the subscription lives from now on.
func (w *resourceState) grant(expiration, now time.Time) {
	w.sub.Expiration = expiration
	w.grantedAt = now
	w.granted = expiration.Sub(now)
}

// renewAt is when a third of the granted lifetime is left, and never within a second of the grant.
func renewAt(expiration, grantedAt time.Time, granted time.Duration) time.Time {
	return later(expiration.Add(-granted/3), grantedAt.Add(time.Second))
}

// patchAt is the earliest time at which the subscription is to be renewed, be it for its age or for an event.
func (w *resourceState) patchAt() (time.Time, bool) {
	if !w.active {
		return time.Time{}, false
	}
	at := renewAt(w.sub.Expiration, w.grantedAt, w.granted)
	if w.reauthorize {
		at = earlier(at, w.eventAt.Add(eventSpacing))
	}
	return later(at, w.retryAt), true
}

// checkAt is when the list is to be read for this resource's sake, if it is.
func (w *resourceState) checkAt() (time.Time, bool) {
	return w.retryAt, !w.active || (w.err != nil && w.operation != opRenew)
}

// end notes that the subscription is no more, and spaces out the creation of the next one if that becomes a habit.
func (w *resourceState) end(now time.Time) {
	if !w.active {
		return
	}
	w.active, w.reauthorize = false, false
	w.endedAt = now
	w.retryAt = time.Time{}
	if now.Sub(w.bornAt) >= shortLife {
		w.shortLives = 0
		return
	}
	if w.shortLives++; w.shortLives > 1 {
		w.retryAt = now.Add(backoff(w.shortLives - 1))
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
