package graph

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
)

// ThrottleSettings configures a Throttle. All fields are required.
type ThrottleSettings struct {
	// Graph is *Client but for tests.
	Graph interface {
		History(ctx context.Context, user string, from, to time.Time, next string) (HistoryPage, error)
		LicensedUsers(ctx context.Context, next string) (UserPage, error)
		Answered() bool
	}
	// RequestsPerSecond limits the requests. Graph accepts 30: https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	Logger            *zap.Logger
	// Status is called when the health changes, and only then: with an error that names no user and says what to do while no
	// history can be read, with nil when it can be read again. It must not block.
	Status func(error)
}

// Throttle makes the requests for the history and its users. It limits their rate, pauses all of them while Graph asks to wait or
// none can succeed, and repeats those that were answered so. It is safe for concurrent use.
type Throttle struct {
	settings ThrottleSettings
	limiter  *rate.Limiter
	health   health.Part

	mu sync.Mutex // guards what follows
	// until is the time before which no request is made.
	until time.Time
	// failures counts those in a row that concern all users, since the first of them. refusals counts how often in a row no
	// user could be read.
	failures, refusals int
	since              time.Time
}

// NewThrottle returns a Throttle.
func NewThrottle(s ThrottleSettings) *Throttle {
	return &Throttle{
		settings: s,
		// With a burst of one no second sees more requests than the limit.
		limiter: rate.NewLimiter(rate.Limit(s.RequestsPerSecond), 1),
		health: health.Part{
			Logger: s.Logger, Failing: "history can't be read, its gaps stay open, will be tried again", Recovered: "history can be read again",
			Status: func(err error) {
				if err != nil {
					err = fmt.Errorf("%w. %s", err, Hint(err))
				}
				s.Status(err)
			},
		},
	}
}

// Answered is Client.Answered.
func (t *Throttle) Answered() bool { return t.settings.Graph.Answered() }

// History is Client.History. It waits while no user's history can be read.
func (t *Throttle) History(ctx context.Context, user string, from, to time.Time, next string) (page HistoryPage, err error) {
	err = t.do(ctx, true, func() (err error) {
		page, err = t.settings.Graph.History(ctx, user, from, to, next)
		return err
	})
	return page, err
}

// LicensedUsers is Client.LicensedUsers.
func (t *Throttle) LicensedUsers(ctx context.Context, next string) (page UserPage, err error) {
	err = t.do(ctx, false, func() (err error) {
		page, err = t.settings.Graph.LicensedUsers(ctx, next)
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
		again := throttled(err) || denied(err) && (ofHistory || !Unsupported(err))
		if again || ofHistory {
			t.observe(err)
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

// throttled reports whether Graph asks the application to wait.
func throttled(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusTooManyRequests || RetryAfter(err) > 0
}

// denied reports whether no request can succeed until the configuration is corrected.
func denied(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusUnauthorized || isType[*TokenError](err) || isType[*CredentialError](err) || Unsupported(err)
}

// observe decides after a response whether all requests pause.
func (t *Throttle) observe(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := RetryAfter(err)
	if time.Now().Before(t.until) && wait == 0 {
		return // The request was in flight when the pause began, and adds nothing new.
	}
	forAll := throttled(err) || denied(err)
	switch {
	case err == nil, !forAll && Unlicensed(err):
		t.failures, t.refusals = 0, 0
		t.health.Report(nil)
		return
	case !forAll && Forbidden(err):
		t.failures = 0 // Graph answers, although not what was asked for.
		return
	}
	if t.failures++; t.failures == 1 {
		t.since = time.Now()
	}
	count := t.failures
	if !forAll {
		count -= failuresTolerated
	}
	if count > 0 && (!throttled(err) || time.Since(t.since) > throttledReportAfter) {
		ReportTo(&t.health, err)
	}
	if count > 0 && wait == 0 {
		wait = backoff(count, maxPause)
	}
	t.pause(wait)
}

// Failing reports that so many users can't be read that the others must wait.
func (t *Throttle) Failing(err error) { ReportTo(&t.health, err) }

// PermissionMissing pauses all requests, since no user's history may be read.
func (t *Throttle) PermissionMissing(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ReportTo(&t.health, err)
	t.pause(min(minPermissionPause<<min(t.refusals, 10), maxPermissionPause))
	t.refusals++
}

// pause extends the pause, and never shortens it. It is called with mu held.
func (t *Throttle) pause(wait time.Duration) {
	if until := time.Now().Add(wait); until.After(t.until) {
		t.until = until
	}
}

// ReportTo reports the result of a request: a failure with its hint and, if it has one, its code. Failures of the same kind are
// logged once an hour.
func ReportTo(part *health.Part, err error, fields ...zap.Field) {
	kind := Code(err)
	if kind != "" {
		fields = append(fields, zap.String("code", kind))
	}
	if throttled(err) {
		kind = "throttled" // one kind, with whatever status
	}
	part.ReportKind(kind, err, append(fields, zap.String("hint", Hint(err)))...)
}

// BackOff waits after a number of failures in a row: about 1 s after the first, twice as long after each further one, at most longest. It returns the
// context's error as soon as the context ends.
func BackOff(ctx context.Context, failures int, longest time.Duration) error {
	return sleep(ctx, backoff(failures, longest))
}

// backoff doubles from 1 s to longest, with equal jitter.
func backoff(failures int, longest time.Duration) time.Duration {
	bound := min(time.Second<<min(failures-1, 20), longest)
	return bound/2 + rand.N(bound/2+1) //nolint:gosec // G404: jitter needs no secrecy.
}

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
