package backfill

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// After brokenTolerated failures in a row without any success all users are given a rest, as Graph is unwell then.
	failuresTolerated = 4
	maxPause          = 2 * time.Minute
	// throttledReportAfter is how long Graph may ask to wait, with no request that succeeds, until that is said.
	throttledReportAfter = 15 * time.Minute
	// repeatInterval is the time between two lines of a failure that lasts.
	repeatInterval = time.Hour
	// A refused token may be a matter of seconds, a missing permission is one of people.
	maxDeniedPause                         = 5 * time.Minute
	minPermissionPause, maxPermissionPause = 5 * time.Minute, time.Hour
)

// throttle is what every request to Graph passes: it spaces them, and holds all of them while Graph asks to stay away or
// nothing can succeed.
type throttle struct {
	limiter *rate.Limiter
	logger  *zap.Logger
	status  func(error)

	mu sync.Mutex // guards what follows
	// until is the time before which no request is made, since when that was said last.
	until, since time.Time
	// broken, refused and missing count failures in a row that concerned everyone.
	broken, denied, missing int
	// throttled is since when every request was answered with when to come again, zero for not.
	throttled time.Time
	// reported is the failure that was reported last, at toldAt, and is not over.
	reported   string
	reportedAt time.Time
}

func newThrottle(s Settings) *throttle {
	// A burst of one keeps any second from seeing more requests than the limit.
	return &throttle{limiter: rate.NewLimiter(rate.Limit(s.RequestsPerSecond), 1), logger: s.Logger, status: s.Status}
}

// Wait waits until a request may be made. Its error is that of the context.
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

// Observe takes in the answer to a request that was made at started, and returns what it means.
func (t *throttle) Observe(started time.Time, asked string, err error) outcome {
	v := classify(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	// What was under way when the gate closed says nothing new.
	fresh := !started.Before(t.since)
	switch v {
	case ok:
		if fresh {
			t.recovered()
		}
	case throttled:
		t.noteThrottled(err, asked)
		wait := graph.RetryAfter(err)
		if wait == 0 && fresh {
			t.broken++
			wait = backoff(t.broken, maxPause)
		}
		t.pauseFor(wait)
	case denied:
		if fresh {
			t.noteDenied(err, asked)
		}
	case broken:
		if !fresh {
			break
		}
		if t.broken++; t.broken >= failuresTolerated {
			t.report(v, err, asked)
			t.pauseFor(backoff(t.broken-failuresTolerated+1, maxPause))
		}
	}
	return v
}

// noteThrottled says once that there is no end of throttling. It is called with mu held.
func (t *throttle) noteThrottled(err error, asked string) {
	if t.throttled.IsZero() {
		t.throttled = time.Now()
	}
	if time.Since(t.throttled) > throttledReportAfter {
		t.report(throttled, err, asked)
	}
}

// noteDenied holds everything, as no request can succeed.
func (t *throttle) noteDenied(err error, asked string) {
	t.report(denied, err, asked)
	if graph.Unsupported(err) {
		t.missing++
		t.pauseFor(doubling(t.missing, minPermissionPause, maxPermissionPause))
		return
	}
	t.denied++
	t.pauseFor(backoff(t.denied, maxDeniedPause))
}

// Pause holds everything, as nobody's history may be read.
func (t *throttle) Pause(err error, asked string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report(forbidden, err, asked)
	t.missing++
	t.pauseFor(doubling(t.missing, minPermissionPause, maxPermissionPause))
}

// pauseFor is called with mu held. A shorter wait never cuts a longer one.
func (t *throttle) pauseFor(wait time.Duration) {
	if until := time.Now().Add(wait); wait > 0 && until.After(t.until) {
		t.until, t.since = until, time.Now()
	}
}

// report reports a failure, again each hour until another one or its end. It is called with mu held.
func (t *throttle) report(v outcome, err error, asked string) {
	s := failureKey(v, err)
	if s == t.reported && time.Since(t.reportedAt) < repeatInterval {
		return
	}
	failure := newFailure(err, asked)
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

// sleep waits, or returns the context's error as soon as that ends.
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
