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
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	// maxCheckpointAge is how old the checkpoint of the last run may be without a gap, since Graph retries for hours.
	maxCheckpointAge = 5 * time.Minute
	// maxNotificationDelay is how late Graph may notify, 60 minutes, with some reserve:
	// https://learn.microsoft.com/graph/api/resources/subscription#latency
	maxNotificationDelay = 65 * time.Minute
	// subscriptionWarmup is how long a new subscription may take to deliver.
	subscriptionWarmup = 5 * time.Minute
	// graphRetryWindow is how long Graph retries, 4 hours, with some reserve: an item for a removed key can be that old.
	graphRetryWindow = 5 * time.Hour
)

// gapTracker tracks when the subscription was active, and opens a gap for each time that it was not. Its checkpoint is the
// last time at which the subscription was active and the webhook listened. It implements subscription.Observer.
//
// A pending gap is persisted when its cause is detected, so that a crash can't lose it, and until it is opened and stored.
type gapTracker struct {
	state     stateRecords
	logger    *zap.Logger
	gaps      gapStore
	resources []string
	// explain is called with each gap. It may be nil.
	explain func(from, to time.Time)
	// lookback is what a very first start imports.
	lookback time.Duration
	// fallbackLookback is how far back the history is read if the checkpoint can't be trusted.
	fallbackLookback time.Duration
	// staleAfter is how far healthy checks may be apart; after a longer pause it is unknown what happened meanwhile. It is 0
	// without a subscription.
	staleAfter time.Duration

	mu sync.Mutex // guards what follows
	// checkpoint is zero until one was stored, in this run or an earlier one.
	checkpoint time.Time
	// lastHealthy is the last healthy check, also one of the last run if its checkpoint is fresh.
	lastHealthy time.Time
	// pending are gaps that the next healthy check opens, opened those that are open but not stored yet.
	pending, opened []pendingGap
	// down holds the pending gap of each resource until its subscription is active again.
	down map[string]pendingGap
	// watchedResources are the resources that the current manager reported as down: it will report when they are restored.
	watchedResources map[string]bool
	// loaded is true once the state of the last run was read; until then it is not overwritten.
	loaded bool
	// stored is true if storage may hold pending gaps, unsaved if it lacks any.
	stored, unsaved bool
	// lastStored are the gaps that storage certainly holds, nil for none.
	lastStored []pendingGap
	failure    health.Reminder // of storing the checkpoint
}

// gapStore opens and stores gaps. *backfill.Backfiller implements it.
type gapStore interface {
	Open(gaps ...backfill.Gap)
	Flush(ctx context.Context) error
}

// load reads the checkpoint and the pending gaps of the last run. A damaged value is logged and replaced, and a gap of
// fallbackLookback covers whatever it was. If the storage fails, every check tries again.
func (c *gapTracker) load(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.tryLoad(ctx, now); err != nil && ctx.Err() == nil {
		c.logger.Warn("the checkpoint can't be read, gaps since then are not known; the storage is tried again at each check",
			zap.Error(err))
	}
}

// tryLoad is called with mu held. It returns errors of the storage only.
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
		c.logger.Warn("the checkpoint or the pending gaps in storage are damaged and are replaced", zap.Error(errors.Join(pendingErr, checkpointErr)))
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
		c.lastHealthy = c.checkpoint // its age is known once the clock is set
	case c.checkpoint.After(now.Add(maxCheckpointAge)):
		c.logger.Warn("the checkpoint is in the future: check this machine's clock", zap.Time("checkpoint", c.checkpoint))
		c.addPending(backfill.Startup, now.Add(-c.fallbackLookback))
	case corrupt:
		c.addPending(backfill.Startup, now.Add(-c.fallbackLookback))
	case c.checkpoint.IsZero() && c.lookback > 0:
		c.addPending(backfill.Lookback, now.Add(-c.lookback))
	case !c.checkpoint.IsZero() && now.Sub(c.checkpoint) > maxCheckpointAge:
		c.addPending(backfill.Startup, c.checkpoint.Add(-maxNotificationDelay))
	default:
		c.lastHealthy = c.checkpoint // nothing is missing until now; time until the next healthy check is treated like any pause
	}
	c.storePending(ctx)
	return nil
}

// removedKey notes that notifications for a previously accepted key can't be decrypted any more. The gap is stored when it
// returns.
func (c *gapTracker) removedKey(ctx context.Context, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addPending(backfill.RemovedKey, now.Add(-graphRetryWindow))
	c.storePending(ctx)
}

// Checked implements subscription.Observer.
func (c *gapTracker) Checked(at time.Time) { c.check(context.Background(), at) }

// check notes a healthy check. The checkpoint advances only once every gap is stored, since a crash would lose the others.
func (c *gapTracker) check(ctx context.Context, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		_ = c.tryLoad(ctx, at) // the failure was logged by load
	}
	for resource, d := range c.down {
		if !c.watchedResources[resource] { // an earlier manager found it down, and the current one does not
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
		return // there never was a subscription
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

// unwatched notes that Restored will not be called for earlier interruptions.
func (c *gapTracker) unwatched() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.watchedResources)
}

// Known implements subscription.Observer. It stores which subscriptions are this collector's for the next run.
func (c *gapTracker) Known(known []subscription.Known) {
	if err := c.state.setKnown(context.Background(), known); err != nil {
		c.logger.Warn("the list of own subscriptions can't be stored", zap.Error(err))
	}
}

// known reads which subscriptions are this collector's, since Graph's list may not show it.
func (c *gapTracker) known(ctx context.Context) []subscription.Known {
	known, err := c.state.known(ctx)
	if err != nil {
		c.logger.Warn("the list of own subscriptions can't be read and is replaced", zap.Error(err))
	}
	return known
}

// saveCheckpoint stores the checkpoint at shutdown, unless the subscription is down or its state is unknown.
func (c *gapTracker) saveCheckpoint(ctx context.Context, now time.Time, healthy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allStored(ctx) && healthy && len(c.pending) == 0 && !c.lastHealthy.IsZero() && !c.paused(now) {
		c.writeCheckpoint(ctx, now)
	}
}

// recent reports whether the last healthy check, also of the last run, was within staleAfter.
func (c *gapTracker) recent(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.lastHealthy.IsZero() && !c.paused(now)
}

// outage returns since when nothing can have arrived, because of a gap that is going to be opened; zero if something can.
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

// missing returns since when interactions are missing for which no gap is open yet, and why; a zero time if none are.
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

// noteHealthy is called with mu held. It notes that a subscription is active, and adds a pending gap if that was unknown for
// too long.
func (c *gapTracker) noteHealthy(at time.Time) {
	if c.paused(at) {
		c.addPending(backfill.Subscription, c.lastHealthy.Add(-maxNotificationDelay))
	}
	c.lastHealthy = at
}

// paused reports whether the last healthy check is too long ago. The monotonic clock stops while a machine is suspended, and
// the wall clock can be set back, so the longer time counts.
func (c *gapTracker) paused(now time.Time) bool {
	return c.staleAfter > 0 && !c.lastHealthy.IsZero() && max(now.Sub(c.lastHealthy), now.Round(0).Sub(c.lastHealthy.Round(0))) > c.staleAfter
}

// addPending is called with mu held, as is all of this file. A gap that begins earlier for
// the same reason contains it.
func (c *gapTracker) addPending(reason backfill.Reason, from time.Time) {
	contains := func(d pendingGap) bool { return d.Reason == reason && !d.From.After(from) }
	if !slices.ContainsFunc(c.pending, contains) {
		c.pending = append(c.pending, pendingGap{Reason: reason, From: from})
	}
}

// openPending opens the pending gaps once a subscription is active, and reports whether all gaps are stored.
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

// earliestTime is long before there was anything to receive: a clock that shows an earlier time is not set yet.
func earliestTime() time.Time { return time.Date(1990, time.January, 1, 0, 0, 0, 0, time.UTC) }

// allStored reports whether the gap store has stored every opened gap, and this tracker every pending one.
func (c *gapTracker) allStored(ctx context.Context) bool {
	if len(c.opened) > 0 {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		if c.gaps.Flush(ctx) != nil {
			return false // it is logged there, and tried again at the next check
		}
		c.opened = nil
		c.unsaved = true
	}
	if c.unsaved {
		c.storePending(ctx)
	}
	return !c.unsaved && c.loaded
}

// unopened returns the gaps that are not opened yet.
func (c *gapTracker) unopened() []pendingGap {
	return slices.AppendSeq(slices.Clone(c.pending), maps.Values(c.down))
}

// maxStoredResources is how many interrupted resources are stored one by one. With more, each interruption and each
// restoration would write them all.
const maxStoredResources = 100

// storedGaps returns the gaps to store for the next run, sorted. If there are many, the next run reads the history of all
// users for what is missing of any of them.
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

// storePending stores the pending gaps for the next run.
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
		c.logger.Warn("pending gaps can't be stored: a restart now would lose them", zap.Error(err))
	}
}

func (c *gapTracker) writeCheckpoint(ctx context.Context, at time.Time) {
	c.checkpoint = at
	err := c.state.setInstant(ctx, checkpointKey, at)
	if err == nil {
		c.failure.Recovered()
	} else if c.failure.Failed() {
		c.logger.Warn("the checkpoint can't be stored: a restart will read more history than necessary", zap.Error(err))
	}
}

const (
	checkpointKey  = "checkpoint"
	pendingGapsKey = "pending_gaps"
	knownKey       = "known"
)

// pendingGap is an open-ended gap: it ends when a subscription is active again.
type pendingGap struct {
	Reason backfill.Reason
	From   time.Time
	// Resource is the one whose subscription must be active again, empty for any.
	Resource string
}

// storedGap is a pendingGap in storage.
type storedGap struct {
	Reason backfill.Reason `json:"reason"`
	// From is in seconds of Unix time.
	From     int64  `json:"from"`
	Resource string `json:"resource,omitempty"`
}

// stateRecords reads and writes typed values in storage. A call to a storage that does not answer takes a second at most.
type stateRecords struct{ store storage.Client }

const recordTimeout = time.Second

// corruptError is a damaged value, as opposed to a failure of the storage.
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
