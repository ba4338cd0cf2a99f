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
	// shortLifetime is how long a subscription must have lived for its loss not to count as one of a series.
	shortLifetime = 10 * time.Minute
)

// resourceState is one resource that is to have a subscription. Its attempt is the one at giving it one, or at renewing it.
type resourceState struct {
	retryState

	resource string
	// sub is the subscription in use, or the last one; active says which. made says that this process created it.
	sub             graph.Subscription
	active, created bool
	// wasActive says that there has been one in this process.
	wasActive bool
	// grantedAt is when the expiration of sub was granted, and granted the lifetime it had then.
	grantedAt time.Time
	granted   time.Duration
	// startedAt is when sub was created or adopted, endedAt when it was found to be no more.
	startedAt, endedAt time.Time
	// lastConfirmed is when one was last seen alive.
	lastConfirmed time.Time
	// interruption is the open one, "" while there is none.
	interruption Reason
	// position is its place among the watches.
	position int
	// reauthorize says that Graph asked for a reauthorization, at askedAt, and no renewal has answered yet; eventAt is when
	// the last one did.
	reauthorize                                bool
	reauthorizationRequestedAt, reauthorizedAt time.Time
	// shortLifetimes counts subscriptions in a row that were lost soon.
	shortLifetimes int
	// waitsForOther says that a subscription of another receiver's key is left alone at present, and retryAt until when.
	waitsForOther bool
	// replacedConflicting says that the one time is used up.
	replacedConflicting bool
}

func newResourceState(resource string, position int) *resourceState {
	r := &resourceState{resource: resource, position: position}
	r.name = "tenant"
	if rest, found := strings.CutPrefix(canonical(resource), "copilot/users/"); found {
		r.name = "users[" + strconv.Itoa(position) + "]"
		r.userID, _, _ = strings.Cut(rest, "/")
	}
	return r
}

// activate begins with a subscription that was created or adopted.
func (r *resourceState) activate(sub graph.Subscription, made bool, now time.Time) {
	r.sub, r.created = sub, made
	r.active, r.wasActive = true, true
	r.startedAt = now
	r.reauthorize = false
}

// setGrant notes how long the subscription lives from now on.
func (r *resourceState) setGrant(expiration, now time.Time) {
	r.sub.Expiration = expiration
	r.grantedAt = now
	r.granted = expiration.Sub(now)
}

// renewAt is when a third of the granted lifetime is left, and never within a second of the grant.
func renewAt(expiration, grantedAt time.Time, granted time.Duration) time.Time {
	return later(expiration.Add(-granted/3), grantedAt.Add(time.Second))
}

// patchAt is the earliest time at which the subscription is to be renewed, be it for its age or for an event.
func (r *resourceState) patchAt() (time.Time, bool) {
	if !r.active {
		return time.Time{}, false
	}
	at := renewAt(r.sub.Expiration, r.grantedAt, r.granted)
	if r.reauthorize {
		at = earlier(at, r.reauthorizedAt.Add(eventSpacing))
	}
	return later(at, r.retryAt), true
}

// checkAt is when the list is to be read for this resource's sake, if it is.
func (r *resourceState) checkAt() (time.Time, bool) {
	return r.retryAt, !r.active || (r.err != nil && r.operation != opRenew)
}

// deactivate notes that the subscription is no more, and spaces out the creation of the next one if that becomes a habit.
func (r *resourceState) deactivate(now time.Time) {
	if !r.active {
		return
	}
	r.active, r.reauthorize = false, false
	r.endedAt = now
	r.retryAt = time.Time{}
	if now.Sub(r.startedAt) >= shortLifetime {
		r.shortLifetimes = 0
		return
	}
	if r.shortLifetimes++; r.shortLifetimes > 1 {
		r.retryAt = now.Add(backoff(r.shortLifetimes - 1))
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
	// loggedSignature is the distinct failure that the log has a line of, since loggedAt, loggedOf the operation that failed.
	loggedSignature, loggedOperation string
	loggedAt                         time.Time
}

func (s *retryState) succeed() {
	s.operation, s.err, s.failures, s.retryAt = "", nil, 0, time.Time{}
}

func (s *retryState) waiting(now time.Time) bool { return now.Before(s.retryAt) }

// passBudget bounds what is done before the loop looks again at what is most urgent.
type passBudget struct {
	until time.Time
	// consecutiveFailures counts failures in a row that may well meet the next request too.
	consecutiveFailures int
	failed              bool
	// exhausted says that no more calls are to be made now.
	exhausted bool
}

const (
	// passTimeLimit keeps ten thousand creations from delaying a renewal that is due.
	passTimeLimit = 30 * time.Second
	// maxConsecutiveFailures is how many users may find Graph broken before it is taken to be so for all.
	maxConsecutiveFailures = 3
)

// mayCall tells whether another call may be made in this turn.
func (m *Manager) mayCall(ctx context.Context) bool {
	return ctx.Err() == nil && !m.budget.exhausted && time.Now().Before(m.budget.until)
}

// succeeded notes that a call succeeded. Success of a list alone says nothing about whether Graph takes changes.
func (m *Manager) succeeded(s *retryState) {
	s.succeed()
	m.budget.consecutiveFailures = 0
	if s != &m.list {
		m.outageFailures = 0
	}
}

// failed notes that a call failed, and decides when it, and any other call, may be made again.
// A call that was cut off by the end of the process has not failed.
func (m *Manager) failed(ctx context.Context, s *retryState, operation string, err error) {
	if ctx.Err() != nil {
		m.budget.exhausted = true
		return
	}
	now := time.Now()
	s.operation, s.err = operation, err
	s.failures++
	m.budget.failed = true
	s.retryAt = now.Add(backoff(s.failures))

	asked, scope := graph.RetryAfter(err), scopeOf(err)
	if scope == serverScope && operation != opList {
		m.budget.consecutiveFailures++
	}
	switch {
	case asked > 0:
		s.retryAt = now.Add(asked)
		m.backoffUntil = s.retryAt
		m.budget.exhausted = true
	case scope == applicationScope || m.budget.consecutiveFailures >= maxConsecutiveFailures:
		m.outageFailures++
		m.backoffUntil = now.Add(backoff(m.outageFailures))
		m.budget.exhausted = true
	}
}

// failedCreation is failed for a creation. An ingress may not lead to the listener yet when the collector starts, so that
// Graph's validation of the notification URL fails with 400: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
func (m *Manager) failedCreation(ctx context.Context, r *resourceState, err error) {
	m.failed(ctx, &r.retryState, opCreate, err)
	handshake := statusOf(err) == http.StatusBadRequest && graph.RetryAfter(err) == 0
	if handshake && !r.wasActive && r.failures > 0 && r.failures <= handshakeRetries {
		r.retryAt = time.Now().Add(minBackoff << (r.failures - 1))
	}
}

// remove deletes a subscription; one that is gone already is as good as deleted.
func (m *Manager) remove(ctx context.Context, id string) error {
	err := m.settings.Graph.DeleteSubscription(ctx, id)
	if err != nil && statusOf(err) != http.StatusNotFound {
		return err
	}
	m.forget(id)
	m.gone[id] = true
	return nil
}

var errPastExpiration = errors.New("Graph granted no expiration in the future: check the clock of this machine")

const (
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
	// handshakeRetries are made without jitter, since whoever starts a collector waits for them: after 1, 2 and 4 s.
	handshakeRetries = 3
)

// backoff returns how long to wait after so many failures in a row: exponential between 1 s and 5 min with equal jitter.
func backoff(failures int) time.Duration {
	bound := maxBackoff
	if shift := max(failures, 1); shift < 9 {
		bound = min(minBackoff<<shift, maxBackoff)
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
