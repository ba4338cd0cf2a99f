package history

import (
	"cmp"
	"slices"
	"time"
)

// kind says what is still to be done with an interval. Intervals of one kind merge, those of different kinds do not.
type kind uint8

const (
	// whole: nothing of it was read.
	whole kind = iota
	// item: likewise, but read at most once an hour, as it stands for single items.
	item
	// again: it was read, and is read once more, since Graph may be late.
	again
	// unknown: it was read for the users already seen, and waits for the directory.
	unknown
	// late: it was read, except for the users that it names.
	late
)

const (
	// lateness is how late Graph may be: https://learn.microsoft.com/graph/change-notifications-overview#latency
	lateness = time.Hour
	// againSlack is how much longer a second reading may wait so that it can be done together with others.
	againSlack = 30 * time.Minute
	// itemSpacing is the shortest time between two readings for the sake of items.
	itemSpacing = time.Hour
	// mostSpans bounds the intervals of one kind. Beyond it the closest ones become one that spans the hole between them.
	mostSpans = 500
)

// span is an interval with what is to be done with it.
type span struct {
	kind     kind
	from, to time.Time
	reasons  tally
	// due is the time before which it is not read; zero means at once.
	due time.Time
	// anchor of the kind again is when the earliest of those merged in it is due. Of the kind unknown it is up to when users
	// were first seen that were read; zero means that nobody was.
	anchor time.Time
	// users of the kind late are those to read, by id; attempts says how often that failed in a row.
	users    []laggard
	attempts int
}

// laggard is a user that could not be read, and what of it could not be.
type laggard struct {
	user     user
	from, to time.Time
}

// absorbs tells whether two intervals are to become one.
func (s *span) absorbs(o *span) bool {
	if s.kind != o.kind {
		return false
	}
	if s.kind == late {
		return true
	}
	if s.from.After(o.to) || o.from.After(s.to) {
		return false
	}
	return s.kind != again || latest(s.due, o.due).Sub(earliest(s.anchor, o.anchor)) <= againSlack
}

// absorb makes two intervals one, with all that lies between them.
func (s *span) absorb(o *span) {
	s.from, s.to = earliest(s.from, o.from), latest(s.to, o.to)
	s.reasons = s.reasons.plus(o.reasons)
	s.attempts = max(s.attempts, o.attempts)
	switch s.kind {
	case again:
		s.due, s.anchor = latest(s.due, o.due), earliest(s.anchor, o.anchor)
	case late:
		s.due = earliest(s.due, o.due)
		s.users = mergeLaggards(s.users, o.users)
	case unknown:
		s.due, s.anchor = earliest(s.due, o.due), earliest(s.anchor, o.anchor)
	default:
		s.due = earliest(s.due, o.due)
	}
}

// covers tells whether an interval of the same kind adds nothing.
func (s *span) covers(o *span) bool {
	if s.kind != o.kind || s.kind == late || s.kind == again || s.from.After(o.from) || s.to.Before(o.to) ||
		s.due.After(o.due) || s.anchor.After(o.anchor) {
		return false
	}
	for reason := range o.reasons {
		if _, found := s.reasons[reason]; !found {
			return false
		}
	}
	return true
}

// unread tells whether its time is missing, as opposed to read but to be read again.
func (s *span) unread() bool { return s.kind != again }

// readyAt returns when it can be read. The directory says when intervals of unknown users can be.
func (s *span) readyAt(itemsRead, directory time.Time) time.Time {
	switch s.kind {
	case item:
		// The minute of an item, that is; where items come all the time there is always one that lies partly ahead.
		ready := s.from.Add(time.Minute)
		if !itemsRead.IsZero() {
			ready = latest(ready, itemsRead.Add(itemSpacing))
		}
		return ready
	case unknown:
		return latest(directory, s.due)
	default:
		return latest(s.due, s.from.Add(time.Second))
	}
}

// merge puts an interval among others and returns them in order, bounded in number.
func merge(spans []span, added span) []span {
	kept := make([]span, 0, len(spans)+1)
	for _, s := range spans {
		if added.absorbs(&s) {
			added.absorb(&s)
			continue
		}
		kept = append(kept, s)
	}
	kept = append(kept, added)
	slices.SortStableFunc(kept, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), a.from.Compare(b.from), a.to.Compare(b.to))
	})
	return bounded(kept, added.kind)
}

// bounded closes the smallest hole between intervals of a kind where they are too many.
func bounded(spans []span, k kind) []span {
	number, closest := 0, -1
	var smallest time.Duration
	for i := range spans {
		if spans[i].kind != k {
			continue
		}
		number++
		if i == 0 || spans[i-1].kind != k {
			continue
		}
		if hole := spans[i].from.Sub(spans[i-1].to); closest < 0 || hole < smallest {
			closest, smallest = i, hole
		}
	}
	if number <= mostSpans {
		return spans
	}
	spans[closest-1].absorb(&spans[closest])
	return slices.Delete(spans, closest, closest+1)
}

// mergeLaggards joins two lists in order of users. A user of both is read from the earlier start to the later end.
func mergeLaggards(a, b []laggard) []laggard {
	all := append(slices.Clone(a), b...)
	slices.SortStableFunc(all, func(x, y laggard) int { return x.user.compare(y.user) })
	merged := all[:0]
	for _, l := range all {
		if n := len(merged); n > 0 && merged[n-1].user == l.user {
			merged[n-1].from = earliest(merged[n-1].from, l.from)
			merged[n-1].to = latest(merged[n-1].to, l.to)
			continue
		}
		merged = append(merged, l)
	}
	return merged
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
