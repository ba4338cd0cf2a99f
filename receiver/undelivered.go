package receiver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	// retryDeadline is how long after a failed attempt Graph has certainly stopped retrying: it retries for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	retryDeadline = 4*time.Hour + 30*time.Minute
	// maxUndelivered bounds the items that are tracked one by one; of further ones only the minute is kept.
	maxUndelivered = 100_000
)

// undelivered tracks items that Graph was asked to retry, until they are delivered or Graph has stopped retrying; then it
// opens a gap for their minutes.
type undelivered struct {
	store  storage.Client
	logger *zap.Logger
	gaps   gapStore
	// after is retryDeadline, except in tests.
	after time.Duration

	mu sync.Mutex // guards what follows
	// loaded is true once the state of an earlier run was read; until then nothing is written.
	loaded  bool
	failure health.Reminder // of the storage
	// items holds when each item was first refused, unopened the same of items that could not be decrypted.
	items    map[interaction.Key]undeliveredItem
	unopened map[contentDigest]undeliveredItem
	// byDigest finds items by their content digests.
	byDigest map[contentDigest]interaction.Key
	// minutes holds the minutes of items that are not tracked one by one: those of earlier runs, and those beyond the limit.
	minutes map[int64]time.Time
	// openMinutes are the minutes whose gaps are open but may not be stored yet.
	openMinutes map[int64]time.Time
	overloads   overloadDetector
	// oldest is the first minute that may have to be read, 0 for none; until the next openExpired it may be that of an item
	// that is no longer tracked.
	oldest  int64
	changed bool
}

type undeliveredItem struct {
	minute int64 // since 1970
	first  time.Time
	contentDigest
}

func newUndelivered(store storage.Client, logger *zap.Logger, after time.Duration, gaps gapStore) *undelivered {
	return &undelivered{
		store: store, logger: logger, gaps: gaps, after: after, items: map[interaction.Key]undeliveredItem{},
		unopened: map[contentDigest]undeliveredItem{}, byDigest: map[contentDigest]interaction.Key{}, minutes: map[int64]time.Time{},
		openMinutes: map[int64]time.Time{}, overloads: overloadDetector{minutes: map[int64]bool{}},
	}
}

// track notes items that Graph was asked to retry.
func (r *undelivered) track(received []interaction.Received, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = now.Round(0) // wall time, since the monotonic clock stops while this machine is suspended
	for i := range received {
		key, digest := received[i].Key(), digestOf(&received[i])
		if trackItem(r, r.items, key, undeliveredItem{minute: minuteOfID(received[i].ID, now), first: now, contentDigest: digest}) {
			r.byDigest[digest] = key
		}
	}
}

// unknown returns the items that Graph was not asked to retry.
func (r *undelivered) unknown(received []interaction.Received) []interaction.Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.items)+len(r.unopened) == 0 {
		return received
	}
	var others []interaction.Received
	for i := range received {
		_, item := r.items[received[i].Key()]
		_, unopened := r.unopened[digestOf(&received[i])]
		if !item && !unopened {
			others = append(others, received[i])
		}
	}
	return others
}

// needed returns the time from which the dedupe cache must be retained in case tracked items expire; zero for none.
func (r *undelivered) needed() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.oldest == 0 {
		return time.Time{}
	}
	return time.Unix(60*r.oldest, 0)
}

// trackUnopened notes items that could not be decrypted, so that little is known of them.
func (r *undelivered) trackUnopened(items []notification.Item, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = now.Round(0)
	for i := range items {
		if items[i].LifecycleEvent == "" {
			trackItem(r, r.unopened, digestOfUnopened(&items[i]), undeliveredItem{minute: minuteOfID(items[i].ResourceID, now), first: now})
		}
	}
}

// overloaded notes that a request was refused unread.
func (r *undelivered) overloaded(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.overloads.add(now) {
		r.changed = true
		r.noteOldest(now.Add(-maxNotificationDelay).Unix() / 60)
	}
}

// noteOldest is called with mu held.
func (r *undelivered) noteOldest(minute int64) {
	if r.oldest == 0 || minute < r.oldest {
		r.oldest = minute
	}
}

// updateOldest recomputes oldest. It is called with mu held.
func (r *undelivered) updateOldest() {
	r.oldest = 0
	for _, one := range r.items {
		r.noteOldest(one.minute)
	}
	for _, one := range r.unopened {
		r.noteOldest(one.minute)
	}
	for minute := range r.minutes {
		r.noteOldest(minute)
	}
	for minute := range r.overloads.minutes {
		r.noteOldest(minute - int64(maxNotificationDelay/time.Minute))
	}
}

// wrongClock: an id whose timestamp is further ahead than this is ignored; local time is used.
const wrongClock = 24 * time.Hour

// minuteOfID returns the minute of an id's timestamp, or the current minute if the id has none.
func minuteOfID(id string, now time.Time) int64 {
	at, ok := (&interaction.Interaction{ID: id}).CreatedAt()
	if !ok || at.After(now.Add(wrongClock)) {
		at = now
	}
	return at.Unix() / 60
}

// trackItem notes one item, and reports whether it was added to tracked: not if it is in there already or the limit is
// reached. It is called with mu held.
func trackItem[K comparable](r *undelivered, tracked map[K]undeliveredItem, key K, one undeliveredItem) bool {
	if _, found := tracked[key]; found {
		return false
	}
	r.changed = true
	r.noteOldest(one.minute)
	if len(tracked) >= maxUndelivered {
		r.keepMinute(one.minute, one.first)
		return false
	}
	tracked[key] = one
	return true
}

// keepMinute is called with mu held.
func (r *undelivered) keepMinute(minute int64, now time.Time) {
	if _, found := r.minutes[minute]; !found {
		r.minutes[minute] = now
	}
}

// delivered stops tracking items.
func (r *undelivered) delivered(received []interaction.Received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	earlier := len(r.items) + len(r.unopened)
	if earlier == 0 {
		return
	}
	for i := range received {
		r.forget(received[i].Key())
		delete(r.unopened, digestOf(&received[i]))
	}
	r.changed = r.changed || len(r.items)+len(r.unopened) < earlier
}

// resolve stops tracking an item by its content digest: it was delivered by another call, or has a gap of its own.
func (r *undelivered) resolve(one contentDigest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	earlier := len(r.items) + len(r.unopened)
	if key, found := r.byDigest[one]; found {
		r.forget(key)
	}
	delete(r.unopened, one)
	r.changed = r.changed || len(r.items)+len(r.unopened) < earlier
}

// forget is called with mu held.
func (r *undelivered) forget(key interaction.Key) {
	if one, found := r.items[key]; found {
		delete(r.items, key)
		delete(r.byDigest, one.contentDigest)
	}
}

// openExpired opens the gaps of items that Graph no longer retries, and stores the rest for the next run. It must not be
// called concurrently.
func (r *undelivered) openExpired(ctx context.Context, now time.Time) {
	if r.open(now.Round(0)) && r.gaps.Flush(ctx) == nil {
		r.mu.Lock()
		clear(r.openMinutes)
		r.overloads.persisted()
		r.changed = true
		r.mu.Unlock()
	}
	r.save(ctx)
}

// open reports whether any gap is open that may not be stored yet.
func (r *undelivered) open(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := map[int64]bool{}
	takeLost(r.items, lost, now.Add(-r.after))
	maps.DeleteFunc(r.byDigest, func(_ contentDigest, key interaction.Key) bool { _, tracked := r.items[key]; return !tracked })
	takeLost(r.unopened, lost, now.Add(-r.after))
	for minute, first := range r.minutes {
		if now.Sub(first) >= r.after {
			lost[minute] = true
			delete(r.minutes, minute)
		}
	}
	for minute := range lost {
		from := time.Unix(60*minute, 0)
		r.gaps.Open(backfill.Gap{Reason: backfill.Undelivered, From: from, To: from.Add(time.Minute)})
		r.openMinutes[minute] = now.Add(-r.after)
	}
	for _, minute := range r.overloads.lost(now, r.after) {
		until := time.Unix(60*minute, 0).Add(time.Minute)
		r.gaps.Open(backfill.Gap{Reason: backfill.Undelivered, From: until.Add(-maxNotificationDelay), To: until})
	}
	r.updateOldest() // opened gaps are known to the gap store
	return len(r.openMinutes)+len(r.overloads.opened) > 0
}

// takeLost moves the minutes of items that were first refused before a time to lost.
func takeLost[K comparable](tracked map[K]undeliveredItem, lost map[int64]bool, earlier time.Time) {
	for key, item := range tracked {
		if !item.first.After(earlier) {
			lost[item.minute] = true
			delete(tracked, key)
		}
	}
}

// contentDigest identifies an item across retries: Graph sends the same encrypted content again.
type contentDigest [sha256.Size]byte

// digestOf returns the digest of an item's encrypted content, or of its ids if it came without content.
func digestOf(received *interaction.Received) contentDigest {
	if received.ContentDigest == ([sha256.Size]byte{}) {
		return digestOfIDs(received.SubscriptionID, received.ID)
	}
	return received.ContentDigest
}

// digestOfUnopened returns the same of an item that could not be decrypted.
func digestOfUnopened(item *notification.Item) contentDigest {
	if digest := item.ContentDigest(); digest != ([sha256.Size]byte{}) {
		return digest
	}
	return digestOfIDs(item.SubscriptionID, item.ResourceID)
}

func digestOfIDs(subscriptionID, id string) contentDigest {
	return sha256.Sum256([]byte(subscriptionID + "\x1f" + id))
}

const undeliveredKey = "undelivered"

// storedUndelivered is the state for the next run: minutes since 1970, with the time of the first refusal in each.
type storedUndelivered struct {
	Minutes    map[int64]time.Time `json:"minutes"`
	Overloaded []int64             `json:"overloaded,omitempty"`
}

// load reads the state of earlier runs. It is unknown which of their items are delivered later, so all become gaps: reading
// too much does no harm. A damaged value is logged and replaced; if the storage fails, the next openExpired tries again, and
// nothing is written before.
func (r *undelivered) load(ctx context.Context) {
	value, err := r.store.Get(ctx, undeliveredKey)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report(err); err != nil {
		return
	}
	r.loaded = true
	if value == nil {
		return
	}
	var stored storedUndelivered
	if err := json.Unmarshal(value, &stored); err != nil || stored.Minutes == nil {
		r.logger.Warn("the minutes of undelivered notifications can't be read and are replaced", zap.Error(err))
		r.changed = true
	}
	for minute, first := range stored.Minutes {
		r.keepMinute(minute, first)
	}
	for _, minute := range stored.Overloaded {
		r.overloads.minutes[minute] = true
	}
	r.updateOldest()
}

// save writes without holding mu, since deliveries wait for it.
func (r *undelivered) save(ctx context.Context) {
	value, err := r.snapshot(ctx)
	if value == nil && err == nil {
		return
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		err = r.store.Set(ctx, undeliveredKey, value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = r.changed || err != nil
	r.report(err)
}

// snapshot returns nil if nothing has changed since it was stored.
func (r *undelivered) snapshot(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	loaded := r.loaded
	r.mu.Unlock()
	if !loaded {
		r.load(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded || !r.changed {
		return nil, nil
	}
	r.changed = false
	stored := storedUndelivered{Minutes: maps.Clone(r.minutes), Overloaded: slices.Sorted(maps.Keys(r.overloads.minutes))}
	maps.Copy(stored.Minutes, r.openMinutes)
	addMinutes(stored.Minutes, r.items)
	addMinutes(stored.Minutes, r.unopened)
	return json.Marshal(stored)
}

// addMinutes adds each minute with the time of its first refusal.
func addMinutes[K comparable](minutes map[int64]time.Time, tracked map[K]undeliveredItem) {
	for _, item := range tracked {
		if first, found := minutes[item.minute]; !found || item.first.Before(first) {
			minutes[item.minute] = item.first
		}
	}
}

// report logs a failure of the storage, again each hour while it lasts, and its end.
func (r *undelivered) report(err error) {
	switch {
	case err != nil:
		if r.failure.Failed() {
			r.logger.Warn("the minutes of undelivered notifications can't be stored", zap.Error(err))
		}
	case r.failure.Recovered():
		r.logger.Info("the minutes of undelivered notifications can be stored again")
	}
}

const (
	// retriedWithin is how long after an overload Graph has certainly retried at least once.
	retriedWithin = 30 * time.Minute
	// overloadSpacing is the shortest time between two gaps for overloads: their content is unknown, and anybody can cause
	// one.
	overloadSpacing = time.Hour
)

// overloadDetector holds the minutes in which requests were refused unread. Graph retries them for 4 hours, so their content
// is lost only if the receiver was overloaded again then. The caller synchronizes access.
type overloadDetector struct {
	minutes   map[int64]bool // since 1970
	lastCheck time.Time
	// opened are the minutes whose gaps are open but may not be stored yet. They stay in minutes until then.
	opened []int64
}

// add notes an overload, and reports whether its minute is new.
func (o *overloadDetector) add(now time.Time) bool {
	minute := now.Unix() / 60
	known := o.minutes[minute]
	o.minutes[minute] = true
	return !known
}

// lost returns the minutes that Graph no longer retries and whose content may be lost, and drops the other expired ones.
func (o *overloadDetector) lost(now time.Time, after time.Duration) []int64 {
	if now.Sub(o.lastCheck) < overloadSpacing && !now.Before(o.lastCheck) {
		return nil
	}
	o.lastCheck = now
	minutes := slices.Sorted(maps.Keys(o.minutes))
	o.opened = nil
	for i, minute := range minutes {
		at := time.Unix(60*minute, 0)
		if now.Sub(at) < after {
			break
		}
		again := func(later int64) bool {
			since := time.Unix(60*later, 0).Sub(at)
			return since >= retriedWithin && since <= after
		}
		if slices.ContainsFunc(minutes[i+1:], again) {
			o.opened = append(o.opened, minute)
		} else {
			delete(o.minutes, minute)
		}
	}
	return o.opened
}

// persisted notes that the open gaps are stored.
func (o *overloadDetector) persisted() {
	for _, minute := range o.opened {
		delete(o.minutes, minute)
	}
	o.opened = nil
}
