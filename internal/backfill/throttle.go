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
	brokenTolerated = 4
	longestRest     = 2 * time.Minute
	// longestThrottled is how long Graph may ask to wait, with no request that succeeds, until that is said.
	longestThrottled = 15 * time.Minute
	// repeatInterval is the time between two lines of a failure that lasts.
	repeatInterval = time.Hour
	// A refused token may be a matter of seconds, a missing permission is one of people.
	longestDenied                = 5 * time.Minute
	firstMissing, longestMissing = 5 * time.Minute, time.Hour
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
	broken, refused, missing int
	// throttled is since when every request was answered with when to come again, zero for not.
	throttled time.Time
	// told is the failure that was reported last, at toldAt, and is not over.
	told   string
	toldAt time.Time
}

func newThrottle(s Settings) *throttle {
	// A burst of one keeps any second from seeing more requests than the limit.
	return &throttle{limiter: rate.NewLimiter(rate.Limit(s.RequestsPerSecond), 1), logger: s.Logger, status: s.Status}
}

// Wait waits until a request may be made. Its error is that of the context.
func (g *throttle) Wait(ctx context.Context) error {
	for {
		if err := sleep(ctx, time.Until(g.heldUntil())); err != nil {
			return err
		}
		if err := g.limiter.Wait(ctx); err != nil {
			return err
		}
		if !time.Now().Before(g.heldUntil()) {
			return nil
		}
	}
}

func (g *throttle) heldUntil() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until
}

// Observe takes in the answer to a request that was made at started, and returns what it means.
func (g *throttle) Observe(started time.Time, asked string, err error) outcome {
	v := classify(err)
	g.mu.Lock()
	defer g.mu.Unlock()
	// What was under way when the gate closed says nothing new.
	fresh := !started.Before(g.since)
	switch v {
	case ok:
		if fresh {
			g.recovered()
		}
	case throttled:
		g.noteThrottled(err, asked)
		wait := graph.RetryAfter(err)
		if wait == 0 && fresh {
			g.broken++
			wait = backoff(g.broken, longestRest)
		}
		g.hold(wait)
	case denied:
		if fresh {
			g.deny(err, asked)
		}
	case broken:
		if !fresh {
			break
		}
		if g.broken++; g.broken >= brokenTolerated {
			g.report(v, err, asked)
			g.hold(backoff(g.broken-brokenTolerated+1, longestRest))
		}
	}
	return v
}

// noteThrottled says once that there is no end of throttling. It is called with mu held.
func (g *throttle) noteThrottled(err error, asked string) {
	if g.throttled.IsZero() {
		g.throttled = time.Now()
	}
	if time.Since(g.throttled) > longestThrottled {
		g.report(throttled, err, asked)
	}
}

// deny holds everything, as no request can succeed.
func (g *throttle) deny(err error, asked string) {
	g.report(denied, err, asked)
	if graph.Unsupported(err) {
		g.missing++
		g.hold(doubling(g.missing, firstMissing, longestMissing))
		return
	}
	g.refused++
	g.hold(backoff(g.refused, longestDenied))
}

// Pause holds everything, as nobody's history may be read.
func (g *throttle) Pause(err error, asked string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.report(forbidden, err, asked)
	g.missing++
	g.hold(doubling(g.missing, firstMissing, longestMissing))
}

// hold is called with mu held. A shorter wait never cuts a longer one.
func (g *throttle) hold(wait time.Duration) {
	if until := time.Now().Add(wait); wait > 0 && until.After(g.until) {
		g.until, g.since = until, time.Now()
	}
}

// report reports a failure, again each hour until another one or its end. It is called with mu held.
func (g *throttle) report(v outcome, err error, asked string) {
	s := signature(v, err)
	if s == g.told && time.Since(g.toldAt) < repeatInterval {
		return
	}
	failure := newFailure(err, asked)
	if s != g.told {
		g.status(failure)
	}
	g.told, g.toldAt = s, time.Now()
	g.logger.Warn("history can't be read, its gaps stay open, will be tried again",
		present("code", graph.Code(err)),
		zap.String("hint", graph.Hint(err)),
		zap.String("error", failure.text))
}

// recovered is called with mu held.
func (g *throttle) recovered() {
	g.broken, g.refused, g.missing, g.throttled = 0, 0, 0, time.Time{}
	if g.told != "" {
		g.told = ""
		g.logger.Info("history can be read again")
		g.status(nil)
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
