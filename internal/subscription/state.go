package subscription

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
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

// The operations that can fail, as logs name them.
const (
	opList   = "list"
	opCreate = "create"
	opRenew  = "renew"
	opDelete = "delete"
	// opReplace is a deletion with the creation that follows.
	opReplace = "replace"
)

// retryState is something that is tried until it works.
type retryState struct {
	// name is how logs and errors call it, userID what they must not say.
	name, userID string
	// operation and err are the last failure; err is nil while there is none.
	operation string
	err       error
	// failures counts those in a row, retryAt is the earliest next try.
	failures int
	retryAt  time.Time
	// logged is the distinct failure that the log has a line of, since loggedAt, loggedOf the operation that failed.
	logged, loggedOf string
	loggedAt         time.Time
}

func (a *retryState) succeed() {
	a.operation, a.err, a.failures, a.retryAt = "", nil, 0, time.Time{}
}

func (a *retryState) waits(now time.Time) bool { return now.Before(a.retryAt) }

// passBudget bounds what is done before the loop looks again at what is most urgent.
type passBudget struct {
	until time.Time
	// streak counts failures in a row that may well meet the next request too.
	streak int
	failed bool
	// exhausted says that no more calls are to be made now.
	exhausted bool
}

const (
	// longestTurn keeps ten thousand creations from delaying a renewal that is due.
	longestTurn = 30 * time.Second
	// longestStreak is how many users may find Graph broken before it is taken to be so for all.
	longestStreak = 3
)

// mayCall tells whether another call may be made in this turn.
func (k *Manager) mayCall(ctx context.Context) bool {
	return ctx.Err() == nil && !k.budget.exhausted && time.Now().Before(k.budget.until)
}

// worked notes that a call succeeded. Success of a list alone says nothing about whether Graph takes changes.
func (k *Manager) worked(a *retryState) {
	a.succeed()
	k.budget.streak = 0
	if a != &k.list {
		k.outage = 0
	}
}

// failed notes that a call failed, and decides when it, and any other call, may be made again.
// A call that was cut off by the end of the process has not failed.
func (k *Manager) failed(ctx context.Context, a *retryState, operation string, err error) {
	if ctx.Err() != nil {
		k.budget.exhausted = true
		return
	}
	now := time.Now()
	a.operation, a.err = operation, err
	a.failures++
	k.budget.failed = true
	a.retryAt = now.Add(backoff(a.failures))

	asked, scope := graph.RetryAfter(err), scopeOf(err)
	if scope == serverScope && operation != opList {
		k.budget.streak++
	}
	switch {
	case asked > 0:
		a.retryAt = now.Add(asked)
		k.hold = a.retryAt
		k.budget.exhausted = true
	case scope == applicationScope || k.budget.streak >= longestStreak:
		k.outage++
		k.hold = now.Add(backoff(k.outage))
		k.budget.exhausted = true
	}
}

// failedCreation is failed for a creation. An ingress may not lead to the listener yet when the collector starts, so that
// Graph's validation of the notification URL fails with 400: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
func (k *Manager) failedCreation(ctx context.Context, w *resourceState, err error) {
	k.failed(ctx, &w.retryState, opCreate, err)
	handshake := statusOf(err) == http.StatusBadRequest && graph.RetryAfter(err) == 0
	if handshake && !w.lived && w.failures > 0 && w.failures <= handshakeRetries {
		w.retryAt = time.Now().Add(shortestBackoff << (w.failures - 1))
	}
}

// remove deletes a subscription; one that is gone already is as good as deleted.
func (k *Manager) remove(ctx context.Context, id string) error {
	err := k.s.Graph.DeleteSubscription(ctx, id)
	if err != nil && statusOf(err) != http.StatusNotFound {
		return err
	}
	k.forget(id)
	k.gone[id] = true
	return nil
}

var errPastExpiration = errors.New("Graph granted no expiration in the future: check the clock of this machine")

const (
	shortestBackoff = time.Second
	longestBackoff  = 5 * time.Minute
	// handshakeRetries are made without jitter, since whoever starts a collector waits for them: after 1, 2 and 4 s.
	handshakeRetries = 3
)

// backoff returns how long to wait after so many failures in a row: exponential between 1 s and 5 min with equal jitter.
func backoff(failures int) time.Duration {
	bound := longestBackoff
	if shift := max(failures, 1); shift < 9 {
		bound = min(shortestBackoff<<shift, longestBackoff)
	}
	//nolint:gosec // G404: jitter needs no secrecy.
	return bound/2 + rand.N(bound/2+1)
}

// statusOf returns the HTTP status of Graph's answer, 0 where Graph did not answer.
func statusOf(err error) int {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.Status
	}
	return 0
}

// scope is how far a failure concerns other calls.
type scope int

const (
	// requestScope: Graph refused this very request. Others may well succeed.
	requestScope scope = iota
	// serverScope: a failure of a server or of the way to it, which often meets the next request too.
	serverScope
	// applicationScope: without a token nothing will succeed, and a demand to stay away is meant for the application.
	applicationScope
)

func scopeOf(err error) scope {
	if _, ok := errors.AsType[*graph.TokenError](err); ok || graph.RetryAfter(err) > 0 {
		return applicationScope
	}
	if _, ok := errors.AsType[*graph.CredentialError](err); ok {
		return applicationScope
	}
	if _, ok := errors.AsType[*ConflictError](err); ok {
		return requestScope
	}
	if _, ok := errors.AsType[*KeyConflictError](err); ok {
		return requestScope
	}
	switch status := statusOf(err); {
	case status == http.StatusUnauthorized || status == http.StatusTooManyRequests:
		return applicationScope
	case status >= 400 && status < 500:
		return requestScope
	default:
		return serverScope
	}
}
