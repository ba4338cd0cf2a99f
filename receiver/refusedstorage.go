package receiver

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

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
	r.recount()
}

// save writes without holding mu, since deliveries wait for it.
func (r *undelivered) save(ctx context.Context) {
	value, err := r.toKeep(ctx)
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

// toKeep returns nil where the storage has it already.
func (r *undelivered) toKeep(ctx context.Context) ([]byte, error) {
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
	maps.Copy(kept.Minutes, r.handed)
	addMinutes(kept.Minutes, r.items)
	addMinutes(kept.Minutes, r.unopened)
	return json.Marshal(kept)
}

// addMinutes adds each minute with the time of its first refusal.
func addMinutes[K comparable](minutes map[int64]time.Time, watched map[K]undeliveredItem) {
	for _, refusal := range watched {
		if first, found := minutes[refusal.minute]; !found || refusal.first.Before(first) {
			minutes[refusal.minute] = refusal.first
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
