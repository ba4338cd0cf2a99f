package dedupe

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// RetainFrom keeps entries whose age counts from a time at or after t from expiring; zero keeps none. They are still
// evicted where there are too many.
func (c *Cache) RetainFrom(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retained = math.MaxUint32
	if !t.IsZero() {
		c.retained = seconds(t)
	}
}

// NewestCreation returns the newest time of creation among all that was delivered, zero for none. It comes from Graph, so it
// is right even where this clock was not.
func (c *Cache) NewestCreation() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if newest := max(c.delivered.newest, c.imported.newest); newest > 0 {
		return unix(newest)
	}
	return time.Time{}
}

// uncertainty is a time before an unclean end, of which entries may be missing.
type uncertainty struct {
	// From and To are the first and the last second, in Unix time.
	From, To uint32
	// Long is true if nothing could be written for so long that the cache can't be compared with the history.
	Long bool
}

// maxUncertain is how many are kept.
const maxUncertain = 8

// addUncertain adds one, and merges the closest two if there are too many.
func (c *Cache) addUncertain(u uncertainty) {
	c.uncertain = append(c.uncertain, u)
	slices.SortFunc(c.uncertain, func(a, b uncertainty) int { return cmp.Compare(a.From, b.From) })
	if len(c.uncertain) <= maxUncertain {
		return
	}
	distance := func(i int) int64 { return int64(c.uncertain[i].From) - int64(c.uncertain[i-1].To) }
	closest := 1
	for i := 2; i < len(c.uncertain); i++ {
		if distance(i) < distance(closest) {
			closest = i
		}
	}
	first, second := &c.uncertain[closest-1], c.uncertain[closest]
	first.To, first.Long = max(first.To, second.To), first.Long || second.Long
	c.uncertain = slices.Delete(c.uncertain, closest, closest+1)
}

func (u uncertainty) contains(at uint32) bool { return u.From <= at && at <= u.To }

// certain reports whether no entry of this time of creation can be missing. It is called with mu held.
func (c *Cache) certain(created uint32) bool {
	return created > c.incompleteUntil &&
		!slices.ContainsFunc(c.uncertain, func(u uncertainty) bool { return u.contains(created) })
}

// Interval is a time from From up to but excluding To.
type Interval struct {
	From, To time.Time
}

// Complete reports whether the cache knows what was delivered of this time of creation. It does not up to the newest creation
// of which an entry was evicted for MaxEntries, before a damaged value was found, and before an unclean end if nothing had
// been written for 30 s.
func (c *Cache) Complete(created time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := seconds(created)
	return at > c.incompleteUntil &&
		!slices.ContainsFunc(c.uncertain, func(u uncertainty) bool { return u.Long && u.contains(at) })
}

// Incomplete returns the parts of an interval for which Complete is false, the earliest first, in whole seconds.
func (c *Cache) Incomplete(from, to time.Time) []Interval {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []Interval
	start, last := seconds(from), seconds(to)
	for _, u := range append([]uncertainty{{To: c.incompleteUntil, Long: true}}, c.uncertain...) {
		if first, end := max(start, u.From), min(last, u.To+1); u.Long && first < end {
			parts = append(parts, Interval{From: unix(first), To: unix(end)})
			start = end
		}
	}
	return parts
}

func unix(seconds uint32) time.Time { return time.Unix(int64(seconds), 0).UTC() }

// EntriesFor returns how many entries are needed to cover a time, at the rate of what the cache has.
func (c *Cache) EntriesFor(span time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.delivered.oldest()
	if oldest == nil {
		return 0
	}
	covered := max(time.Since(unix(oldest.delivered)), time.Second)
	return int(math.Ceil(float64(c.delivered.len) * float64(span) / float64(covered)))
}

// Notified returns how many interactions created in an interval notifications brought, of the users for which read is true.
// Those whose user is unknown do not count.
func (c *Cache) Notified(from, to time.Time, read func(user UserHash) bool) int {
	first, end, count := seconds(from), seconds(to), 0
	blocks, _ := c.snapshot(0)
	for _, b := range blocks {
		for i := range b.records {
			r := &b.records[i]
			if r.has(creationNotified) && first <= r.created && r.created < end && r.user != 0 && read(r.user) {
				count++
			}
		}
	}
	return count
}
