package receiver

import (
	"context"
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
	records records
	logger  *zap.Logger
	gaps    book
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
	// good is the last good check of this run.
	good time.Time
	// owed are gaps whose end is the moment at which a subscription lives, opened those that have their end and are not
	// written down yet.
	owed, opened []history.Gap
	// down holds what is missing by resource, from its interruption until it is restored.
	down map[string]history.Gap
	// kept tells whether storage may hold anything that is owed.
	kept bool
}

// book is where gaps are opened and written down. *history.Filler is one.
type book interface {
	Open(gaps ...history.Gap)
	Flush(ctx context.Context) error
}

// load reads what the last run left: its mark, and what it owed. A value that can't be read is reported and replaced, and
// stands for any that it may have been.
func (c *continuity) load(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	owed, err := c.records.owed(ctx)
	c.owed = append(c.owed, owed...)
	doubtful := err != nil
	c.kept = doubtful || len(owed) > 0
	if err != nil {
		c.logger.Warn("the gaps that the last run was about to open can't be read and are replaced", zap.Error(err))
	}
	if c.mark, err = c.records.mark(ctx); err != nil {
		c.logger.Warn("the mark of the last good check can't be read and is replaced", zap.Error(err))
		doubtful = true
	}
	switch {
	case c.mark.After(now.Add(staleMark)):
		c.logger.Warn("the mark of the last good check is in the future: check this machine's clock", zap.Time("mark", c.mark))
		c.owe(history.Startup, now.Add(-c.doubt))
	case doubtful:
		c.owe(history.Startup, now.Add(-c.doubt))
	case c.mark.IsZero() && c.lookback > 0:
		c.owe(history.Lookback, now.Add(-c.lookback))
	case !c.mark.IsZero() && now.Sub(c.mark) > staleMark:
		c.owe(history.Startup, c.mark.Add(-lateness))
	}
	c.remember(ctx)
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

// check notes a good check. The mark waits until every gap is written down, since it is what a kill would leave of them.
func (c *continuity) check(ctx context.Context, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives(at)
	if c.settle(ctx, at) && len(c.down) == 0 {
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
	c.remember(context.Background())
}

// Restored implements subscription.Observer.
func (c *continuity) Restored(resource string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gap, found := c.down[resource]; found {
		delete(c.down, resource)
		c.owe(gap.Reason, gap.From)
	}
	c.lives(at)
	c.settle(context.Background(), at)
}

// unwatched says that nobody will call Restored for what was interrupted until now: the next good check settles it.
func (c *continuity) unwatched() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, gap := range c.down {
		c.owe(gap.Reason, gap.From)
	}
	clear(c.down)
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

// end writes the mark of a shutdown, unless the subscription is down.
func (c *continuity) end(ctx context.Context, now time.Time, lives bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.written(ctx) && lives && len(c.down)+len(c.owed) == 0 && !c.good.IsZero() {
		c.write(ctx, now)
	}
}

// owe is called with mu held, as are all that follow. What begins earlier for the same reason contains it.
func (c *continuity) owe(reason history.Reason, from time.Time) {
	contains := func(gap history.Gap) bool { return gap.Reason == reason && !gap.From.After(from) }
	if !slices.ContainsFunc(c.owed, contains) {
		c.owed = append(c.owed, history.Gap{Reason: reason, From: from})
	}
}

// lives notes that a subscription lives, and owes a gap where that was not known for too long. A machine that is suspended
// stops the monotonic clock, so that of the wall counts.
func (c *continuity) lives(at time.Time) {
	at = at.Round(0)
	if c.patience > 0 && !c.good.IsZero() && at.Sub(c.good) > c.patience {
		c.owe(history.Subscription, c.good.Add(-lateness))
	}
	c.good = at
}

// settle opens what was owed, now that a subscription lives, and tells whether all of it is written down.
func (c *continuity) settle(ctx context.Context, at time.Time) bool {
	for i := range c.owed {
		c.owed[i].To = at.Add(settling)
	}
	c.gaps.Open(c.owed...)
	c.opened, c.owed = append(c.opened, c.owed...), nil
	return c.written(ctx)
}

// written tells whether every gap that was opened is written down.
func (c *continuity) written(ctx context.Context) bool {
	if len(c.opened) == 0 {
		return true
	}
	if c.gaps.Flush(ctx) != nil {
		return false // which is logged, and tried again at the next check
	}
	c.opened = nil
	c.remember(ctx)
	return true
}

// remember keeps what is owed for the next run.
func (c *continuity) remember(ctx context.Context) {
	owed := slices.Concat(c.owed, c.opened)
	for _, gap := range c.down {
		owed = append(owed, gap)
	}
	if len(owed) == 0 && !c.kept {
		return
	}
	err := c.records.setOwed(ctx, owed)
	c.kept = err != nil || len(owed) > 0
	if err != nil {
		c.logger.Warn("the gaps that are about to be opened can't be kept: a restart now forgets them", zap.Error(err))
	}
}

func (c *continuity) write(ctx context.Context, at time.Time) {
	c.mark = at
	if err := c.records.setMark(ctx, at); err != nil {
		c.logger.Warn("the mark of the last good check can't be kept: a restart will read more history than it has to", zap.Error(err))
	}
}
