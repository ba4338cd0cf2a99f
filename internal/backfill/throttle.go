package backfill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

const (
	// After failuresTolerated failures in a row all requests pause, since Graph is failing.
	failuresTolerated = 4
	maxPause          = 2 * time.Minute
	// throttledReportAfter is how long throttling may last without a successful request before it is reported.
	throttledReportAfter = 15 * time.Minute
	// A refused token may be accepted seconds later; a missing permission has to be granted by an administrator.
	maxDeniedPause                         = 5 * time.Minute
	minPermissionPause, maxPermissionPause = 5 * time.Minute, time.Hour
)

// Graph is the part of Microsoft Graph that is used. *graph.Client implements it. Its errors are logged, and name no user.
type Graph interface {
	// History reads a page of a user's interactions between two times, both excluded. Next is that of the previous page,
	// empty for the first.
	History(ctx context.Context, user string, from, to time.Time, next string) (graph.HistoryPage, error)
	// LicensedUsers reads a page of the users with a Copilot license.
	LicensedUsers(ctx context.Context, next string) (graph.UserPage, error)
	// Answered reports whether Graph has sent any response.
	Answered() bool
}

// ThrottleSettings configures a Throttle. All fields are required.
type ThrottleSettings struct {
	Graph Graph
	// RequestsPerSecond limits the requests to Graph. Graph accepts 30: https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	Logger            *zap.Logger
	// Status is called when the health changes, and only then: with an error that names no user and says what to do while no
	// history can be read, with nil when it can be read again. It must not block.
	Status func(error)
}

// Throttle makes requests to Graph. It limits their rate, pauses all of them while Graph asks to wait or none can succeed, and
// repeats those to which Graph answered so. It is safe for concurrent use.
type Throttle struct {
	graph   Graph
	limiter *rate.Limiter
	health  health.Part

	mu sync.Mutex // guards what follows
	// until is the time before which no request is made.
	until time.Time
	// failures counts those in a row that concern all users, refusals how often in a row no user could be read.
	failures, refusals int
	// throttled is when throttling began, zero if there was none since the last answer.
	throttled time.Time
}

// NewThrottle returns a Throttle.
func NewThrottle(s ThrottleSettings) *Throttle {
	status := func(err error) {
		if err != nil {
			err = fmt.Errorf("%w. %s", err, graph.Hint(err))
		}
		s.Status(err)
	}
	return &Throttle{
		graph: s.Graph,
		// With a burst of one no second sees more requests than the limit.
		limiter: rate.NewLimiter(rate.Limit(s.RequestsPerSecond), 1),
		health: health.Part{
			Logger: s.Logger, Status: status,
			Failing: "history can't be read, its gaps stay open, will be tried again", Recovered: "history can be read again",
		},
	}
}

// history reads a page of a user's interactions.
func (t *Throttle) history(ctx context.Context, user gap.User, from, to time.Time, next string) (page graph.HistoryPage, err error) {
	err = t.do(ctx, true, func() (err error) {
		page, err = t.graph.History(ctx, user.String(), from, to, next)
		return err
	})
	return page, err
}

// LicensedUsers implements directory.Graph.
func (t *Throttle) LicensedUsers(ctx context.Context, next string) (page graph.UserPage, err error) {
	err = t.do(ctx, false, func() (err error) {
		page, err = t.graph.LicensedUsers(ctx, next)
		return err
	})
	return page, err
}

// do makes a request as soon as one may be made, and again each time that Graph asks to wait or accepts no token. Other outcomes
// count only for requests of the history. It returns the error of the request, or the context's.
func (t *Throttle) do(ctx context.Context, ofHistory bool, request func() error) error {
	for {
		if err := t.wait(ctx); err != nil {
			return err
		}
		err := request()
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		o := classify(err)
		again := o == throttled || o == denied && (ofHistory || !graph.Unsupported(err))
		if again || ofHistory {
			t.observe(o, err)
		}
		if !again {
			return err
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
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// observe decides whether all requests pause after a response.
func (t *Throttle) observe(o outcome, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := graph.RetryAfter(err)
	if time.Now().Before(t.until) && wait == 0 {
		return // The request was in flight when the pause began, and adds nothing new.
	}
	switch o {
	case ok, unlicensed:
		t.failures, t.refusals, t.throttled = 0, 0, time.Time{}
		t.health.Report(nil)
	case forbidden:
		t.failures, t.throttled = 0, time.Time{} // Graph answers, although not what was asked for.
	case throttled:
		if t.throttled.IsZero() {
			t.throttled = time.Now()
		}
		if time.Since(t.throttled) > throttledReportAfter {
			t.report(o, err)
		}
		if wait == 0 {
			t.failures++
			wait = backoff(t.failures, maxPause)
		}
	case denied:
		t.report(o, err)
		t.failures++
		wait = backoff(t.failures, maxDeniedPause)
	case broken:
		if t.failures++; t.failures >= failuresTolerated {
			t.report(o, err)
			wait = backoff(t.failures-failuresTolerated+1, maxPause)
		}
	}
	t.pause(wait)
}

// permissionMissing pauses all requests, since no user's history may be read.
func (t *Throttle) permissionMissing(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report(forbidden, err)
	t.refusals++
	t.pause(min(minPermissionPause<<min(t.refusals-1, 10), maxPermissionPause))
}

// pause extends the pause, and never shortens it. It is called with mu held.
func (t *Throttle) pause(wait time.Duration) {
	t.until = later(t.until, time.Now().Add(wait))
}

// report reports a failure that keeps the history from being read.
func (t *Throttle) report(o outcome, err error) { report(&t.health, o, err) }

// report reports a failure of Graph. Failures of the same kind are reported once an hour.
func report(part *health.Part, o outcome, err error, fields ...zap.Field) {
	fields = append(fields, zap.String("hint", graph.Hint(err)))
	code := graph.Code(err)
	if code != "" {
		fields = append(fields, zap.String("code", code))
	}
	if o == throttled {
		code = "" // one kind, with whatever status
	}
	part.ReportKind(fmt.Sprint(o, code), err, fields...)
}

// outcome is what a response means for the user, and for all others.
type outcome int

const (
	ok outcome = iota
	// unlicensed: this user has no history.
	unlicensed
	// forbidden: this user may not be read; if no user may, a permission is missing.
	forbidden
	// denied: no user can be read until the configuration is corrected.
	denied
	// throttled: Graph asks the application to wait.
	throttled
	// broken: the request failed, and may succeed later.
	broken
)

// classify returns the outcome for an error of Graph.
func classify(err error) outcome {
	if err == nil {
		return ok
	}
	status := 0
	if e, ok := errors.AsType[*graph.Error](err); ok {
		status = e.Status
	}
	_, token := errors.AsType[*graph.TokenError](err)
	_, credential := errors.AsType[*graph.CredentialError](err)
	switch {
	case status == http.StatusTooManyRequests || graph.RetryAfter(err) > 0:
		return throttled
	case token || credential || status == http.StatusUnauthorized || graph.Unsupported(err):
		return denied
	case graph.Unlicensed(err):
		return unlicensed
	case graph.Forbidden(err):
		return forbidden
	default:
		return broken
	}
}

// backoff returns the wait after a number of failures in a row: doubling from 1 s to longest, with equal jitter.
func backoff(failures int, longest time.Duration) time.Duration {
	bound := min(time.Second<<min(failures-1, 20), longest)
	return bound/2 + rand.N(bound/2+1) //nolint:gosec // G404: jitter needs no secrecy.
}

// sleep waits, or returns the context's error as soon as the context ends.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
