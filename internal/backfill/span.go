package backfill

import (
	"cmp"
	"slices"
	"time"
)

// kind says what is still to be done with an interval. Intervals of one kind merge, those of different kinds do not.
type kind uint8

const (
	// kindFull: nothing of it was read.
	kindFull kind = iota
	// kindItem: likewise, but read at most once an hour, as it stands for single items.
	kindItem
	// kindSecondPass: it was read, and is read once more, since Graph may be late.
	kindSecondPass
	// kindUnknownUsers: it was read for the users already seen, and waits for the directory.
	kindUnknownUsers
	// kindFailedUsers: it was read, except for the users that it names.
	kindFailedUsers
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

// interval is an interval with what is to be done with it.
type interval struct {
	kind     kind
	from, to time.Time
	reasons  reasonCounts
	// due is the time before which it is not read; zero means at once.
	due time.Time
	// notBefore of the kind again is when the earliest of those merged in it is due. Of the kind unknown it is up to when users
	// were first seen that were read; zero means that nobody was.
	notBefore time.Time
	// users of the kind late are those to read, by id; attempts says how often that failed in a row.
	users    []failedUser
	attempts int
}

// failedUser is a user that could not be read, and what of it could not be.
type failedUser struct {
	user     user
	from, to time.Time
}

// absorbs tells whether two intervals are to become one.
func (s *interval) absorbs(o *interval) bool {
	if s.kind != o.kind {
		return false
	}
	if s.kind == kindFailedUsers {
		return true
	}
	if s.from.After(o.to) || o.from.After(s.to) {
		return false
	}
	return s.kind != kindSecondPass || latest(s.due, o.due).Sub(earliest(s.notBefore, o.notBefore)) <= againSlack
}

// absorb makes two intervals one, with all that lies between them.
func (s *interval) absorb(o *interval) {
	s.from, s.to = earliest(s.from, o.from), latest(s.to, o.to)
	s.reasons = s.reasons.plus(o.reasons)
	s.attempts = max(s.attempts, o.attempts)
	switch s.kind {
	case kindSecondPass:
		s.due, s.notBefore = latest(s.due, o.due), earliest(s.notBefore, o.notBefore)
	case kindFailedUsers:
		s.due = earliest(s.due, o.due)
		s.users = mergeFailedUsers(s.users, o.users)
	case kindUnknownUsers:
		s.due, s.notBefore = earliest(s.due, o.due), earliest(s.notBefore, o.notBefore)
	default:
		s.due = earliest(s.due, o.due)
	}
}

// covers tells whether an interval of the same kind adds nothing.
func (s *interval) covers(o *interval) bool {
	if s.kind != o.kind || s.kind == kindFailedUsers || s.kind == kindSecondPass || s.from.After(o.from) || s.to.Before(o.to) ||
		s.due.After(o.due) || s.notBefore.After(o.notBefore) {
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
func (s *interval) unread() bool { return s.kind != kindSecondPass }

// readyAt returns when it can be read. The directory says when intervals of unknown users can be.
func (s *interval) readyAt(itemsRead, directory time.Time) time.Time {
	switch s.kind {
	case kindItem:
		// The minute of an item, that is; where items come all the time there is always one that lies partly ahead.
		ready := s.from.Add(time.Minute)
		if !itemsRead.IsZero() {
			ready = latest(ready, itemsRead.Add(itemSpacing))
		}
		return ready
	case kindUnknownUsers:
		return latest(directory, s.due)
	default:
		return latest(s.due, s.from.Add(time.Second))
	}
}

// merge puts an interval among others and returns them in order, bounded in number.
func merge(intervals []interval, added interval) []interval {
	kept := make([]interval, 0, len(intervals)+1)
	for _, s := range intervals {
		if added.absorbs(&s) {
			added.absorb(&s)
			continue
		}
		kept = append(kept, s)
	}
	kept = append(kept, added)
	slices.SortStableFunc(kept, func(a, b interval) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), a.from.Compare(b.from), a.to.Compare(b.to))
	})
	return bounded(kept, added.kind)
}

// bounded closes the smallest hole between intervals of a kind where they are too many.
func bounded(intervals []interval, k kind) []interval {
	number, closest := 0, -1
	var smallest time.Duration
	for i := range intervals {
		if intervals[i].kind != k {
			continue
		}
		number++
		if i == 0 || intervals[i-1].kind != k {
			continue
		}
		if hole := intervals[i].from.Sub(intervals[i-1].to); closest < 0 || hole < smallest {
			closest, smallest = i, hole
		}
	}
	if number <= mostSpans {
		return intervals
	}
	intervals[closest-1].absorb(&intervals[closest])
	return slices.Delete(intervals, closest, closest+1)
}

// mergeFailedUsers joins two lists in order of users. A user of both is read from the earlier start to the later end.
func mergeFailedUsers(a, b []failedUser) []failedUser {
	all := append(slices.Clone(a), b...)
	slices.SortStableFunc(all, func(x, y failedUser) int { return x.user.compare(y.user) })
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
