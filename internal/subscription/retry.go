// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// The operations that can fail, as named in logs.
const (
	opList   = "list"
	opCreate = "create"
	opRenew  = "renew"
	opDelete = "delete"
	// opReplace is the replacement of a subscription that is left alone.
	opReplace = "replace"
)

const (
	minWait = time.Second
	maxWait = 5 * time.Minute
	// jitter leaves waits of 1, 2 and 4 s as they are, since they are rounded to seconds.
	jitter = 0.1
)

// retry is the state of what is tried again until it succeeds.
type retry struct {
	// name identifies it in logs and errors.
	name string
	// operation and err are the last failure; err is nil after a success.
	operation string
	err       error
	// next is the earliest time of the next attempt, and zero if nothing failed.
	next    time.Time
	backoff backoff.ExponentialBackOff
}

func newRetry(name string) retry {
	return retry{name: name, backoff: backoff.ExponentialBackOff{
		InitialInterval: minWait, Multiplier: 2, RandomizationFactor: jitter, MaxInterval: maxWait * 9 / 10,
	}}
}

func (r *retry) due(now time.Time) bool { return !now.Before(r.next) }

// wait returns the time until the next attempt: 1, 2 and 4 s, then about twice as long each time, at most maxWait.
func (r *retry) wait() time.Duration { return r.backoff.NextBackOff().Round(time.Second) }

// failed notes a failure. The next attempt is made after the given time, or if that is zero with back-off.
func (r *retry) failed(now time.Time, operation string, err error, after time.Duration) {
	r.operation, r.err = operation, err
	r.next = now.Add(cmp.Or(after, r.wait()))
}

// recovered notes the end of the failure. Another one soon after it continues the back-off.
func (r *retry) recovered() { r.operation, r.err, r.next = "", nil, time.Time{} }

// succeeded notes the end of the failure for good.
func (r *retry) succeeded() {
	r.recovered()
	r.backoff.Reset()
}

// failed notes a failed call: as that of r, or if it concerns every call as an outage, which ends the pass. A call that was
// canceled at shutdown did not fail.
func (m *Manager) failed(ctx context.Context, r *retry, operation string, err error) {
	if ctx.Err() != nil {
		return
	}
	err = failure.WithDefault(err, failure.RequestRefused) // for Status too, which gets the error itself
	if concernsAll(err) {
		r = &m.outage
	}
	now := time.Now()
	r.failed(now, operation, err, graph.RetryAfter(err))
	if r != &m.outage && ofServer(err) {
		// It is likely to meet the others too, so they wait. It is noted at r only. If it does not meet them, the outage is over with
		// the next pass, and r is tried again later.
		m.outage.failed(now, "", nil, 0)
	}
	if m.outage.next.After(now) {
		m.nextCheck = time.Time{}
	}
}

// mayCall reports whether this pass may make another call.
func (m *Manager) mayCall(ctx context.Context) bool {
	now := time.Now()
	return ctx.Err() == nil && m.outage.due(now) && now.Before(m.passEnd)
}

// concernsAll reports whether no call can succeed: without an access token, and while Graph throttles the application.
func concernsAll(err error) bool {
	_, noToken := errors.AsType[*graph.TokenError](err)
	status := statusOf(err)
	return noToken || graph.RetryAfter(err) > 0 ||
		status == http.StatusUnauthorized || status == http.StatusTooManyRequests
}

// ofServer reports whether a server or the network failed, which often concerns the next call too.
func ofServer(err error) bool {
	status := statusOf(err)
	return status < 400 || status >= 500
}

// statusOf returns the HTTP status of Graph's response, 0 if there was none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.Status
	}
	return 0
}
