// SPDX-License-Identifier: Apache-2.0

package dedupe

import (
	"math"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// NewestCreation returns the newest creation that was delivered, imports aside, zero for none. It is a time by Graph's clock.
func (c *Cache) NewestCreation() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return unix(c.delivered.newest)
}

const (
	deliveryDelay = 60  // seconds after its creation that an interaction is delivered, as a rule
	maxUnwritten  = 60  // seconds from the last write to an unclean end: more than the heartbeat, and clocks differ
	maxSilence    = 600 // seconds without a write before a start, after an unclean end, for the cache to count as complete
	maxUncertain  = 16  // periods around unclean ends; of a crash loop they overlap, and become one
)

// completeness says of which times of creation entries may be missing, in Unix time. It is stored in the index.
type completeness struct {
	// IncompleteUntil is the newest creation of which an entry was evicted before it expired, or else the start at which a damaged
	// value was found.
	IncompleteUntil uint32
	// SilentUntil is the start at which the last write of an unclean end was more than maxSilence ago: this process did not run, or
	// could not write what it delivered.
	SilentUntil uint32
	// Uncertain are the latest periods, in order, of whose creations some may have been delivered before an unclean end and not written.
	Uncertain []period
}

// period is a period in Unix time, including both ends.
type period struct{ From, To uint32 }

// endedUnclean notes that the end before this start was unclean.
func (c *completeness) endedUnclean(written, now uint32) {
	if now-min(written, now) > maxSilence {
		c.SilentUntil = max(c.SilentUntil, now)
	}
	last := period{written - min(written, deliveryDelay), min(written+maxUnwritten, now)}
	if n := len(c.Uncertain); n > 0 && last.From <= c.Uncertain[n-1].To {
		last.From = min(last.From, c.Uncertain[n-1].From)
		c.Uncertain = c.Uncertain[:n-1]
	}
	c.Uncertain = append(c.Uncertain, last)
	c.Uncertain = c.Uncertain[max(0, len(c.Uncertain)-maxUncertain):]
}

// certain reports whether no entry of this time of creation is missing, but for what a storage that failed for long before an unclean
// end could not write: then what is found counts as recovered once too often.
func (c *completeness) certain(created uint32) bool {
	return created > c.IncompleteUntil &&
		!slices.ContainsFunc(c.Uncertain, func(p period) bool { return p.From <= created && created <= p.To })
}

// CompleteFrom returns the time of creation from which on the cache knows what was delivered; zero for ever.
func (c *Cache) CompleteFrom() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := max(c.complete.IncompleteUntil, c.complete.SilentUntil)
	if until == 0 {
		return time.Time{}
	}
	return unix(until + 1)
}

// EntriesFor returns the number of entries that a time needs, at the rate of what the cache has, and whether Settings.MaxEntries may be
// that large; or 0 if the present number suffices.
func (c *Cache) EntriesFor(span time.Duration) (entries int, allowed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.delivered.len() == 0 {
		return 0, true
	}
	covered := max(time.Since(unix(c.delivered.oldest().Delivered)), time.Second)
	entries = int(math.Ceil(float64(c.delivered.len()) * float64(span) / float64(covered)))
	if entries <= c.settings.MaxEntries {
		return 0, true
	}
	return entries, entries <= MaxEntries
}

// Notified returns how many interactions of the users, created in an interval, notifications brought.
func (c *Cache) Notified(from, to time.Time, users []gap.User) (count int) {
	read := make(map[uint32]bool, len(users))
	for _, user := range users {
		read[hashUser(user.String())] = true
	}
	first, end := seconds(from), seconds(to)
	blocks, _ := c.snapshot(0)
	for _, records := range blocks {
		for i := range records {
			r := &records[i]
			if r.has(creationNotified) && first <= r.Created && r.Created < end && read[r.User] {
				count++
			}
		}
	}
	return count
}
