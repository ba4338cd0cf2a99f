package receiver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	// maxCheckpointAge is how old the mark of the last run may be without anything being missing: Graph sends again for hours.
	maxCheckpointAge = 5 * time.Minute
	// maxNotificationDelay is how late Graph may notify, 60 minutes, with some reserve:
	// https://learn.microsoft.com/graph/api/resources/subscription#latency
	maxNotificationDelay = 65 * time.Minute
	// subscriptionWarmup is how long a new subscription may take until it delivers.
	subscriptionWarmup = 5 * time.Minute
	// graphRetryWindow is how long Graph sends again, 4 hours, with some reserve: so old can an item for a removed key be.
	graphRetryWindow = 5 * time.Hour
)

// gapTracker watches when the subscription lived and when it did not, and opens a gap for each time that it did not.
// Its mark is the last time at which the subscription lived and the webhook listened. It implements subscription.Observer.
//
// A gap is owed from the moment at which its cause is known until it is open and written down, and what is owed is in
// storage too: a kill between any two steps opens the gap in the next run.
type gapTracker struct {
	state     stateRecords
	logger    *zap.Logger
	gaps      gapStore
	resources []string
	// explain hears of each gap. It may be nil.
	explain func(from, to time.Time)
	// lookback is what a very first start imports.
	lookback time.Duration
	// fallbackLookback is how far back is read where the mark can't be believed.
	fallbackLookback time.Duration
	// staleAfter is how far good checks may lie apart; after a longer pause nobody knows what happened meanwhile. It is 0 where
	// there is no subscription.
	staleAfter time.Duration

	mu sync.Mutex // guards what follows
	// checkpoint is zero until one was written, in this run or an earlier one.
	checkpoint time.Time
	// lastHealthy is the last good check, also one of the last run if its mark is fresh.
	lastHealthy time.Time
	// pending are gaps that the next good check opens, opened those that are open and not written down yet.
	pending, opened []pendingGap
	// down holds what is missing by resource, until its subscription lives.
	down map[string]pendingGap
	// watchedResources are the resources that are down as far as the present keeper knows: it will say when that is over.
	watchedResources map[string]bool
	// loaded tells whether what the last run left is known; until then nothing is written over it.
	loaded bool
	// stored tells whether storage may hold anything that is owed, behind whether it lacks anything.
	stored, unsaved bool
	// lastStored is what storage has for sure, nil for nothing.
	lastStored []pendingGap
	// failing tells whether the mark could not be written last.
	failing bool
}

// gapStore is where gaps are opened and written down. *history.Filler is one.
type gapStore interface {
	Open(gaps ...backfill.Gap)
	Flush(ctx context.Context) error
}

// load reads what the last run left: its mark, and what it owed. A value that is damaged is reported and replaced, and
// stands for any that it may have been. A storage that fails is asked again at every check.
func (c *gapTracker) load(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.tryLoad(ctx, now); err != nil && ctx.Err() == nil {
		c.logger.Warn("the mark of the last good check can't be read, what is missing since then is not known; the storage is asked again at each check",
			zap.Error(err))
	}
}

// tryLoad is called with mu held. Its error is one of the storage.
func (c *gapTracker) tryLoad(ctx context.Context, now time.Time) error {
	pending, pendingErr := c.state.pendingGaps(ctx)
	checkpoint, checkpointErr := c.state.instant(ctx, checkpointKey)
	for _, err := range []error{pendingErr, checkpointErr} {
		if _, damaged := errors.AsType[*corruptError](err); err != nil && !damaged {
			return err
		}
	}
	corrupt := pendingErr != nil || checkpointErr != nil
	if corrupt {
		c.logger.Warn("the mark of the last good check, or what was owed then, is damaged and is replaced", zap.Error(errors.Join(pendingErr, checkpointErr)))
	}
	c.loaded, c.checkpoint = true, checkpoint
	for _, d := range pending {
		if d.Resource != "" && slices.Contains(c.resources, d.Resource) {
			c.down[d.Resource] = d
			continue
		}
		c.addPending(d.Reason, d.From)
	}
	c.stored = corrupt || len(pending) > 0
	switch {
	case !c.checkpoint.IsZero() && now.Before(earliestTime()) && !corrupt:
		c.lastHealthy = c.checkpoint // how old it is shows once the clock is set
	case c.checkpoint.After(now.Add(maxCheckpointAge)):
		c.logger.Warn("the mark of the last good check is in the future: check this machine's clock", zap.Time("mark", c.checkpoint))
		c.addPending(backfill.Startup, now.Add(-c.fallbackLookback))
	case corrupt:
		c.addPending(backfill.Startup, now.Add(-c.fallbackLookback))
	case c.checkpoint.IsZero() && c.lookback > 0:
		c.addPending(backfill.Lookback, now.Add(-c.lookback))
	case !c.checkpoint.IsZero() && now.Sub(c.checkpoint) > maxCheckpointAge:
		c.addPending(backfill.Startup, c.checkpoint.Add(-maxNotificationDelay))
	default:
		c.lastHealthy = c.checkpoint // nothing is missing until now: what comes before the next good check is a pause like any other
	}
	c.storePending(ctx)
	return nil
}

// removedKey says that notifications for a key that was accepted before can't be read any more. When it returns that is
// on record.
func (c *gapTracker) removedKey(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addPending(backfill.RemovedKey, now.Add(-graphRetryWindow))
	c.storePending(ctx)
}

// Checked implements subscription.Observer.
func (c *gapTracker) Checked(at time.Time) { c.check(context.Background(), at) }

// check notes a good check. The mark waits until every gap is on record, since it is what a kill would leave of them.
func (c *gapTracker) check(ctx context.Context, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		_ = c.tryLoad(ctx, at) // which was reported
	}
	for resource, d := range c.down {
		if !c.watchedResources[resource] { // an earlier keeper found it down, and this one does not
			c.addPending(d.Reason, d.From)
			delete(c.down, resource)
		}
	}
	c.noteHealthy(at)
	if c.openPending(ctx, at) {
		c.writeCheckpoint(ctx, at)
	}
}

// Interrupted implements subscription.Observer.
func (c *gapTracker) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchedResources[resource] = true
	d := pendingGap{Reason: backfill.Subscription, From: since.Add(-maxNotificationDelay), Resource: resource}
	switch {
	case reason == subscription.ReasonRemovedKey:
		d.Reason, d.From = backfill.RemovedKey, time.Now().Add(-graphRetryWindow)
		if earlier := c.checkpoint.Add(-maxNotificationDelay); since.IsZero() && !c.checkpoint.IsZero() && earlier.Before(d.From) {
			d.From = earlier
		}
	case since.IsZero() && !c.loaded:
		d.Reason, d.From = backfill.Startup, time.Now().Add(-c.fallbackLookback)
	case since.IsZero() && c.checkpoint.IsZero():
		return // there never was one
	case since.IsZero():
		d.Reason, d.From = backfill.Startup, c.checkpoint.Add(-maxNotificationDelay)
	}
	if earlier, found := c.down[resource]; !found || d.From.Before(earlier.From) {
		c.down[resource] = d
	}
	c.storePending(context.Background())
}

// Restored implements subscription.Observer.
func (c *gapTracker) Restored(resource string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchedResources, resource)
	if d, found := c.down[resource]; found {
		delete(c.down, resource)
		c.addPending(d.Reason, d.From)
	}
	c.noteHealthy(at)
	c.openPending(context.Background(), at)
}

// unwatched says that nobody will call Restored for what was interrupted until now.
func (c *gapTracker) unwatched() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.watchedResources)
}

// Known implements subscription.Observer. It keeps which subscriptions are this collector's for the next run.
func (c *gapTracker) Known(known []subscription.Known) {
	if err := c.state.setKnown(context.Background(), known); err != nil {
		c.logger.Warn("the list of own subscriptions can't be kept", zap.Error(err))
	}
}

// known reads which subscriptions are this collector's, since Graph's list may not tell.
func (c *gapTracker) known(ctx context.Context) []subscription.Known {
	known, err := c.state.known(ctx)
	if err != nil {
		c.logger.Warn("the list of own subscriptions can't be read and is replaced", zap.Error(err))
	}
	return known
}

// saveCheckpoint writes the mark of a shutdown, unless the subscription is down, or that is not known any more.
func (c *gapTracker) saveCheckpoint(ctx context.Context, now time.Time, healthy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allStored(ctx) && healthy && len(c.pending) == 0 && !c.lastHealthy.IsZero() && !c.paused(now) {
		c.writeCheckpoint(ctx, now)
	}
}

// recent tells whether the last good check, also of the last run, was not long ago.
func (c *gapTracker) recent(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.lastHealthy.IsZero() && !c.paused(now)
}

// outage is since when nothing may have come, for the cause of a gap that is going to be opened; zero where something may.
func (c *gapTracker) outage(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var since time.Time
	count := func(from time.Time) {
		if since.IsZero() || from.Before(since) {
			since = from
		}
	}
	for _, d := range c.pending {
		count(d.From)
	}
	if c.paused(now) {
		count(c.lastHealthy.Add(-maxNotificationDelay))
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
func (c *gapTracker) missing(now time.Time) (backfill.Reason, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first pendingGap
	for _, d := range c.unopened() {
		if first.From.IsZero() || d.From.Before(first.From) {
			first = d
		}
	}
	if from := c.lastHealthy.Add(-maxNotificationDelay); c.paused(now) && (first.From.IsZero() || from.Before(first.From)) {
		first = pendingGap{Reason: backfill.Subscription, From: from}
	}
	return first.Reason, first.From
}

// noteHealthy is called with mu held. It notes that a subscription lives, and owes a gap where that was not known for too long.
func (c *gapTracker) noteHealthy(at time.Time) {
	if c.paused(at) {
		c.addPending(backfill.Subscription, c.lastHealthy.Add(-maxNotificationDelay))
	}
	c.lastHealthy = at
}

// paused tells whether the last good check is too long ago. A machine that is suspended stops the monotonic clock, and one
// whose clock is set back that of the wall, so the longer time counts.
func (c *gapTracker) paused(now time.Time) bool {
	return c.staleAfter > 0 && !c.lastHealthy.IsZero() && max(now.Sub(c.lastHealthy), now.Round(0).Sub(c.lastHealthy.Round(0))) > c.staleAfter
}

// addPending is called with mu held, as is all of this file. What begins earlier for the same reason contains it.
func (c *gapTracker) addPending(reason backfill.Reason, from time.Time) {
	contains := func(d pendingGap) bool { return d.Reason == reason && !d.From.After(from) }
	if !slices.ContainsFunc(c.pending, contains) {
		c.pending = append(c.pending, pendingGap{Reason: reason, From: from})
	}
}

// openPending opens what was owed, now that a subscription lives, and tells whether everything is on record.
func (c *gapTracker) openPending(ctx context.Context, at time.Time) bool {
	first := at
	for _, d := range c.pending {
		from := d.From
		if from.Before(earliestTime()) {
			from = at.Add(-c.fallbackLookback)
		}
		c.gaps.Open(backfill.Gap{Reason: d.Reason, From: from, To: at.Add(subscriptionWarmup)})
		if from.Before(first) {
			first = from
		}
	}
	if len(c.pending) > 0 && c.explain != nil {
		c.explain(first, at.Add(subscriptionWarmup))
	}
	c.opened, c.pending = append(c.opened, c.pending...), nil
	return c.allStored(ctx)
}

// earliestTime is long before there was anything to receive: a clock that shows an earlier time has not been set yet.
func earliestTime() time.Time { return time.Date(1990, time.January, 1, 0, 0, 0, 0, time.UTC) }

// allStored tells whether every gap that was opened is in the book's storage, and all else that is owed in this one's.
func (c *gapTracker) allStored(ctx context.Context) bool {
	if len(c.opened) > 0 {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		if c.gaps.Flush(ctx) != nil {
			return false // which is logged, and tried again at the next check
		}
		c.opened = nil
		c.unsaved = true
	}
	if c.unsaved {
		c.storePending(ctx)
	}
	return !c.unsaved && c.loaded
}

// unopened is what is owed and not in the book.
func (c *gapTracker) unopened() []pendingGap {
	return slices.AppendSeq(slices.Clone(c.pending), maps.Values(c.down))
}

// maxStoredResources is how many subscriptions are written down one by one. With more that are down, each of them would write
// them all, and a second time when it is restored.
const maxStoredResources = 100

// storedGaps is what the next run has to know, in an order of its own. Where it is much, the next run reads for all users what
// is missing of any of them.
func (c *gapTracker) storedGaps() []pendingGap {
	var pending []pendingGap
	if len(c.down) <= maxStoredResources {
		pending = append(c.unopened(), c.opened...)
	} else {
		pending = slices.Concat(c.pending, c.opened)
		first := map[backfill.Reason]time.Time{}
		for _, d := range c.down {
			if from, found := first[d.Reason]; !found || d.From.Before(from) {
				first[d.Reason] = d.From
			}
		}
		for reason, from := range first {
			pending = append(pending, pendingGap{Reason: reason, From: from})
		}
	}
	for i := range pending {
		pending[i].From = pending[i].From.Round(0).UTC()
	}
	slices.SortFunc(pending, func(a, b pendingGap) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), a.From.Compare(b.From), cmp.Compare(a.Resource, b.Resource))
	})
	return pending
}

// storePending keeps what is owed for the next run.
func (c *gapTracker) storePending(ctx context.Context) {
	pending := c.storedGaps()
	wasUnsaved := c.unsaved
	if c.unsaved = !c.loaded; c.unsaved || len(pending) == 0 && !c.stored || len(pending) > 0 && slices.Equal(pending, c.lastStored) {
		return
	}
	err := c.state.setPendingGaps(ctx, pending)
	c.stored = err != nil || len(pending) > 0
	c.unsaved = err != nil
	if c.lastStored = pending; err != nil {
		c.lastStored = nil
	}
	if err != nil && !wasUnsaved {
		c.logger.Warn("the gaps that are about to be opened can't be kept: a restart now forgets them", zap.Error(err))
	}
}

func (c *gapTracker) writeCheckpoint(ctx context.Context, at time.Time) {
	c.checkpoint = at
	err := c.state.setInstant(ctx, checkpointKey, at)
	wasFailing := c.failing
	if c.failing = err != nil; err != nil && !wasFailing {
		c.logger.Warn("the mark of the last good check can't be kept: a restart will read more history than it has to", zap.Error(err))
	}
}

const (
	checkpointKey  = "mark"
	pendingGapsKey = "owed"
	knownKey       = "known"
)

// pendingGap is a gap that is not open yet, since its end is when a subscription lives again.
type pendingGap struct {
	Reason backfill.Reason
	From   time.Time
	// Resource is the one whose subscription has to live again, empty for any.
	Resource string
}

// storedGap is a debt in storage.
type storedGap struct {
	Reason backfill.Reason `json:"reason"`
	// From is in seconds of Unix time.
	From     int64  `json:"from"`
	Resource string `json:"resource,omitempty"`
}

// stateRecords is what continuity keeps in storage. A client that does not answer holds nobody up for longer than a second.
type stateRecords struct{ store storage.Client }

const recordTimeout = time.Second

// corruptError is a value that is none, as opposed to a storage that fails.
type corruptError struct{ cause error }

func (e *corruptError) Error() string { return e.cause.Error() }
func (e *corruptError) Unwrap() error { return e.cause }

// instant returns a time in whole seconds, zero for none.
func (r stateRecords) instant(ctx context.Context, key string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	value, err := r.store.Get(ctx, key)
	if err != nil || value == nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return time.Time{}, &corruptError{err}
	}
	return time.Unix(seconds, 0), nil
}

func (r stateRecords) setInstant(ctx context.Context, key string, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return r.store.Set(ctx, key, strconv.AppendInt(nil, at.Unix(), 10))
}

func (r stateRecords) pendingGaps(ctx context.Context) ([]pendingGap, error) {
	var written []storedGap
	if err := r.get(ctx, pendingGapsKey, &written); err != nil {
		return nil, err
	}
	gaps := make([]pendingGap, 0, len(written))
	for _, w := range written {
		gaps = append(gaps, pendingGap{Reason: w.Reason, From: time.Unix(w.From, 0), Resource: w.Resource})
	}
	return gaps, nil
}

func (r stateRecords) setPendingGaps(ctx context.Context, gaps []pendingGap) error {
	written := make([]storedGap, 0, len(gaps))
	for _, d := range gaps {
		written = append(written, storedGap{Reason: d.Reason, From: d.From.Unix(), Resource: d.Resource})
	}
	return r.set(ctx, pendingGapsKey, written)
}

func (r stateRecords) known(ctx context.Context) (known []subscription.Known, err error) {
	err = r.get(ctx, knownKey, &known)
	return known, err
}

func (r stateRecords) setKnown(ctx context.Context, known []subscription.Known) error {
	return r.set(ctx, knownKey, known)
}

func (r stateRecords) get(ctx context.Context, key string, value any) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	text, err := r.store.Get(ctx, key)
	if err != nil || text == nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return &corruptError{err}
	}
	return nil
}

func (r stateRecords) set(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return r.store.Set(ctx, key, text)
}
