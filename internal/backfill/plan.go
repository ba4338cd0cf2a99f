package backfill

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// remainderWait bounds how long the part of a gap that lies ahead is left alone, in case it lies far ahead.
	remainderWait = time.Hour
	firstLateWait = 5 * time.Minute
	longLateWait  = time.Hour
	// mostLateAttempts is how often users that can't be read are tried where no age ends it: a week.
	mostLateAttempts = 168
	// longestOvertaken is how long an interval that could be read is left to more urgent ones: where polls follow each other
	// without a pause there would be no end of these.
	longestOvertaken = 15 * time.Minute
)

// urgency orders intervals by what is read first. Among equals it is the oldest, as that is lost first.
func urgency(s *interval, readyAt, now time.Time) int {
	switch {
	case s.kind == kindFull, s.kind == kindItem, now.Sub(latest(readyAt, s.notBefore)) > longestOvertaken:
		return 0
	case s.kind == kindSecondPass:
		return 1
	case s.kind == kindUnknownUsers:
		return 2
	default:
		return 3
	}
}

// begin takes out of the book what is to be read next, and returns false where nothing is due. From directory on,
// intervals of unknown users can be read; newcomers says that this is for those seen meanwhile alone.
func (l *gapStore) begin(now, directory time.Time, newUsers bool, c *change) bool {
	if l.itemsRead.After(now) { // The clock was set back.
		l.itemsRead = time.Time{}
	}
	ready := func(s *interval) bool { return !s.readyAt(l.itemsRead, directory).After(now) }
	first, least := -1, 0
	for i := range l.intervals {
		s := &l.intervals[i]
		if !ready(s) {
			continue
		}
		u := urgency(s, s.readyAt(l.itemsRead, directory), now)
		if first < 0 || u < least || u == least && s.from.Before(l.intervals[first].from) {
			first, least = i, u
		}
	}
	if first < 0 {
		return false
	}
	r := &pass{id: rand.Uint64(), began: now} //nolint:gosec // G404: only to tell readings apart.
	r.newUsersOnly = newUsers && l.intervals[first].kind == kindUnknownUsers
	l.take(r, first, now, c)
	for i := 0; i < len(l.intervals); {
		if s := &l.intervals[i]; len(r.intervals) > 0 && ready(s) && r.joins(s, now) {
			l.take(r, i, now, c)
			i = 0
			continue
		}
		i++
	}
	if len(r.intervals) == 0 {
		return l.begin(now, directory, newUsers, c)
	}
	if slices.ContainsFunc(r.intervals, func(p interval) bool { return p.kind == kindItem }) {
		l.itemsRead = now
	}
	l.pass = r
	return true
}

// take moves an interval, as far as it is past, from the book to a reading.
func (l *gapStore) take(r *pass, i int, now time.Time, c *change) {
	s := l.intervals[i]
	l.intervals = slices.Delete(l.intervals, i, i+1)
	if l.clip(&s, now, c); !s.from.Before(s.to) {
		c.close(s.reasons)
		return
	}
	if s.to.After(now) {
		ahead := s
		ahead.from, ahead.due = now, earliest(s.to, now.Add(remainderWait))
		s.to, s.reasons = now, s.reasons.labels()
		l.intervals = merge(l.intervals, ahead)
	}
	r.intervals = append(r.intervals, s)
}

// joins tells whether an interval is read together with what is read anyway.
func (r *pass) joins(s *interval, now time.Time) bool {
	if r.kind() == kindUnknownUsers || s.kind == kindUnknownUsers {
		// Which users are newcomers is known for all such intervals together.
		return r.kind() == s.kind
	}
	if r.kind() == kindFailedUsers || s.kind == kindFailedUsers {
		return false
	}
	from, to := r.bounds()
	holeFrom, holeTo := earliest(to, s.to), latest(from, s.from)
	if !holeFrom.Before(holeTo) {
		return true
	}
	if holeFrom.Before(now.Add(-rejoinAge)) {
		return false
	}
	withItems := s.kind == kindItem && slices.ContainsFunc(r.intervals, func(p interval) bool { return p.kind == kindItem })
	return withItems || holeTo.Sub(holeFrom) <= rejoin
}

// passResult is how a reading went.
type passResult struct {
	// partial: not all users were known.
	partial bool
	// failed are the users that could not be read.
	failed []failedUser
}

// finish closes the reading, and notes what is left to do.
func (l *gapStore) finish(e passResult, now time.Time, c *change) {
	r := l.pass
	l.pass = nil
	l.postpone(r, e.failed, now)
	for _, p := range r.intervals {
		switch {
		case p.kind == kindUnknownUsers && e.partial:
			p.notBefore = r.began
			l.intervals = merge(l.intervals, p)
			continue
		case e.partial && (p.kind == kindFull || p.kind == kindItem):
			left := interval{kind: kindUnknownUsers, from: p.from, to: p.to, reasons: reasonCounts{UsersUnknown: 1}, notBefore: r.began}
			c.open(left.reasons)
			l.insert(left, now, c)
		}
		second := p.kind != kindSecondPass && p.kind != kindFailedUsers && p.to.After(r.began.Add(-lateness))
		if !second {
			l.settle(&p, c)
			continue
		}
		due := r.began.Add(lateness)
		l.intervals = merge(l.intervals, interval{
			kind: kindSecondPass, from: latest(p.from, p.to.Add(-lateness)), to: p.to, reasons: p.reasons, due: due, notBefore: due,
		})
	}
}

// postpone notes users that could not be read.
func (l *gapStore) postpone(r *pass, failed []failedUser, now time.Time) {
	if len(failed) == 0 {
		return
	}
	left := interval{kind: kindFailedUsers, reasons: r.reasons().labels(), users: mergeFailedUsers(failed, nil)}
	left.from, left.to = failed[0].from, failed[0].to
	for _, u := range failed {
		left.from, left.to = earliest(left.from, u.from), latest(left.to, u.to)
	}
	if r.kind() == kindFailedUsers {
		left.attempts = r.intervals[0].attempts + 1
	}
	left.due = now.Add(min(firstLateWait<<min(left.attempts, 10), longLateWait))
	if i := l.late(); i >= 0 {
		// Further gaps don't bring forward when those users are tried again, nor put it off.
		left.due = l.intervals[i].due
	}
	l.intervals = merge(l.intervals, left)
}

// settle closes the gaps of a part, or leaves them to the users that could not be read.
func (l *gapStore) settle(p *interval, c *change) {
	if i := l.late(); i >= 0 && !l.intervals[i].from.After(p.to) && !p.from.After(l.intervals[i].to) {
		l.intervals[i].reasons = l.intervals[i].reasons.plus(p.reasons)
		return
	}
	c.close(p.reasons)
}

func (l *gapStore) late() int {
	return slices.IndexFunc(l.intervals, func(s interval) bool { return s.kind == kindFailedUsers })
}
