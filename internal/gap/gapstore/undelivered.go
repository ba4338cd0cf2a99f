// SPDX-License-Identifier: Apache-2.0

package gapstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// retryDeadline is how long after the first refusal Graph, which retries for 4 hours, has certainly stopped:
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	retryDeadline = 4*time.Hour + 30*time.Minute
	// maxUndelivered bounds the items that are tracked one by one; of further ones only the minute is kept.
	maxUndelivered = 100_000
)

// Digest identifies an item whenever it is sent again.
type Digest = [sha256.Size]byte

// Undelivered tracks authentic items that Graph was asked to send again, until they are delivered or Graph has stopped retrying;
// then it opens a gap for their minutes. It is safe for concurrent use.
type Undelivered struct {
	gaps *Store

	mu    sync.Mutex // guards items
	items map[Digest]refusal
}

type refusal struct {
	minute int64     // since 1970, to read should the item not be delivered
	first  time.Time // when it was first refused
}

// NewUndelivered returns an Undelivered that opens gaps in a Store, which was loaded before. It has the minutes of earlier runs: as
// their items are unknown, all become gaps.
func NewUndelivered(gaps *Store) *Undelivered {
	u := &Undelivered{gaps: gaps, items: map[Digest]refusal{}}
	gaps.View(func(state *gap.State, _ time.Time) {
		for minute, first := range state.Refused {
			u.items[digestOfMinute(minute)] = refusal{minute, first}
		}
	})
	return u
}

// Track notes an item that Graph is asked to send again. Its id says which minute it belongs to.
func (u *Undelivered) Track(digest Digest, id string, now time.Time) {
	now = now.Round(0) // wall time, since the monotonic clock stops while this machine is suspended
	at, ok := (&interaction.Interaction{ID: id}).CreatedAt()
	if !ok || at.After(now.Add(gap.MaxClockError)) {
		at = now
	}
	minute := at.Unix() / 60
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.items) >= maxUndelivered {
		digest = digestOfMinute(minute)
	}
	if _, found := u.items[digest]; !found {
		u.items[digest] = refusal{minute, now}
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

// Save opens the gaps of what Graph no longer retries, and passes the minutes of the rest to the Store. As both are one change of
// one value, no crash can come between them. It is called every few seconds, and not concurrently.
func (u *Undelivered) Save(ctx context.Context) {
	lost, left := u.expire(time.Now().Round(0))
	same := false
	u.gaps.View(func(state *gap.State, _ time.Time) { same = maps.EqualFunc(left, state.Refused, time.Time.Equal) })
	if !same || len(lost) > 0 {
		u.gaps.Update(ctx, func(state *gap.State, _ time.Time) {
			state.Refused = left
			state.Undelivered(lost)
		})
	}
}

// expire forgets the items that Graph no longer retries. It returns their minutes, and those of the others with the first refusals.
func (u *Undelivered) expire(now time.Time) (lost []time.Time, left map[int64]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	expired, left := map[int64]bool{}, map[int64]time.Time{}
	for digest, item := range u.items {
		first, found := left[item.minute]
		switch {
		case now.Sub(item.first).Abs() >= retryDeadline: // also where the clock has been set back
			expired[item.minute] = true
			delete(u.items, digest)
		case !found || item.first.Before(first):
			left[item.minute] = item.first
		}
	}
	for minute := range expired {
		lost = append(lost, time.Unix(60*minute, 0))
	}
	return lost, left
}
