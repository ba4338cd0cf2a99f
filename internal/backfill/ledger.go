package backfill

import (
	"slices"
	"time"
)

const (
	// rejoin is the longest hole between two intervals that are read together, holes and all. One request for each user
	// is what a reading costs, however long it is.
	rejoin = time.Hour
	// rejoinAge is how old such a hole may be: what was delivered in it must still be known as a duplicate.
	rejoinAge = 20 * time.Hour
)

// gapStore is the book of all open gaps. It decides and does nothing; whoever has it guards it.
type gapStore struct {
	maxGap time.Duration
	// bounded says that maxGap bounds imported history as well.
	bounded bool

	intervals []interval
	// pass is what is being read, nil for nothing.
	pass *pass
	// polled is up to where the history was polled, zero for never.
	polled time.Time
	// itemsRead is when the last reading for the sake of items began.
	itemsRead time.Time
}

// pass is intervals that are read in one go.
type pass struct {
	// id ties the list of users done to it.
	id        uint64
	began     time.Time
	intervals []interval
	// newUsersOnly is set where only users are read that were first seen after others had been read.
	newUsersOnly bool
}

// bounds returns the interval that is read.
func (r *pass) bounds() (from, to time.Time) {
	from, to = r.intervals[0].from, r.intervals[0].to
	for _, p := range r.intervals[1:] {
		from, to = earliest(from, p.from), latest(to, p.to)
	}
	return from, to
}

// asOf returns up to when users of the kind unknown were first seen that need not be read.
func (r *pass) asOf() time.Time {
	at := r.intervals[0].notBefore
	for _, p := range r.intervals[1:] {
		at = earliest(at, p.notBefore)
	}
	return at
}

func (r *pass) kind() kind { return r.intervals[0].kind }

func (r *pass) reasons() reasonCounts {
	all := reasonCounts{}
	for _, p := range r.intervals {
		all = all.plus(p.reasons)
	}
	return all
}

// loss is time that will not be read any more.
type loss struct {
	reason   Reason
	from, to time.Time
	// users is how many users it concerns, 0 for all.
	users int
}

// change is what became of gaps.
type change struct {
	opened, closed reasonCounts
	lost           []loss
}

func (c *change) open(t reasonCounts)  { c.opened = c.opened.plus(t) }
func (c *change) close(t reasonCounts) { c.closed = c.closed.plus(t) }

// open puts a gap into the book. Nothing changes where it is empty or all of it is open for the same reason already.
func (l *gapStore) open(g Gap, k kind, now time.Time, c *change) {
	s := interval{kind: k, from: g.From.UTC().Round(0), to: g.To.UTC().Round(0), reasons: reasonCounts{g.Reason: 1}}
	if g.Reason == "" || !plausible(s.from) || !plausible(s.to) || !s.from.Before(s.to) {
		return
	}
	if slices.ContainsFunc(l.intervals, func(o interval) bool { return o.covers(&s) }) {
		return
	}
	c.open(s.reasons)
	l.insert(s, now, c)
}

// insert puts an interval into the book, as far as it is not too old.
func (l *gapStore) insert(s interval, now time.Time, c *change) {
	if l.clip(&s, now, c); !s.from.Before(s.to) {
		c.close(s.reasons)
		return
	}
	l.intervals = merge(l.intervals, s)
}

// clip takes off what is older than is filled, and notes it as lost.
func (l *gapStore) clip(s *interval, now time.Time, c *change) {
	horizon := now.Add(-l.maxGap)
	if s.kind == kindSecondPass || l.exempt(s) || !s.from.Before(horizon) {
		return
	}
	lost := loss{reason: s.reasons.first(), from: s.from, to: earliest(s.to, horizon), users: len(s.users)}
	c.lost = append(c.lost, lost)
	s.from = lost.to
	s.users = slices.DeleteFunc(s.users, func(l failedUser) bool { return !l.to.After(horizon) })
	for i := range s.users {
		s.users[i].from = latest(s.users[i].from, horizon)
	}
}

// exempt tells whether MaxGap does not bound an interval. A user whose imported history can't be read is given up too.
func (l *gapStore) exempt(s *interval) bool {
	_, found := s.reasons[Lookback]
	return found && !l.bounded && (s.kind != kindFailedUsers || s.attempts < mostLateAttempts)
}

// expire drops what has become too old to be filled. What is partly so is clipped a good piece at a time, so that it is
// not reported anew at every look.
func (l *gapStore) expire(now time.Time, c *change) {
	horizon := now.Add(-l.maxGap)
	kept := l.intervals[:0]
	for _, s := range l.intervals {
		if !s.to.After(horizon) || horizon.Sub(s.from) >= l.maxGap/8 {
			l.clip(&s, now, c)
		}
		if s.kind == kindSecondPass && !s.to.After(horizon) || !s.from.Before(s.to) {
			c.close(s.reasons)
			continue
		}
		kept = append(kept, s)
	}
	clear(l.intervals[len(kept):])
	l.intervals = kept
}

// poll opens a gap from the last poll to now, if it is time. One that has not been read yet becomes longer.
func (l *gapStore) poll(now time.Time, interval time.Duration, c *change) {
	ahead := l.polled.After(now) // The clock was set back.
	if interval <= 0 || now.Before(l.pollAt(interval)) && !ahead {
		return
	}
	to := now.Add(-pollLag)
	from := l.polled
	switch {
	case ahead: // When the last poll was nobody knows, and this is as far back as deliveries are known.
		from = now.Add(-max(interval, rejoinAge))
	case from.IsZero():
		from = now.Add(-interval)
	}
	l.open(Gap{Reason: Poll, From: from, To: to}, kindFull, now, c)
	l.polled = to
}

// pollLag keeps polls a little behind, since the current second is not over.
const pollLag = time.Second

// pollAt returns when the next poll is due.
func (l *gapStore) pollAt(interval time.Duration) time.Time {
	if l.polled.IsZero() {
		return time.Time{}
	}
	return l.polled.Add(pollLag + interval)
}

// nextAt returns when there is something to read, false for nothing.
func (l *gapStore) nextAt(directory time.Time) (time.Time, bool) {
	var next time.Time
	for i := range l.intervals {
		if at := l.intervals[i].readyAt(l.itemsRead, directory); i == 0 || at.Before(next) {
			next = at
		}
	}
	return next, len(l.intervals) > 0
}

// asOf returns up to when users were first seen that were read for all intervals of unknown users.
func (l *gapStore) asOf() time.Time {
	at := never()
	for _, s := range l.intervals {
		if s.kind == kindUnknownUsers {
			at = earliest(at, s.notBefore)
		}
	}
	return at
}

// earliest returns where the first interval begins that is read or to be read, zero where there is none.
func (l *gapStore) earliest() time.Time {
	var from time.Time
	intervals := l.intervals
	if l.pass != nil {
		intervals = slices.Concat(intervals, l.pass.intervals)
	}
	for i := range intervals {
		if from.IsZero() || intervals[i].from.Before(from) {
			from = intervals[i].from
		}
	}
	return from
}

func (l *gapStore) has(k kind) bool {
	return slices.ContainsFunc(l.intervals, func(s interval) bool { return s.kind == k })
}

// missing returns how much time is known to be missing, by its gravest reason. Not missing is what was read and is only to
// be read again, and the rest of a gap that was read up to now and ends later.
func (l *gapStore) missing(now time.Time) map[Reason]time.Duration {
	sum := map[Reason]time.Duration{}
	count := func(intervals []interval) {
		for _, s := range intervals {
			rest := s.kind == kindFull && s.due.After(now)
			if length := earliest(s.to, now).Sub(s.from); length > 0 && s.unread() && !rest {
				sum[s.reasons.first()] += length
			}
		}
	}
	count(l.intervals)
	if l.pass != nil {
		count(l.pass.intervals)
	}
	return sum
}

// plausible tells whether a time can be one of a gap: it keeps values that are no times out of the arithmetic.
func plausible(t time.Time) bool { return t.Year() >= 1990 && t.Year() < 2100 }
