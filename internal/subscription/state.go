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
	// eventSpacing is the shortest time between two renewals that lifecycle events cause.
	eventSpacing = time.Minute
	// shortLifetime is the time from which on the loss of a subscription does not count as one of a series.
	shortLifetime = 10 * time.Minute
)

// resourceState is the state of one wanted resource. Its retryState is that of the creation or renewal of its subscription.
type resourceState struct {
	retryState

	resource string
	// sub is the subscription in use while active is set, and else the previous one. created means that this process created it.
	sub             graph.Subscription
	active, created bool
	// wasActive means that this process has had an active subscription for the resource.
	wasActive bool
	// grantedAt is when the expiration of sub was granted, and granted is the lifetime at that time.
	grantedAt time.Time
	granted   time.Duration
	// startedAt is when sub was created or adopted, endedAt when it was found to have ended.
	startedAt, endedAt time.Time
	// lastConfirmed is when an active subscription was last confirmed.
	lastConfirmed time.Time
	// interruption is the reason of the open interruption, "" while there is none.
	interruption Reason
	// position is the index of the resource in Settings.Resources.
	position int
	// reauthorize means that Graph asked for a reauthorization, at reauthorizationRequestedAt, and no renewal has succeeded
	// since. reauthorizedAt is when the last one did.
	reauthorize                                bool
	reauthorizationRequestedAt, reauthorizedAt time.Time
	// shortLifetimes counts the consecutive subscriptions that were lost within shortLifetime.
	shortLifetimes int
	// waitsForOther means that the replacement of another receiver's subscription is deferred until retryAt.
	waitsForOther bool
	// replacedConflicting means that the one replacement that ReplaceForeign allows has been used.
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

// activate starts to use a subscription that was created or adopted.
func (r *resourceState) activate(sub graph.Subscription, made bool, now time.Time) {
	r.sub, r.created = sub, made
	r.active, r.wasActive = true, true
	r.startedAt = now
	r.reauthorize = false
}

// setGrant records a granted expiration.
func (r *resourceState) setGrant(expiration, now time.Time) {
	r.sub.Expiration = expiration
	r.grantedAt = now
	r.granted = expiration.Sub(now)
}

// renewAt returns the time at which a third of the granted lifetime is left, at least a second after the grant.
func renewAt(expiration, grantedAt time.Time, granted time.Duration) time.Time {
	return later(expiration.Add(-granted/3), grantedAt.Add(time.Second))
}

// patchAt returns when the subscription is to be renewed, because of its age or an event, and whether there is one.
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

// checkAt returns when the list is to be read for this resource, and whether it has to be.
func (r *resourceState) checkAt() (time.Time, bool) {
	return r.retryAt, !r.active || (r.err != nil && r.operation != opRenew)
}

// deactivate records that the subscription ended. After repeated short lifetimes it delays the next creation.
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

// The operations that can fail, as named in logs.
const (
	opList   = "list"
	opCreate = "create"
	opRenew  = "renew"
	opDelete = "delete"
	// opReplace is a deletion with the creation that follows.
	opReplace = "replace"
)

// retryState is the state of an operation that is retried until it succeeds.
type retryState struct {
	// name identifies it in logs and errors, which must not contain userID.
	name, userID string
	// operation and err describe the last failure; err is nil after a success.
	operation string
	err       error
	// failures counts consecutive failures, retryAt is the earliest time of the next attempt.
	failures int
	retryAt  time.Time
	// loggedSignature is the failure that was logged last, loggedAt the time and loggedOperation the operation.
	loggedSignature, loggedOperation string
	loggedAt                         time.Time
}

func (s *retryState) succeed() {
	s.operation, s.err, s.failures, s.retryAt = "", nil, 0, time.Time{}
}

func (s *retryState) waiting(now time.Time) bool { return now.Before(s.retryAt) }

// passBudget bounds one pass, so that the loop returns to the most urgent work in time.
type passBudget struct {
	until time.Time
	// consecutiveFailures counts server failures, which are likely to affect the next request too.
	consecutiveFailures int
	failed              bool
	// exhausted means that this pass makes no further calls.
	exhausted bool
}

const (
	// passTimeLimit prevents ten thousand creations from delaying a renewal that is due.
	passTimeLimit = 30 * time.Second
	// maxConsecutiveFailures is how many users may meet a server failure before it is assumed to affect all of them.
	maxConsecutiveFailures = 3
)

// mayCall reports whether this pass may make another call.
func (m *Manager) mayCall(ctx context.Context) bool {
	return ctx.Err() == nil && !m.budget.exhausted && time.Now().Before(m.budget.until)
}

// succeeded records a successful call. A successful list does not end an outage, since Graph may still refuse changes.
func (m *Manager) succeeded(s *retryState) {
	s.succeed()
	m.budget.consecutiveFailures = 0
	if s != &m.list {
		m.outageFailures = 0
	}
}

// failed records a failed call and decides when this and any other call may be made again.
// A call that was canceled at shutdown does not count as failed.
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

	retryAfter, scope := graph.RetryAfter(err), scopeOf(err)
	if scope == serverScope && operation != opList {
		m.budget.consecutiveFailures++
	}
	switch {
	case retryAfter > 0:
		s.retryAt = now.Add(retryAfter)
		m.backoffUntil = s.retryAt
		m.budget.exhausted = true
	case scope == applicationScope || m.budget.consecutiveFailures >= maxConsecutiveFailures:
		m.outageFailures++
		m.backoffUntil = now.Add(backoff(m.outageFailures))
		m.budget.exhausted = true
	}
}

// failedCreation records a failed creation. When the collector starts, the ingress may not route to the listener yet, and
// Graph's validation of the notification URL fails with 400; these first failures are retried sooner:
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
func (m *Manager) failedCreation(ctx context.Context, r *resourceState, err error) {
	m.failed(ctx, &r.retryState, opCreate, err)
	handshake := statusOf(err) == http.StatusBadRequest && graph.RetryAfter(err) == 0
	if handshake && !r.wasActive && r.failures > 0 && r.failures <= handshakeRetries {
		r.retryAt = time.Now().Add(minBackoff << (r.failures - 1))
	}
}

// remove deletes a subscription. One that no longer exists counts as deleted.
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
	// handshakeRetries are made after 1, 2 and 4 s without jitter, since the person who starts a collector waits for them.
	handshakeRetries = 3
)

// backoff returns the delay after the given number of consecutive failures: exponential from 1 s to 5 min, with equal jitter.
func backoff(failures int) time.Duration {
	bound := maxBackoff
	if shift := max(failures, 1); shift < 9 {
		bound = min(minBackoff<<shift, maxBackoff)
	}
	//nolint:gosec // G404: jitter needs no secrecy.
	return bound/2 + rand.N(bound/2+1)
}

// statusOf returns the HTTP status of Graph's response, 0 if there was none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.Status
	}
	return 0
}

// scope is the set of calls that a failure affects.
type scope int

const (
	// requestScope: Graph refused this request. Others may succeed.
	requestScope scope = iota
	// serverScope: a failure of a server or of the network, which often affects the next request too.
	serverScope
	// applicationScope: no call succeeds without a token, and a Retry-After applies to the whole application.
	applicationScope
)

func scopeOf(err error) scope {
	if _, ok := errors.AsType[*graph.TokenError](err); ok || graph.RetryAfter(err) > 0 {
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
