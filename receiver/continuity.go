package receiver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
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
//
// A gap is owed from the moment at which its cause is known until it is open and written down, and what is owed is in
// storage too: a kill between any two steps opens the gap in the next run.
type continuity struct {
	records   records
	logger    *zap.Logger
	gaps      book
	resources []string
	// explain hears of each gap. It may be nil.
	explain func(from, to time.Time)
	// lookback is what a very first start imports.
	lookback time.Duration
	// doubt is how far back is read where the mark can't be believed.
	doubt time.Duration
	// patience is how far good checks may lie apart; after a longer pause nobody knows what happened meanwhile. It is 0 where
	// there is no subscription.
	patience time.Duration

	mu sync.Mutex // guards what follows
	// mark is zero until one was written, in this run or an earlier one.
	mark time.Time
	// good is the last good check, also one of the last run if its mark is fresh.
	good time.Time
	// owed are gaps that the next good check opens, opened those that are open and not written down yet.
	owed, opened []debt
	// down holds what is missing by resource, until its subscription lives.
	down map[string]debt
	// watched are the resources that are down as far as the present keeper knows: it will say when that is over.
	watched map[string]bool
	// loaded tells whether what the last run left is known; until then nothing is written over it.
	loaded bool
	// kept tells whether storage may hold anything that is owed, behind whether it lacks anything.
	kept, behind bool
	// recorded is what storage has for sure, nil for nothing.
	recorded []debt
	// failing tells whether the mark could not be written last.
	failing bool
}

// book is where gaps are opened and written down. *history.Filler is one.
type book interface {
	Open(gaps ...history.Gap)
	Flush(ctx context.Context) error
}

// load reads what the last run left: its mark, and what it owed. A value that is damaged is reported and replaced, and
// stands for any that it may have been. A storage that fails is asked again at every check.
func (c *continuity) load(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.tryLoad(ctx, now); err != nil && ctx.Err() == nil {
		c.logger.Warn("the mark of the last good check can't be read, what is missing since then is not known; the storage is asked again at each check",
			zap.Error(err))
	}
}

// tryLoad is called with mu held. Its error is one of the storage.
func (c *continuity) tryLoad(ctx context.Context, now time.Time) error {
	owed, owedErr := c.records.owed(ctx)
	mark, markErr := c.records.instant(ctx, markKey)
	for _, err := range []error{owedErr, markErr} {
		if _, damaged := errors.AsType[*damagedError](err); err != nil && !damaged {
			return err
		}
	}
	doubtful := owedErr != nil || markErr != nil
	if doubtful {
		c.logger.Warn("the mark of the last good check, or what was owed then, is damaged and is replaced", zap.Error(errors.Join(owedErr, markErr)))
	}
	c.loaded, c.mark = true, mark
	for _, d := range owed {
		if d.Resource != "" && slices.Contains(c.resources, d.Resource) {
			c.down[d.Resource] = d
			continue
		}
		c.owe(d.Reason, d.From)
	}
	c.kept = doubtful || len(owed) > 0
	switch {
	case !c.mark.IsZero() && now.Before(begin()) && !doubtful:
		c.good = c.mark // how old it is shows once the clock is set
	case c.mark.After(now.Add(staleMark)):
		c.logger.Warn("the mark of the last good check is in the future: check this machine's clock", zap.Time("mark", c.mark))
		c.owe(history.Startup, now.Add(-c.doubt))
	case doubtful:
		c.owe(history.Startup, now.Add(-c.doubt))
	case c.mark.IsZero() && c.lookback > 0:
		c.owe(history.Lookback, now.Add(-c.lookback))
	case !c.mark.IsZero() && now.Sub(c.mark) > staleMark:
		c.owe(history.Startup, c.mark.Add(-lateness))
	default:
		c.good = c.mark // nothing is missing until now: what comes before the next good check is a pause like any other
	}
	c.remember(ctx)
	return nil
}

// removedKey says that notifications for a key that was accepted before can't be read any more. When it returns that is
// on record.
func (c *continuity) removedKey(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owe(history.RemovedKey, now.Add(-retrySpan))
	c.remember(ctx)
}

// Checked implements subscription.Observer.
func (c *continuity) Checked(at time.Time) { c.check(context.Background(), at) }

// check notes a good check. The mark waits until every gap is on record, since it is what a kill would leave of them.
func (c *continuity) check(ctx context.Context, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		_ = c.tryLoad(ctx, at) // which was reported
	}
	for resource, d := range c.down {
		if !c.watched[resource] { // an earlier keeper found it down, and this one does not
			c.owe(d.Reason, d.From)
			delete(c.down, resource)
		}
	}
	c.lives(at)
	if c.settle(ctx, at) {
		c.write(ctx, at)
	}
}

// Interrupted implements subscription.Observer.
func (c *continuity) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched[resource] = true
	d := debt{Reason: history.Subscription, From: since.Add(-lateness), Resource: resource}
	switch {
	case reason == subscription.ReasonRemovedKey:
		d.Reason, d.From = history.RemovedKey, time.Now().Add(-retrySpan)
		if before := c.mark.Add(-lateness); since.IsZero() && !c.mark.IsZero() && before.Before(d.From) {
			d.From = before
		}
	case since.IsZero() && !c.loaded:
		d.Reason, d.From = history.Startup, time.Now().Add(-c.doubt)
	case since.IsZero() && c.mark.IsZero():
		return // there never was one
	case since.IsZero():
		d.Reason, d.From = history.Startup, c.mark.Add(-lateness)
	}
	if earlier, found := c.down[resource]; !found || d.From.Before(earlier.From) {
		c.down[resource] = d
	}
	c.remember(context.Background())
}

// Restored implements subscription.Observer.
func (c *continuity) Restored(resource string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watched, resource)
	if d, found := c.down[resource]; found {
		delete(c.down, resource)
		c.owe(d.Reason, d.From)
	}
	c.lives(at)
	c.settle(context.Background(), at)
}

// unwatched says that nobody will call Restored for what was interrupted until now.
func (c *continuity) unwatched() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.watched)
}

// Known implements subscription.Observer. It keeps which subscriptions are this collector's for the next run.
func (c *continuity) Known(known []subscription.Known) {
	if err := c.records.setKnown(context.Background(), known); err != nil {
		c.logger.Warn("the list of own subscriptions can't be kept", zap.Error(err))
	}
}

// known reads which subscriptions are this collector's, since Graph's list may not tell.
func (c *continuity) known(ctx context.Context) []subscription.Known {
	known, err := c.records.known(ctx)
	if err != nil {
		c.logger.Warn("the list of own subscriptions can't be read and is replaced", zap.Error(err))
	}
	return known
}

// end writes the mark of a shutdown, unless the subscription is down, or that is not known any more.
func (c *continuity) end(ctx context.Context, now time.Time, lives bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.written(ctx) && lives && len(c.owed) == 0 && !c.good.IsZero() && !c.paused(now) {
		c.write(ctx, now)
	}
}

// recent tells whether the last good check, also of the last run, was not long ago.
func (c *continuity) recent(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.good.IsZero() && !c.paused(now)
}

// outage is since when nothing may have come, for the cause of a gap that is going to be opened; zero where something may.
func (c *continuity) outage(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var since time.Time
	count := func(from time.Time) {
		if since.IsZero() || from.Before(since) {
			since = from
		}
	}
	for _, d := range c.owed {
		count(d.From)
	}
	if c.paused(now) {
		count(c.good.Add(-lateness))
	}
	if len(c.down) == len(c.resources) {
		for _, d := range c.down {
			count(d.From)
		}
	}
	return since
}

// missing tells since when interactions are known to be missing that are not in the book yet, and why; a zero time where
// none are.
func (c *continuity) missing(now time.Time) (history.Reason, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first debt
	for _, d := range c.pending() {
		if first.From.IsZero() || d.From.Before(first.From) {
			first = d
		}
	}
	if from := c.good.Add(-lateness); c.paused(now) && (first.From.IsZero() || from.Before(first.From)) {
		first = debt{Reason: history.Subscription, From: from}
	}
	return first.Reason, first.From
}

// lives is called with mu held. It notes that a subscription lives, and owes a gap where that was not known for too long.
func (c *continuity) lives(at time.Time) {
	if c.paused(at) {
		c.owe(history.Subscription, c.good.Add(-lateness))
	}
	c.good = at
}

// paused tells whether the last good check is too long ago. A machine that is suspended stops the monotonic clock, and one
// whose clock is set back that of the wall, so the longer time counts.
func (c *continuity) paused(now time.Time) bool {
	return c.patience > 0 && !c.good.IsZero() && max(now.Sub(c.good), now.Round(0).Sub(c.good.Round(0))) > c.patience
}
