package receiver

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	markKey  = "mark"
	knownKey = "known"

	// staleMark is how old the mark of the last run may be without anything being missing: Graph sends again for hours.
	staleMark = 5 * time.Minute
	// lateness is how late Graph may notify, 60 minutes, with some reserve:
	// https://learn.microsoft.com/graph/api/resources/subscription#latency
	lateness = 65 * time.Minute
	// settling is how long a new subscription may take until it delivers.
	settling = 5 * time.Minute
	// retrySpan is how long Graph sends again, 4 hours, with some reserve: so old can an item for a removed key be.
	retrySpan = 5 * time.Hour
)

// continuity watches when the subscription lived and when it did not, and opens a gap for each time that it did not.
// Its mark is the last time at which the subscription lived and the webhook listened. It implements subscription.Observer.
type continuity struct {
	store    storage.Client
	logger   *zap.Logger
	lookback time.Duration
	open     func(...history.Gap)

	mu sync.Mutex // guards what follows
	// mark is zero until one was written, in this run or an earlier one; checked tells whether this run had a good check.
	mark    time.Time
	checked bool
	// fresh tells whether a gap was opened since the last check.
	fresh bool
	// owed are gaps whose end is the moment at which a subscription lives.
	owed []history.Gap
	// down holds what is missing by resource, from its interruption until it is restored.
	down map[string]history.Gap
}

func newContinuity(store storage.Client, logger *zap.Logger, lookback time.Duration, open func(...history.Gap)) *continuity {
	return &continuity{store: store, logger: logger, lookback: lookback, open: open, down: map[string]history.Gap{}}
}

// load reads the mark of the last run. A value that is none is reported and replaced.
func (c *continuity) load(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, err := c.store.Get(ctx, markKey)
	if err == nil && value != nil {
		var seconds int64
		if seconds, err = strconv.ParseInt(string(value), 10, 64); err == nil {
			c.mark = time.Unix(seconds, 0)
		}
	}
	if err != nil {
		c.logger.Warn("the mark of the last good check can't be read and is replaced", zap.Error(err))
	}
	switch {
	case c.mark.IsZero():
		if c.lookback > 0 {
			c.owed = append(c.owed, history.Gap{Reason: history.Lookback, From: now.Add(-c.lookback)})
		}
	case c.mark.After(now.Add(staleMark)):
		c.logger.Warn("the mark of the last good check is in the future: check this machine's clock", zap.Time("mark", c.mark))
		c.owed = append(c.owed, history.Gap{Reason: history.Startup, From: now.Add(-lateness)})
	case now.Sub(c.mark) > staleMark:
		c.owed = append(c.owed, history.Gap{Reason: history.Startup, From: c.mark.Add(-lateness)})
	}
}

// removedKey says that notifications for a key that was accepted before can't be read any more.
func (c *continuity) removedKey(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = append(c.owed, history.Gap{Reason: history.RemovedKey, From: now.Add(-retrySpan)})
}

// Checked implements subscription.Observer.
func (c *continuity) Checked(at time.Time) { c.check(context.Background(), at) }

// check notes a good check. After a gap was opened the mark waits for the next check: until the gap is written down as
// well, the old mark is what a crash would leave of it.
func (c *continuity) check(ctx context.Context, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = true
	opened := c.settle(at) || c.fresh
	c.fresh = false
	if !opened && len(c.down) == 0 {
		c.write(ctx, at)
	}
}

// Interrupted implements subscription.Observer.
func (c *continuity) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gap := history.Gap{Reason: history.Subscription, From: since.Add(-lateness)}
	switch {
	case reason == subscription.ReasonRemovedKey:
		gap = history.Gap{Reason: history.RemovedKey, From: time.Now().Add(-retrySpan)}
	case since.IsZero() && c.mark.IsZero():
		return // there never was one
	case since.IsZero():
		gap = history.Gap{Reason: history.Startup, From: c.mark.Add(-lateness)}
	}
	c.down[resource] = gap
}

// Restored implements subscription.Observer.
func (c *continuity) Restored(resource string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gap, found := c.down[resource]; found {
		delete(c.down, resource)
		c.owed = append(c.owed, gap)
	}
	c.settle(at)
}

// Known implements subscription.Observer. It keeps which subscriptions are this collector's for the next run.
func (c *continuity) Known(known []subscription.Known) {
	value, err := json.Marshal(known)
	if err == nil {
		err = c.store.Set(context.Background(), knownKey, value)
	}
	if err != nil {
		c.logger.Warn("the list of own subscriptions can't be kept", zap.Error(err))
	}
}

// known reads which subscriptions are this collector's, since Graph's list may not tell.
func (c *continuity) known(ctx context.Context) []subscription.Known {
	var known []subscription.Known
	value, err := c.store.Get(ctx, knownKey)
	if err == nil && value != nil {
		err = json.Unmarshal(value, &known)
	}
	if err != nil {
		c.logger.Warn("the list of own subscriptions can't be read and is replaced", zap.Error(err))
	}
	return known
}

// settle opens what was owed, now that a subscription lives, and tells whether that was anything. It is called with mu
// held.
func (c *continuity) settle(at time.Time) bool {
	if len(c.owed) == 0 {
		return false
	}
	for i := range c.owed {
		c.owed[i].To = at.Add(settling)
	}
	c.open(c.owed...)
	c.owed, c.fresh = nil, true
	return true
}

// end writes the mark of a shutdown, unless the subscription is down. It is for after the gaps were written down.
func (c *continuity) end(ctx context.Context, now time.Time, lives bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lives && len(c.down)+len(c.owed) == 0 && c.checked {
		c.write(ctx, now)
	}
}

// write is called with mu held.
func (c *continuity) write(ctx context.Context, at time.Time) {
	c.mark = at
	if err := c.store.Set(ctx, markKey, strconv.AppendInt(nil, at.Unix(), 10)); err != nil {
		c.logger.Warn("the mark of the last good check can't be kept: a restart will read more history than it has to", zap.Error(err))
	}
}
