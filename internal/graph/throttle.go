// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

const (
	// After more than failuresTolerated failures in a row all requests pause, since Graph is failing. Fewer may be those of a
	// single user, who is tried several times and then again with a gap of its own.
	failuresTolerated = 9
	maxPause          = 5 * time.Minute
	// throttledReportAfter is how long throttling may last without a successful request before it is reported.
	throttledReportAfter = 15 * time.Minute
	// A missing permission has to be granted by an administrator.
	minPermissionPause, maxPermissionPause = 5 * time.Minute, time.Hour

	// maxHistoryPages limits what is read of one user: a million interactions.
	maxHistoryPages = 10_000
)

// ThrottleSettings configures a Throttle. All fields are required.
type ThrottleSettings struct {
	// Graph is *Client but for tests.
	Graph interface {
		History(ctx context.Context, user string, from, to time.Time, next string) (HistoryPage, error)
		Answered() bool
	}
	// RequestsPerSecond limits the requests. Graph accepts 30: https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	Logger            *zap.Logger
	// Status is called when the health changes, and only then: with an error that names no user and says what to do while no
	// history can be read, with nil when it can be read again. It must not block.
	Status func(error)
}

// Throttle makes the requests for the history. It limits their rate, pauses all of them while Graph asks to wait or none can
// succeed, and repeats those that were answered so. It is safe for concurrent use.
type Throttle struct {
	settings ThrottleSettings
	limiter  *rate.Limiter
	health   health.Part

	mu sync.Mutex // guards what follows
	// until is the time before which no request is made.
	until time.Time
	// failures counts those in a row that concern all users, since the first of them.
	failures int
	since    time.Time
	// pauses are those while Graph fails, permissionPauses those while no user may be read.
	pauses, permissionPauses *backoff.ExponentialBackOff
}

// NewThrottle returns a Throttle.
func NewThrottle(s ThrottleSettings) *Throttle {
	return &Throttle{
		settings: s,
		// With a burst of one no second sees more requests than the limit.
		limiter: rate.NewLimiter(rate.Limit(s.RequestsPerSecond), 1),
		health: health.Part{
			Logger:    s.Logger,
			Failing:   "history can't be read, its gaps stay open, will be tried again",
			Recovered: "history can be read again",
			Code:      failure.RequestRefused,
			Status:    s.Status,
		},
		pauses: NewBackOff(maxPause),
		permissionPauses: &backoff.ExponentialBackOff{
			InitialInterval: minPermissionPause, Multiplier: 2, MaxInterval: maxPermissionPause,
		},
	}
}

// Answered is Client.Answered.
func (t *Throttle) Answered() bool { return t.settings.Graph.Answered() }

// History yields the pages of Client.History. It waits while no user's history can be read. An error is the last element.
func (t *Throttle) History(ctx context.Context, user string, from, to time.Time) iter.Seq2[[]json.RawMessage, error] {
	return Pages(maxHistoryPages, func(next string) (HistoryPage, error) {
		return t.repeat(ctx, func() (HistoryPage, error) { return t.settings.Graph.History(ctx, user, from, to, next) })
	})
}

// repeat makes a request as soon as one may be made, and again each time that Graph asks to wait or accepts no token. Its error is
// that of the request, or the context's.
func (t *Throttle) repeat(ctx context.Context, request func() (HistoryPage, error)) (page HistoryPage, err error) {
	for {
		if err = t.wait(ctx); err != nil {
			return page, err
		}
		page, err = request()
		if err != nil && ctx.Err() != nil {
			return page, ctx.Err()
		}
		t.observe(err)
		if !throttled(err) && !denied(err) {
			return page, err
		}
	}
}

func (t *Throttle) wait(ctx context.Context) error {
	for {
		if err := t.limiter.Wait(ctx); err != nil {
			return err
		}
		t.mu.Lock()
		pause := time.Until(t.until)
		t.mu.Unlock()
		if pause <= 0 {
			return nil
		}
		if err := Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// throttled reports whether Graph asks the application to wait.
func throttled(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusTooManyRequests || RetryAfter(err) > 0
}

// denied reports whether no request can succeed until the configuration is corrected.
func denied(err error) bool {
	return isType[*TokenError](err) || isOneOf(err, failure.ScopeWrong) || Unsupported(err)
}

// observe decides after a response whether all requests pause.
func (t *Throttle) observe(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait, forAll := RetryAfter(err), throttled(err) || denied(err)
	switch {
	case time.Now().Before(t.until) && wait == 0:
		return // The request was in flight when the pause began, and adds nothing new.
	case forAll:
	case err == nil, Unlicensed(err):
		t.failures = 0
		t.pauses.Reset()
		t.permissionPauses.Reset()
		t.health.Report(nil)
		return
	case Forbidden(err):
		t.failures = 0 // Graph answers, although not what was asked for.
		t.pauses.Reset()
		return
	}
	if t.failures++; t.failures == 1 {
		t.since = time.Now()
	}
	if !forAll && t.failures <= failuresTolerated {
		return
	}
	if !throttled(err) || time.Since(t.since) > throttledReportAfter {
		t.Failing(err)
	}
	if wait == 0 {
		wait = t.pauses.NextBackOff()
	}
	t.pause(wait)
}

// Failing reports that so many users can't be read that the others must wait.
func (t *Throttle) Failing(err error) { t.health.Report(err, CodeField(err)) }

// PermissionMissing pauses all requests, since no user's history may be read.
func (t *Throttle) PermissionMissing(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Failing(err)
	t.pause(t.permissionPauses.NextBackOff())
}

// pause extends the pause, and never shortens it. It is called with mu held.
func (t *Throttle) pause(wait time.Duration) {
	if until := time.Now().Add(wait); until.After(t.until) {
		t.until = until
	}
}

// NewBackOff returns delays of about 1 s after a first failure, twice as long after each further one, at most longest.
func NewBackOff(longest time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5,
		MaxInterval: longest * 2 / 3, // to which up to a half is added
	}
}

// Sleep waits, and returns the context's error as soon as the context ends.
func Sleep(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
