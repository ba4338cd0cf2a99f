package gapstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	undeliveredKey     = "undelivered"
	undeliveredVersion = 1
	// retryDeadline is how long after the first refusal Graph has certainly stopped retrying: it retries for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	retryDeadline = 4*time.Hour + 30*time.Minute
	// maxUndelivered bounds the items that are tracked one by one; of further ones only the minute is kept.
	maxUndelivered = 100_000
	// expiryInterval is the time between two checks for items that Graph no longer retries.
	expiryInterval = 10 * time.Second
	// maxClockError: an id whose time is further ahead than this is ignored; local time is used.
	maxClockError = 24 * time.Hour
)

// Digest identifies an item whenever it is sent again.
type Digest = [sha256.Size]byte

// Undelivered tracks authentic items that Graph was asked to send again, until they are delivered or Graph has stopped retrying;
// then it opens a gap for their minutes. It is safe for concurrent use.
type Undelivered struct {
	gaps    *Store
	value   statestore.Value[map[int64]time.Time]
	logger  *zap.Logger
	storage health.Part

	mu    sync.Mutex // guards items
	items map[Digest]refusal
	// stored is what storage holds: the minutes, since 1970, with their first refusals. Only Run and Save use it.
	stored map[int64]time.Time
}

// refusal is when an item was first refused, and the minute to read should it not be delivered.
type refusal struct {
	minute int64
	first  time.Time
	// opened is true once there is a gap, which may not be stored yet.
	opened bool
}

// NewUndelivered returns an empty Undelivered that opens gaps in a Store.
func NewUndelivered(gaps *Store) *Undelivered {
	s := gaps.settings
	return &Undelivered{
		gaps: gaps, logger: s.Logger, items: map[Digest]refusal{},
		value:   statestore.Value[map[int64]time.Time]{Store: s.Store, Key: undeliveredKey, Version: undeliveredVersion},
		storage: health.Part{Logger: s.Logger, Failing: "the minutes of undelivered notifications can't be stored; check the storage extension", Recovered: "the minutes of undelivered notifications are stored again"},
	}
}

// Load reads the minutes of earlier runs. Which of their items were delivered since is unknown, so all of them become gaps:
// reading too much does no harm. It fails if the storage can't be read; a damaged value is logged and replaced.
func (u *Undelivered) Load(ctx context.Context) error {
	stored, _, err := u.value.Load(ctx)
	if statestore.Damaged(err) {
		u.logger.Warn("the minutes of undelivered notifications in storage are damaged and are replaced", zap.Error(err))
	} else if err != nil {
		return fmt.Errorf("load the undelivered notifications: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for minute, first := range stored {
		u.items[digestOfMinute(minute)] = refusal{minute: minute, first: first}
	}
	u.stored = stored
	return nil
}

// Track notes an item that Graph is asked to send again. Its id says which minute it belongs to.
func (u *Undelivered) Track(digest Digest, id string, now time.Time) {
	now = now.Round(0) // wall time, since the monotonic clock stops while this machine is suspended
	at, ok := (&interaction.Interaction{ID: id}).CreatedAt()
	if !ok || at.After(now.Add(maxClockError)) {
		at = now
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	minute := at.Unix() / 60
	if _, found := u.items[digest]; !found && len(u.items) >= maxUndelivered {
		digest = digestOfMinute(minute)
	}
	if _, found := u.items[digest]; !found {
		u.items[digest] = refusal{minute: minute, first: now}
	}
}

// digestOfMinute stands for items of a minute that are not tracked one by one.
func digestOfMinute(minute int64) Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("minute"), uint64(minute))) //nolint:gosec // only distinguishes minutes
}

// Resolve stops tracking an item: it was delivered, or has a gap of its own.
func (u *Undelivered) Resolve(digest Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.items, digest)
}

// Run opens the gaps of what Graph no longer retries, until ctx ends.
func (u *Undelivered) Run(ctx context.Context) {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		u.Save(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Save opens the gaps of what Graph no longer retries, and stores the rest. It must not be called concurrently.
func (u *Undelivered) Save(ctx context.Context) {
	u.expire(ctx, time.Now().Round(0))
	minutes := u.minutes()
	if maps.EqualFunc(minutes, u.stored, time.Time.Equal) {
		return
	}
	err := u.value.Save(ctx, minutes)
	if err == nil {
		u.stored = minutes
	}
	if err == nil || ctx.Err() == nil {
		u.storage.Report(err)
	}
}

// expire forgets an item only when its gap is stored.
func (u *Undelivered) expire(ctx context.Context, now time.Time) {
	lost, minutes := u.lost(now)
	if len(minutes) > 0 {
		u.gaps.Update(ctx, func(state *gap.State, now time.Time) gap.Changes {
			return state.Undelivered(u.gaps.Rules(), minutes, now)
		})
	}
	if len(lost) == 0 || u.gaps.Flush(ctx) != nil {
		return // it is logged there; until it is stored the next run needs the minutes
	}
	for _, digest := range lost {
		u.Resolve(digest)
	}
}

// lost returns the items that Graph no longer retries, and the minutes of those that have no gap yet.
func (u *Undelivered) lost(now time.Time) (lost []Digest, minutes []time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	found := map[int64]bool{}
	for digest, item := range u.items {
		clockSetBack := item.first.After(now.Add(time.Minute))
		if !clockSetBack && now.Sub(item.first) < retryDeadline {
			continue
		}
		lost = append(lost, digest)
		if !item.opened {
			found[item.minute] = true
			item.opened = true
			u.items[digest] = item
		}
	}
	for _, minute := range slices.Sorted(maps.Keys(found)) {
		minutes = append(minutes, time.Unix(60*minute, 0))
	}
	return lost, minutes
}

// minutes returns the tracked minutes, each with its first refusal.
func (u *Undelivered) minutes() map[int64]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	minutes := map[int64]time.Time{}
	for _, item := range u.items {
		if first, found := minutes[item.minute]; !found || item.first.Before(first) {
			minutes[item.minute] = item.first
		}
	}
	return minutes
}
