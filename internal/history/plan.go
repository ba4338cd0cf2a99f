package history

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
func urgency(s *span, readyAt, now time.Time) int {
	switch {
	case s.kind == whole, s.kind == item, now.Sub(latest(readyAt, s.anchor)) > longestOvertaken:
		return 0
	case s.kind == again:
		return 1
	case s.kind == unknown:
		return 2
	default:
		return 3
	}
}

// begin takes out of the book what is to be read next, and returns false where nothing is due. From directory on,
// intervals of unknown users can be read; newcomers says that this is for those seen meanwhile alone.
func (l *ledger) begin(now, directory time.Time, newcomers bool, c *change) bool {
	if l.itemsRead.After(now) { // The clock was set back.
		l.itemsRead = time.Time{}
	}
	ready := func(s *span) bool { return !s.readyAt(l.itemsRead, directory).After(now) }
	first, least := -1, 0
	for i := range l.spans {
		s := &l.spans[i]
		if !ready(s) {
			continue
		}
		u := urgency(s, s.readyAt(l.itemsRead, directory), now)
		if first < 0 || u < least || u == least && s.from.Before(l.spans[first].from) {
			first, least = i, u
		}
	}
	if first < 0 {
		return false
	}
	r := &reading{id: rand.Uint64(), began: now} //nolint:gosec // G404: only to tell readings apart.
	r.newcomers = newcomers && l.spans[first].kind == unknown
	l.take(r, first, now, c)
	for i := 0; i < len(l.spans); {
		if s := &l.spans[i]; len(r.parts) > 0 && ready(s) && r.joins(s, now) {
			l.take(r, i, now, c)
			i = 0
			continue
		}
		i++
	}
	if len(r.parts) == 0 {
		return l.begin(now, directory, newcomers, c)
	}
	if slices.ContainsFunc(r.parts, func(p span) bool { return p.kind == item }) {
		l.itemsRead = now
	}
	l.reading = r
	return true
}

// take moves an interval, as far as it is past, from the book to a reading.
func (l *ledger) take(r *reading, i int, now time.Time, c *change) {
	s := l.spans[i]
	l.spans = slices.Delete(l.spans, i, i+1)
	if l.clip(&s, now, c); !s.from.Before(s.to) {
		c.close(s.reasons)
		return
	}
	if s.to.After(now) {
		ahead := s
		ahead.from, ahead.due = now, earliest(s.to, now.Add(remainderWait))
		s.to, s.reasons = now, s.reasons.labels()
		l.spans = merge(l.spans, ahead)
	}
	r.parts = append(r.parts, s)
}

// joins tells whether an interval is read together with what is read anyway.
func (r *reading) joins(s *span, now time.Time) bool {
	if r.kind() == unknown || s.kind == unknown {
		// Which users are newcomers is known for all such intervals together.
		return r.kind() == s.kind
	}
	if r.kind() == late || s.kind == late {
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
	withItems := s.kind == item && slices.ContainsFunc(r.parts, func(p span) bool { return p.kind == item })
	return withItems || holeTo.Sub(holeFrom) <= rejoin
}

// ending is how a reading went.
type ending struct {
	// partial: not all users were known.
	partial bool
	// laggards are the users that could not be read.
	laggards []laggard
}

// finish closes the reading, and notes what is left to do.
func (l *ledger) finish(e ending, now time.Time, c *change) {
	r := l.reading
	l.reading = nil
	l.postpone(r, e.laggards, now)
	for _, p := range r.parts {
		switch {
		case p.kind == unknown && e.partial:
			p.anchor = r.began
			l.spans = merge(l.spans, p)
			continue
		case e.partial && (p.kind == whole || p.kind == item):
			left := span{kind: unknown, from: p.from, to: p.to, reasons: tally{UsersUnknown: 1}, anchor: r.began}
			c.open(left.reasons)
			l.insert(left, now, c)
		}
		second := p.kind != again && p.kind != late && p.to.After(r.began.Add(-lateness))
		if !second {
			l.settle(&p, c)
			continue
		}
		due := r.began.Add(lateness)
		l.spans = merge(l.spans, span{
			kind: again, from: latest(p.from, p.to.Add(-lateness)), to: p.to, reasons: p.reasons, due: due, anchor: due,
		})
	}
}

// postpone notes users that could not be read.
func (l *ledger) postpone(r *reading, laggards []laggard, now time.Time) {
	if len(laggards) == 0 {
		return
	}
	left := span{kind: late, reasons: r.reasons().labels(), users: mergeLaggards(laggards, nil)}
	left.from, left.to = laggards[0].from, laggards[0].to
	for _, u := range laggards {
		left.from, left.to = earliest(left.from, u.from), latest(left.to, u.to)
	}
	if r.kind() == late {
		left.attempts = r.parts[0].attempts + 1
	}
	left.due = now.Add(min(firstLateWait<<min(left.attempts, 10), longLateWait))
	if i := l.late(); i >= 0 {
		// Further gaps don't bring forward when those users are tried again, nor put it off.
		left.due = l.spans[i].due
	}
	l.spans = merge(l.spans, left)
}

// settle closes the gaps of a part, or leaves them to the users that could not be read.
func (l *ledger) settle(p *span, c *change) {
	if i := l.late(); i >= 0 && !l.spans[i].from.After(p.to) && !p.from.After(l.spans[i].to) {
		l.spans[i].reasons = l.spans[i].reasons.plus(p.reasons)
		return
	}
	c.close(p.reasons)
}

func (l *ledger) late() int {
	return slices.IndexFunc(l.spans, func(s span) bool { return s.kind == late })
}
