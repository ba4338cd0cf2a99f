package backfill

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Reason is why interactions of an interval may be missing.
type Reason string

// The reasons, the gravest first: time that is missing for several reasons counts for the first of them.
const (
	// Startup: the collector was not running, or its subscription was gone when it started.
	Startup Reason = "startup"
	// Subscription: the subscription was lost, expired, removed or recreated, or Graph said that it missed something.
	Subscription Reason = "subscription"
	// RemovedKey: notifications were encrypted for a key that is not at hand any more.
	RemovedKey Reason = "removed_key"
	// Undelivered: notifications were answered 503 for so long that Graph gave them up.
	Undelivered Reason = "undelivered"
	// Unverified: the validation tokens of authentic notifications failed.
	Unverified Reason = "unverified"
	// Undecryptable: the content of notifications could not be decrypted.
	Undecryptable Reason = "undecryptable"
	// Empty: notifications came without the content they should have had.
	Empty Reason = "empty"
	// Lookback: the very first start imports what was before. It is the one reason that Settings.MaxGap does not bound.
	Lookback Reason = "lookback"
	// Poll: the history is read at regular intervals.
	Poll Reason = "poll"
	// UsersUnknown: the interval was read, but only for users already seen, since the directory could not be.
	UsersUnknown Reason = "users_unknown"
)

// Reasons returns all reasons, the gravest first.
func Reasons() []Reason {
	return []Reason{Startup, Subscription, RemovedKey, Undelivered, Unverified, Undecryptable, Empty, Lookback, Poll, UsersUnknown}
}

// rank orders reasons by gravity; one that is not known comes last.
func rank(r Reason) int {
	order := Reasons()
	if i := slices.Index(order, r); i >= 0 {
		return i
	}
	return len(order)
}

// Gap is an interval in which interactions may be missing. To may lie ahead: what is past is read at once, and the rest
// as soon as its time has come.
type Gap struct {
	Reason   Reason
	From, To time.Time
}

const (
	// itemAge is how old an item is at most when it is sent: Graph retries for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	itemAge  = 6 * time.Hour
	itemSkew = 5 * time.Minute
	// wrongClock is how wrong this machine's clock may be for an id to be believed beside it: any time zone taken for another.
	wrongClock = 24 * time.Hour
)

// itemGaps are the intervals of one item: the minute in which it was written, if its id tells. An id that does not fit to
// the clock may be that of an old interaction that changed, or the clock is wrong, and often that is why the item could not
// be used; then it is the last hour as well, as it is for an id that tells nothing.
func itemGaps(reason Reason, itemID string, now time.Time) []Gap {
	at, told := (&interaction.Interaction{ID: itemID}).CreatedAt()
	lastHour := Gap{Reason: reason, From: now.Add(-time.Hour), To: now}
	// What is longer ago may not be known as delivered any more, and would come out twice.
	if !told || at.Before(now.Add(-rejoinAge)) || at.After(now.Add(wrongClock)) {
		return []Gap{lastHour}
	}
	minute := at.Truncate(time.Minute)
	gap := Gap{Reason: reason, From: minute, To: minute.Add(time.Minute)}
	if at.Before(now.Add(-itemAge)) || at.After(now.Add(itemSkew)) {
		return []Gap{gap, lastHour}
	}
	return []Gap{gap}
}

// reasonCounts says for which reasons an interval is open, and how many gaps were opened for each.
type reasonCounts map[Reason]int

// plus returns the sum of two tallies and changes neither.
func (t reasonCounts) plus(other reasonCounts) reasonCounts {
	sum := make(reasonCounts, len(t)+len(other))
	maps.Copy(sum, t)
	for reason, n := range other {
		sum[reason] += n
	}
	return sum
}

// labels returns the reasons alone: for a part of an interval whose gaps are counted elsewhere.
func (t reasonCounts) labels() reasonCounts {
	bare := make(reasonCounts, len(t))
	for reason := range t {
		bare[reason] = 0
	}
	return bare
}

// sorted returns the reasons, the gravest first.
func (t reasonCounts) sorted() []Reason {
	return slices.SortedFunc(maps.Keys(t), func(a, b Reason) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// first returns the gravest reason.
func (t reasonCounts) first() Reason {
	if len(t) == 0 {
		return ""
	}
	return t.sorted()[0]
}

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
