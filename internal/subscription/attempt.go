package subscription

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

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
