package dedupe

import (
	"math"
	"time"
)

// RetainFrom keeps entries whose age counts from a time at or after t from expiring; zero keeps none. They are still
// evicted where there are too many.
func (c *Cache) RetainFrom(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retained = t
}

// NewestCreation returns the newest time of creation among all that was delivered, imports aside, zero for none. It comes from
// Graph, so it is right even where this clock was not.
func (c *Cache) NewestCreation() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.delivered.newest == 0 {
		return time.Time{}
	}
	return unix(c.delivered.newest)
}

// uncertainty is a time of which entries may be missing: from the first to the last second, in Unix time.
type uncertainty struct{ From, To uint32 }

const (
	// deliveryDelay is how long after its creation an interaction is delivered, as a rule.
	deliveryDelay = 60 // seconds
	// maxSilence is for how long before a start nothing may have been written for the cache to count as complete.
	maxSilence = 30 // seconds
)

// long reports whether so much may be missing that the cache can't be compared with the history.
func (u uncertainty) long() bool { return u.To-u.From > deliveryDelay+maxSilence }

// endedUnclean notes that the end before this start was unclean. Only one is remembered: everything up to an earlier long one
// counts as incomplete.
func (c *Cache) endedUnclean(written, now uint32) {
	if c.uncertain.long() {
		c.incompleteUntil = max(c.incompleteUntil, c.uncertain.To)
	}
	written = min(written, now)
	c.uncertain = uncertainty{From: written - min(written, deliveryDelay), To: now}
}

// certain reports whether no entry of this time of creation can be missing. It is called with mu held.
func (c *Cache) certain(created uint32) bool {
	return created > c.incompleteUntil && (created < c.uncertain.From || created > c.uncertain.To)
}

// Interval is a time from From up to but excluding To.
type Interval struct{ From, To time.Time }

// Complete reports whether the cache knows what was delivered of this time of creation. It does not up to the newest creation
// of which an entry was evicted for MaxEntries, before a damaged value was found, and from a minute before the last write up
// to the next start if the end was unclean and the start came more than 30 s after that write.
func (c *Cache) Complete(created time.Time) bool {
	return len(c.Incomplete(created, created.Add(time.Second))) == 0
}

// Incomplete returns the parts of an interval for which Complete is false, the earliest first, in whole seconds.
func (c *Cache) Incomplete(from, to time.Time) []Interval {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []Interval
	start, last := seconds(from), seconds(to)
	for _, u := range []uncertainty{{To: c.incompleteUntil}, c.uncertain} {
		first, end := max(start, u.From), min(last, u.To+1)
		if first < end && u.long() {
			parts = append(parts, Interval{From: unix(first), To: unix(end)})
			start = end
		}
	}
	return parts
}

// EntriesFor returns the MaxEntries that a time needs, at the rate of what the cache has, or 0 if the present number suffices.
func (c *Cache) EntriesFor(span time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.delivered.len() == 0 {
		return 0
	}
	covered := max(time.Since(unix(c.delivered.oldest().delivered)), time.Second)
	needed := int(math.Ceil(float64(c.delivered.len()) * float64(span) / float64(covered)))
	if needed > c.settings.MaxEntries {
		return needed
	}
	return 0
}

// Notified returns how many interactions created in an interval notifications brought, of the users for which read is true.
// Those whose user is unknown do not count.
func (c *Cache) Notified(from, to time.Time, read func(user UserHash) bool) int {
	first, end, count := seconds(from), seconds(to), 0
	blocks, _ := c.snapshot(0)
	for _, records := range blocks {
		for i := range records {
			r := &records[i]
			if r.has(creationNotified) && first <= r.created && r.created < end && r.user != 0 && read(r.user) {
				count++
			}
		}
	}
	return count
}
