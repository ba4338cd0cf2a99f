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
	// maxItemAge is how old an item is at most when it is sent: Graph retries for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	maxItemAge  = 6 * time.Hour
	maxItemSkew = 5 * time.Minute
	// maxClockError is how wrong this machine's clock may be for an id to be believed beside it: any time zone taken for another.
	maxClockError = 24 * time.Hour
)

// itemGaps are the intervals of one item: the minute in which it was written, if its id tells. An id that does not fit to
// the clock may be that of an old interaction that changed, or the clock is wrong, and often that is why the item could not
// be used; then it is the last hour as well, as it is for an id that tells nothing.
func itemGaps(reason Reason, itemID string, now time.Time) []Gap {
	at, told := (&interaction.Interaction{ID: itemID}).CreatedAt()
	lastHour := Gap{Reason: reason, From: now.Add(-time.Hour), To: now}
	// What is longer ago may not be known as delivered any more, and would come out twice.
	if !told || at.Before(now.Add(-maxJoinAge)) || at.After(now.Add(maxClockError)) {
		return []Gap{lastHour}
	}
	minute := at.Truncate(time.Minute)
	gap := Gap{Reason: reason, From: minute, To: minute.Add(time.Minute)}
	if at.Before(now.Add(-maxItemAge)) || at.After(now.Add(maxItemSkew)) {
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
	// maxGraphDelay is how late Graph may be: https://learn.microsoft.com/graph/change-notifications-overview#latency
	maxGraphDelay = time.Hour
	// secondPassSlack is how much longer a second reading may wait so that it can be done together with others.
	secondPassSlack = 30 * time.Minute
	// itemInterval is the shortest time between two readings for the sake of items.
	itemInterval = time.Hour
	// maxIntervals bounds the intervals of one kind. Beyond it the closest ones become one that spans the hole between them.
	maxIntervals = 500
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
func (iv *interval) absorbs(o *interval) bool {
	if iv.kind != o.kind {
		return false
	}
	if iv.kind == kindFailedUsers {
		return true
	}
	if iv.from.After(o.to) || o.from.After(iv.to) {
		return false
	}
	return iv.kind != kindSecondPass || latest(iv.due, o.due).Sub(earliest(iv.notBefore, o.notBefore)) <= secondPassSlack
}

// absorb makes two intervals one, with all that lies between them.
func (iv *interval) absorb(o *interval) {
	iv.from, iv.to = earliest(iv.from, o.from), latest(iv.to, o.to)
	iv.reasons = iv.reasons.plus(o.reasons)
	iv.attempts = max(iv.attempts, o.attempts)
	switch iv.kind {
	case kindSecondPass:
		iv.due, iv.notBefore = latest(iv.due, o.due), earliest(iv.notBefore, o.notBefore)
	case kindFailedUsers:
		iv.due = earliest(iv.due, o.due)
		iv.users = mergeFailedUsers(iv.users, o.users)
	case kindUnknownUsers:
		iv.due, iv.notBefore = earliest(iv.due, o.due), earliest(iv.notBefore, o.notBefore)
	default:
		iv.due = earliest(iv.due, o.due)
	}
}

// covers tells whether an interval of the same kind adds nothing.
func (iv *interval) covers(o *interval) bool {
	if iv.kind != o.kind || iv.kind == kindFailedUsers || iv.kind == kindSecondPass || iv.from.After(o.from) || iv.to.Before(o.to) ||
		iv.due.After(o.due) || iv.notBefore.After(o.notBefore) {
		return false
	}
	for reason := range o.reasons {
		if _, found := iv.reasons[reason]; !found {
			return false
		}
	}
	return true
}

// unread tells whether its time is missing, as opposed to read but to be read again.
func (iv *interval) unread() bool { return iv.kind != kindSecondPass }

// readyAt returns when it can be read. The directory says when intervals of unknown users can be.
func (iv *interval) readyAt(itemsRead, directory time.Time) time.Time {
	switch iv.kind {
	case kindItem:
		// The minute of an item, that is; where items come all the time there is always one that lies partly ahead.
		ready := iv.from.Add(time.Minute)
		if !itemsRead.IsZero() {
			ready = latest(ready, itemsRead.Add(itemInterval))
		}
		return ready
	case kindUnknownUsers:
		return latest(directory, iv.due)
	default:
		return latest(iv.due, iv.from.Add(time.Second))
	}
}

// merge puts an interval among others and returns them in order, bounded in number.
func merge(intervals []interval, added interval) []interval {
	kept := make([]interval, 0, len(intervals)+1)
	for _, iv := range intervals {
		if added.absorbs(&iv) {
			added.absorb(&iv)
			continue
		}
		kept = append(kept, iv)
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
	if number <= maxIntervals {
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
	for _, u := range all {
		if n := len(merged); n > 0 && merged[n-1].user == u.user {
			merged[n-1].from = earliest(merged[n-1].from, u.from)
			merged[n-1].to = latest(merged[n-1].to, u.to)
			continue
		}
		merged = append(merged, u)
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
	// maxJoinDistance is the longest hole between two intervals that are read together, holes and all. One request for each user
	// is what a reading costs, however long it is.
	maxJoinDistance = time.Hour
	// maxJoinAge is how old such a hole may be: what was delivered in it must still be known as a duplicate.
	maxJoinAge = 20 * time.Hour
)

// gapStore is the book of all open gaps. It decides and does nothing; whoever has it guards it.
type gapStore struct {
	maxGap time.Duration
	// boundLookback says that maxGap bounds imported history as well.
	boundLookback bool

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
func (p *pass) bounds() (from, to time.Time) {
	from, to = p.intervals[0].from, p.intervals[0].to
	for _, iv := range p.intervals[1:] {
		from, to = earliest(from, iv.from), latest(to, iv.to)
	}
	return from, to
}

// asOf returns up to when users of the kind unknown were first seen that need not be read.
func (p *pass) asOf() time.Time {
	at := p.intervals[0].notBefore
	for _, iv := range p.intervals[1:] {
		at = earliest(at, iv.notBefore)
	}
	return at
}

func (p *pass) kind() kind { return p.intervals[0].kind }

func (p *pass) reasons() reasonCounts {
	all := reasonCounts{}
	for _, iv := range p.intervals {
		all = all.plus(iv.reasons)
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
func (gs *gapStore) open(g Gap, k kind, now time.Time, c *change) {
	iv := interval{kind: k, from: g.From.UTC().Round(0), to: g.To.UTC().Round(0), reasons: reasonCounts{g.Reason: 1}}
	if g.Reason == "" || !plausible(iv.from) || !plausible(iv.to) || !iv.from.Before(iv.to) {
		return
	}
	if slices.ContainsFunc(gs.intervals, func(o interval) bool { return o.covers(&iv) }) {
		return
	}
	c.open(iv.reasons)
	gs.insert(iv, now, c)
}

// insert puts an interval into the book, as far as it is not too old.
func (gs *gapStore) insert(iv interval, now time.Time, c *change) {
	if gs.clip(&iv, now, c); !iv.from.Before(iv.to) {
		c.close(iv.reasons)
		return
	}
	gs.intervals = merge(gs.intervals, iv)
}

// clip takes off what is older than is filled, and notes it as lost.
func (gs *gapStore) clip(iv *interval, now time.Time, c *change) {
	horizon := now.Add(-gs.maxGap)
	if iv.kind == kindSecondPass || gs.exempt(iv) || !iv.from.Before(horizon) {
		return
	}
	lost := loss{reason: iv.reasons.first(), from: iv.from, to: earliest(iv.to, horizon), users: len(iv.users)}
	c.lost = append(c.lost, lost)
	iv.from = lost.to
	iv.users = slices.DeleteFunc(iv.users, func(u failedUser) bool { return !u.to.After(horizon) })
	for i := range iv.users {
		iv.users[i].from = latest(iv.users[i].from, horizon)
	}
}

// exempt tells whether MaxGap does not bound an interval. A user whose imported history can't be read is given up too.
func (gs *gapStore) exempt(iv *interval) bool {
	_, found := iv.reasons[Lookback]
	return found && !gs.boundLookback && (iv.kind != kindFailedUsers || iv.attempts < maxFailedUserAttempts)
}

// expire drops what has become too old to be filled. What is partly so is clipped a good piece at a time, so that it is
// not reported anew at every look.
func (gs *gapStore) expire(now time.Time, c *change) {
	horizon := now.Add(-gs.maxGap)
	kept := gs.intervals[:0]
	for _, iv := range gs.intervals {
		if !iv.to.After(horizon) || horizon.Sub(iv.from) >= gs.maxGap/8 {
			gs.clip(&iv, now, c)
		}
		if iv.kind == kindSecondPass && !iv.to.After(horizon) || !iv.from.Before(iv.to) {
			c.close(iv.reasons)
			continue
		}
		kept = append(kept, iv)
	}
	clear(gs.intervals[len(kept):])
	gs.intervals = kept
}

// poll opens a gap from the last poll to now, if it is time. One that has not been read yet becomes longer.
func (gs *gapStore) poll(now time.Time, interval time.Duration, c *change) {
	ahead := gs.polled.After(now) // The clock was set back.
	if interval <= 0 || now.Before(gs.pollAt(interval)) && !ahead {
		return
	}
	to := now.Add(-pollLag)
	from := gs.polled
	switch {
	case ahead: // When the last poll was nobody knows, and this is as far back as deliveries are known.
		from = now.Add(-max(interval, maxJoinAge))
	case from.IsZero():
		from = now.Add(-interval)
	}
	gs.open(Gap{Reason: Poll, From: from, To: to}, kindFull, now, c)
	gs.polled = to
}

// pollLag keeps polls a little behind, since the current second is not over.
const pollLag = time.Second

// pollAt returns when the next poll is due.
func (gs *gapStore) pollAt(interval time.Duration) time.Time {
	if gs.polled.IsZero() {
		return time.Time{}
	}
	return gs.polled.Add(pollLag + interval)
}

// nextAt returns when there is something to read, false for nothing.
func (gs *gapStore) nextAt(directory time.Time) (time.Time, bool) {
	var next time.Time
	for i := range gs.intervals {
		if at := gs.intervals[i].readyAt(gs.itemsRead, directory); i == 0 || at.Before(next) {
			next = at
		}
	}
	return next, len(gs.intervals) > 0
}

// asOf returns up to when users were first seen that were read for all intervals of unknown users.
func (gs *gapStore) asOf() time.Time {
	at := never()
	for _, iv := range gs.intervals {
		if iv.kind == kindUnknownUsers {
			at = earliest(at, iv.notBefore)
		}
	}
	return at
}

// earliest returns where the first interval begins that is read or to be read, zero where there is none.
func (gs *gapStore) earliest() time.Time {
	var from time.Time
	intervals := gs.intervals
	if gs.pass != nil {
		intervals = slices.Concat(intervals, gs.pass.intervals)
	}
	for i := range intervals {
		if from.IsZero() || intervals[i].from.Before(from) {
			from = intervals[i].from
		}
	}
	return from
}

func (gs *gapStore) has(k kind) bool {
	return slices.ContainsFunc(gs.intervals, func(iv interval) bool { return iv.kind == k })
}

// missing returns how much time is known to be missing, by its gravest reason. Not missing is what was read and is only to
// be read again, and the rest of a gap that was read up to now and ends later.
func (gs *gapStore) missing(now time.Time) map[Reason]time.Duration {
	sum := map[Reason]time.Duration{}
	count := func(intervals []interval) {
		for _, iv := range intervals {
			rest := iv.kind == kindFull && iv.due.After(now)
			if length := earliest(iv.to, now).Sub(iv.from); length > 0 && iv.unread() && !rest {
				sum[iv.reasons.first()] += length
			}
		}
	}
	count(gs.intervals)
	if gs.pass != nil {
		count(gs.pass.intervals)
	}
	return sum
}

// plausible tells whether a time can be one of a gap: it keeps values that are no times out of the arithmetic.
func plausible(t time.Time) bool { return t.Year() >= 1990 && t.Year() < 2100 }

const (
	// maxFutureWait bounds how long the part of a gap that lies ahead is left alone, in case it lies far ahead.
	maxFutureWait     = time.Hour
	minFailedUserWait = 5 * time.Minute
	maxFailedUserWait = time.Hour
	// maxFailedUserAttempts is how often users that can't be read are tried where no age ends it: a week.
	maxFailedUserAttempts = 168
	// maxDeferral is how long an interval that could be read is left to more urgent ones: where polls follow each other
	// without a pause there would be no end of these.
	maxDeferral = 15 * time.Minute
)

// urgency orders intervals by what is read first. Among equals it is the oldest, as that is lost first.
func urgency(iv *interval, readyAt, now time.Time) int {
	switch {
	case iv.kind == kindFull, iv.kind == kindItem, now.Sub(latest(readyAt, iv.notBefore)) > maxDeferral:
		return 0
	case iv.kind == kindSecondPass:
		return 1
	case iv.kind == kindUnknownUsers:
		return 2
	default:
		return 3
	}
}

// begin takes out of the book what is to be read next, and returns false where nothing is due. From directory on,
// intervals of unknown users can be read; newcomers says that this is for those seen meanwhile alone.
func (gs *gapStore) begin(now, directory time.Time, newUsers bool, c *change) bool {
	if gs.itemsRead.After(now) { // The clock was set back.
		gs.itemsRead = time.Time{}
	}
	ready := func(iv *interval) bool { return !iv.readyAt(gs.itemsRead, directory).After(now) }
	first, least := -1, 0
	for i := range gs.intervals {
		iv := &gs.intervals[i]
		if !ready(iv) {
			continue
		}
		u := urgency(iv, iv.readyAt(gs.itemsRead, directory), now)
		if first < 0 || u < least || u == least && iv.from.Before(gs.intervals[first].from) {
			first, least = i, u
		}
	}
	if first < 0 {
		return false
	}
	p := &pass{id: rand.Uint64(), began: now} //nolint:gosec // G404: only to tell readings apart.
	p.newUsersOnly = newUsers && gs.intervals[first].kind == kindUnknownUsers
	gs.take(p, first, now, c)
	for i := 0; i < len(gs.intervals); {
		if iv := &gs.intervals[i]; len(p.intervals) > 0 && ready(iv) && p.joins(iv, now) {
			gs.take(p, i, now, c)
			i = 0
			continue
		}
		i++
	}
	if len(p.intervals) == 0 {
		return gs.begin(now, directory, newUsers, c)
	}
	if slices.ContainsFunc(p.intervals, func(iv interval) bool { return iv.kind == kindItem }) {
		gs.itemsRead = now
	}
	gs.pass = p
	return true
}

// take moves an interval, as far as it is past, from the book to a reading.
func (gs *gapStore) take(p *pass, i int, now time.Time, c *change) {
	iv := gs.intervals[i]
	gs.intervals = slices.Delete(gs.intervals, i, i+1)
	if gs.clip(&iv, now, c); !iv.from.Before(iv.to) {
		c.close(iv.reasons)
		return
	}
	if iv.to.After(now) {
		ahead := iv
		ahead.from, ahead.due = now, earliest(iv.to, now.Add(maxFutureWait))
		iv.to, iv.reasons = now, iv.reasons.labels()
		gs.intervals = merge(gs.intervals, ahead)
	}
	p.intervals = append(p.intervals, iv)
}

// joins tells whether an interval is read together with what is read anyway.
func (p *pass) joins(iv *interval, now time.Time) bool {
	if p.kind() == kindUnknownUsers || iv.kind == kindUnknownUsers {
		// Which users are newcomers is known for all such intervals together.
		return p.kind() == iv.kind
	}
	if p.kind() == kindFailedUsers || iv.kind == kindFailedUsers {
		return false
	}
	from, to := p.bounds()
	holeFrom, holeTo := earliest(to, iv.to), latest(from, iv.from)
	if !holeFrom.Before(holeTo) {
		return true
	}
	if holeFrom.Before(now.Add(-maxJoinAge)) {
		return false
	}
	withItems := iv.kind == kindItem && slices.ContainsFunc(p.intervals, func(iv interval) bool { return iv.kind == kindItem })
	return withItems || holeTo.Sub(holeFrom) <= maxJoinDistance
}

// passResult is how a reading went.
type passResult struct {
	// partial: not all users were known.
	partial bool
	// failed are the users that could not be read.
	failed []failedUser
}

// finish closes the reading, and notes what is left to do.
func (gs *gapStore) finish(e passResult, now time.Time, c *change) {
	p := gs.pass
	gs.pass = nil
	gs.postpone(p, e.failed, now)
	for _, iv := range p.intervals {
		switch {
		case iv.kind == kindUnknownUsers && e.partial:
			iv.notBefore = p.began
			gs.intervals = merge(gs.intervals, iv)
			continue
		case e.partial && (iv.kind == kindFull || iv.kind == kindItem):
			left := interval{kind: kindUnknownUsers, from: iv.from, to: iv.to, reasons: reasonCounts{UsersUnknown: 1}, notBefore: p.began}
			c.open(left.reasons)
			gs.insert(left, now, c)
		}
		second := iv.kind != kindSecondPass && iv.kind != kindFailedUsers && iv.to.After(p.began.Add(-maxGraphDelay))
		if !second {
			gs.closeUnlessFailed(&iv, c)
			continue
		}
		due := p.began.Add(maxGraphDelay)
		gs.intervals = merge(gs.intervals, interval{
			kind: kindSecondPass, from: latest(iv.from, iv.to.Add(-maxGraphDelay)), to: iv.to, reasons: iv.reasons, due: due, notBefore: due,
		})
	}
}

// postpone notes users that could not be read.
func (gs *gapStore) postpone(p *pass, failed []failedUser, now time.Time) {
	if len(failed) == 0 {
		return
	}
	left := interval{kind: kindFailedUsers, reasons: p.reasons().labels(), users: mergeFailedUsers(failed, nil)}
	left.from, left.to = failed[0].from, failed[0].to
	for _, u := range failed {
		left.from, left.to = earliest(left.from, u.from), latest(left.to, u.to)
	}
	if p.kind() == kindFailedUsers {
		left.attempts = p.intervals[0].attempts + 1
	}
	left.due = now.Add(min(minFailedUserWait<<min(left.attempts, 10), maxFailedUserWait))
	if i := gs.failedUsersIndex(); i >= 0 {
		// Further gaps don't bring forward when those users are tried again, nor put it off.
		left.due = gs.intervals[i].due
	}
	gs.intervals = merge(gs.intervals, left)
}

// closeUnlessFailed closes the gaps of a part, or leaves them to the users that could not be read.
func (gs *gapStore) closeUnlessFailed(iv *interval, c *change) {
	if i := gs.failedUsersIndex(); i >= 0 && !gs.intervals[i].from.After(iv.to) && !iv.from.After(gs.intervals[i].to) {
		gs.intervals[i].reasons = gs.intervals[i].reasons.plus(iv.reasons)
		return
	}
	c.close(iv.reasons)
}

func (gs *gapStore) failedUsersIndex() int {
	return slices.IndexFunc(gs.intervals, func(iv interval) bool { return iv.kind == kindFailedUsers })
}
