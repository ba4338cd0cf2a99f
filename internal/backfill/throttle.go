package backfill

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

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

// throttle controls every request to Graph: it limits their rate, and pauses all of them while Graph asks to wait or no
// request can succeed.
type throttle struct {
	limiter *rate.Limiter
	logger  *zap.Logger
	status  func(error)

	mu sync.Mutex // guards what follows
	// until is the time before which no request is made, since is when it was set last.
	until, since time.Time
	// broken, denied and missing count failures in a row that concern all users.
	broken, denied, missing int
	// throttled is when throttling began, zero if there was none since the last successful request.
	throttled time.Time
	// reported is the failure that was reported last, at reportedAt; empty once it is over.
	reported   string
	reportedAt time.Time
}

func newThrottle(s Settings) *throttle {
	// With a burst of one no second sees more requests than the limit.
	return &throttle{limiter: rate.NewLimiter(rate.Limit(s.RequestsPerSecond), 1), logger: s.Logger, status: s.Status}
}

// Wait blocks until a request may be made. It returns the context's error.
func (t *throttle) Wait(ctx context.Context) error {
	for {
		if err := sleep(ctx, time.Until(t.pausedUntil())); err != nil {
			return err
		}
		if err := t.limiter.Wait(ctx); err != nil {
			return err
		}
		if !time.Now().Before(t.pausedUntil()) {
			return nil
		}
	}
}

func (t *throttle) pausedUntil() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until
}

// Observe records the response to a request that was made at started, and returns its outcome.
func (t *throttle) Observe(started time.Time, requests string, err error) outcome {
	v := classify(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	// Requests that were in flight when the pause began add nothing new.
	fresh := !started.Before(t.since)
	switch v {
	case ok:
		if fresh {
			t.recovered()
		}
	case throttled:
		t.noteThrottled(err, requests)
		wait := graph.RetryAfter(err)
		if wait == 0 && fresh {
			t.broken++
			wait = backoff(t.broken, maxPause)
		}
		t.pauseFor(wait)
	case denied:
		if fresh {
			t.noteDenied(err, requests)
		}
	case broken:
		if !fresh {
			break
		}
		if t.broken++; t.broken >= failuresTolerated {
			t.report(v, err, requests)
			t.pauseFor(backoff(t.broken-failuresTolerated+1, maxPause))
		}
	}
	return v
}

// noteThrottled reports throttling that does not end. It is called with mu held.
func (t *throttle) noteThrottled(err error, requests string) {
	if t.throttled.IsZero() {
		t.throttled = time.Now()
	}
	if time.Since(t.throttled) > throttledReportAfter {
		t.report(throttled, err, requests)
	}
}

// noteDenied pauses all requests, since none can succeed. It is called with mu held.
func (t *throttle) noteDenied(err error, requests string) {
	t.report(denied, err, requests)
	if graph.Unsupported(err) {
		t.missing++
		t.pauseFor(doubling(t.missing, minPermissionPause, maxPermissionPause))
		return
	}
	t.denied++
	t.pauseFor(backoff(t.denied, maxDeniedPause))
}

// Pause pauses all requests, since no user's history may be read.
func (t *throttle) Pause(err error, requests string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report(forbidden, err, requests)
	t.missing++
	t.pauseFor(doubling(t.missing, minPermissionPause, maxPermissionPause))
}

// pauseFor extends the pause, and never shortens it. It is called with mu held.
func (t *throttle) pauseFor(wait time.Duration) {
	if until := time.Now().Add(wait); wait > 0 && until.After(t.until) {
		t.until, t.since = until, time.Now()
	}
}

// report reports a failure, and again each hour while it lasts. It is called with mu held.
func (t *throttle) report(v outcome, err error, requests string) {
	s := failureKey(v, err)
	if s == t.reported && time.Since(t.reportedAt) < health.RepeatInterval {
		return
	}
	failure := newFailure(err, requests)
	if s != t.reported {
		t.status(failure)
	}
	t.reported, t.reportedAt = s, time.Now()
	t.logger.Warn("history can't be read, its gaps stay open, will be tried again",
		optionalString("code", graph.Code(err)),
		zap.String("hint", graph.Hint(err)),
		zap.String("error", failure.text))
}

// recovered is called with mu held.
func (t *throttle) recovered() {
	t.broken, t.denied, t.missing, t.throttled = 0, 0, 0, time.Time{}
	if t.reported != "" {
		t.reported = ""
		t.logger.Info("history can be read again")
		t.status(nil)
	}
}

// sleep waits, or returns the context's error as soon as the context ends.
func sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
