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
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	// retryDeadline is when Graph has surely stopped sending again: it does so for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	retryDeadline = 4*time.Hour + 30*time.Minute
	// maxUndelivered bounds the items that are watched one by one; of more the minute alone is kept.
	maxUndelivered = 100_000
)

// undelivered watches what Graph was asked to send again, until it is delivered or Graph has given up; then it opens a gap for
// its minutes.
type undelivered struct {
	store  storage.Client
	logger *zap.Logger
	gaps   gapStore
	// after is givenUp, but for tests.
	after time.Duration

	mu sync.Mutex // guards what follows
	// loaded says whether what an earlier run kept is known; until then nothing is written. failing is true from a failure
	// of the storage, which is logged, until a success.
	loaded, failing bool
	// items holds when each item was refused first, unopened the same of items that could not be opened, by signature.
	items    map[interaction.Key]undeliveredItem
	unopened map[contentDigest]undeliveredItem
	// byDigest finds items by their signatures.
	byDigest map[contentDigest]interaction.Key
	// minutes holds the minutes of items that are not watched one by one: those of earlier runs, and those without room.
	minutes map[int64]time.Time
	// openMinutes are the minutes whose gaps are open and may not be written down yet.
	openMinutes map[int64]time.Time
	overloads   overloadDetector
	// oldest is the first minute that may have to be read, 0 for none; it may be of something that is no longer watched
	// until the next sweep.
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

// track notes items that Graph was asked to send again.
func (r *undelivered) track(received []interaction.Received, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = now.Round(0) // Graph does not stop its clock while this machine is suspended
	for i := range received {
		key, digest := received[i].Key(), digestOf(&received[i])
		if trackItem(r, r.items, key, undeliveredItem{minute: minuteOfID(received[i].ID, now), first: now, contentDigest: digest}) {
			r.byDigest[digest] = key
		}
	}
}

// unknown returns those that Graph was not asked to send again.
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

// needed is from when on deliveries must still be known, should what is watched be given up; zero for nothing.
func (r *undelivered) needed() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.oldest == 0 {
		return time.Time{}
	}
	return time.Unix(60*r.oldest, 0)
}

// trackUnopened notes items that could not be opened, so that little is known of them.
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

// overloaded notes that a request was turned away unread.
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

// updateOldest finds the first minute anew. It is called with mu held.
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

// wrongClock is how far ahead of this machine's clock the time in an id may lie to be believed rather than the clock.
const wrongClock = 24 * time.Hour

// minuteOfID is the minute in an id; an item without such a time counts as new.
func minuteOfID(id string, now time.Time) int64 {
	at, ok := (&interaction.Interaction{ID: id}).CreatedAt()
	if !ok || at.After(now.Add(wrongClock)) {
		at = now
	}
	return at.Unix() / 60
}

// trackItem notes one item, unless it is watched already, and tells whether it is watched by itself now. It is called with mu
// held.
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

// delivered takes items off the watch.
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

// resolve takes an item off the watch by its signature: it was delivered by another call, or is a gap for a reason of its
// own.
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

// openExpired opens the gaps of what Graph has given up, and keeps the rest for the next run. It is called by one at a time.
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

// open tells whether any gap is open that may not be written down yet.
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
	r.updateOldest() // what was handed over the book knows
	return len(r.openMinutes)+len(r.overloads.opened) > 0
}

// takeLost moves the minutes of what was refused first before a time to lost.
func takeLost[K comparable](tracked map[K]undeliveredItem, lost map[int64]bool, earlier time.Time) {
	for key, item := range tracked {
		if !item.first.After(earlier) {
			lost[item.minute] = true
			delete(tracked, key)
		}
	}
}

// contentDigest is what Graph sends again unchanged, whatever else it does.
type contentDigest [sha256.Size]byte

// digestOf is that of its encrypted content. What came without content is known by what it said of itself.
func digestOf(received *interaction.Received) contentDigest {
	if received.ContentDigest == ([sha256.Size]byte{}) {
		return digestOfIDs(received.SubscriptionID, received.ID)
	}
	return received.ContentDigest
}

// digestOfUnopened is the same of an item that could not be opened.
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

// storedUndelivered is what the next run has to know: minutes since 1970, with the time of the first refusal in each.
type storedUndelivered struct {
	Minutes    map[int64]time.Time `json:"minutes"`
	Overloaded []int64             `json:"overloaded,omitempty"`
}

// load reads what earlier runs kept. Whether their items are delivered later can't be known any more, so they become gaps
// in any case: reading too much does no harm. Damage is reported and replaced; a storage that fails is asked again with
// the next sweep, and nothing is written before.
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
	var kept storedUndelivered
	if err := json.Unmarshal(value, &kept); err != nil || kept.Minutes == nil {
		r.logger.Warn("the minutes of refused notifications can't be read and are replaced", zap.Error(err))
		r.changed = true
	}
	for minute, first := range kept.Minutes {
		r.keepMinute(minute, first)
	}
	for _, minute := range kept.Overloaded {
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

// snapshot returns nil where the storage has it already.
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
	kept := storedUndelivered{Minutes: maps.Clone(r.minutes), Overloaded: slices.Sorted(maps.Keys(r.overloads.minutes))}
	maps.Copy(kept.Minutes, r.openMinutes)
	addMinutes(kept.Minutes, r.items)
	addMinutes(kept.Minutes, r.unopened)
	return json.Marshal(kept)
}

// addMinutes adds each minute with the time of its first refusal.
func addMinutes[K comparable](minutes map[int64]time.Time, tracked map[K]undeliveredItem) {
	for _, item := range tracked {
		if first, found := minutes[item.minute]; !found || item.first.Before(first) {
			minutes[item.minute] = item.first
		}
	}
}

// report logs the first failure of the storage and the end of failing. It is called with mu held.
func (r *undelivered) report(err error) {
	switch {
	case err != nil && !r.failing:
		r.logger.Warn("the minutes of refused notifications can't be kept", zap.Error(err))
	case err == nil && r.failing:
		r.logger.Info("the minutes of refused notifications are kept again")
	}
	r.failing = err != nil
}

const (
	// retriedWithin is how long after an overload Graph has surely come again at least once.
	retriedWithin = 30 * time.Minute
	// overloadSpacing is the shortest time between two gaps for the sake of overloads: what was in them nobody knows, and
	// anybody can cause one.
	overloadSpacing = time.Hour
)

// overloadDetector are the minutes in which requests were turned away unread. Graph sends them again for 4 hours, so what was in
// them is lost only if it was overloaded again then. It decides and does nothing; whoever has it guards it.
type overloadDetector struct {
	minutes   map[int64]bool // since 1970
	lastCheck time.Time
	// opened are those whose gaps are open and may not be written down yet. They stay among the minutes until they are.
	opened []int64
}

// add tells whether the minute is new.
func (o *overloadDetector) add(now time.Time) bool {
	minute := now.Unix() / 60
	known := o.minutes[minute]
	o.minutes[minute] = true
	return !known
}

// lost returns the minutes of so long ago that Graph has given up in which something may be lost, and forgets the others.
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

// persisted says that the gaps that are open are written down.
func (o *overloadDetector) persisted() {
	for _, minute := range o.opened {
		delete(o.minutes, minute)
	}
	o.opened = nil
}
