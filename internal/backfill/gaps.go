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

// The reasons, the most severe first: time that is missing for several reasons counts for the first of them.
const (
	// Startup: the collector was not running, or its subscription was gone when it started.
	Startup Reason = "startup"
	// Subscription: the subscription was lost, expired, removed or recreated, or Graph reported that it missed something.
	Subscription Reason = "subscription"
	// RemovedKey: notifications were encrypted for a key that is no longer available.
	RemovedKey Reason = "removed_key"
	// Undelivered: notifications were answered with 503 for so long that Graph stopped retrying.
	Undelivered Reason = "undelivered"
	// Unverified: the validation tokens of authentic notifications failed.
	Unverified Reason = "unverified"
	// Undecryptable: the content of notifications could not be decrypted.
	Undecryptable Reason = "undecryptable"
	// Empty: notifications came without the content they should have had.
	Empty Reason = "empty"
	// Lookback: the very first start imports earlier history. Settings.MaxGap does not limit it.
	Lookback Reason = "lookback"
	// Poll: the history is read at regular intervals.
	Poll Reason = "poll"
	// UsersUnknown: the interval was read, but only for users already seen, because the directory could not be read.
	UsersUnknown Reason = "users_unknown"
)

// Reasons returns all reasons, the most severe first.
func Reasons() []Reason {
	return []Reason{Startup, Subscription, RemovedKey, Undelivered, Unverified, Undecryptable, Empty, Lookback, Poll, UsersUnknown}
}

// rank orders reasons by severity; an unknown reason comes last.
func rank(r Reason) int {
	order := Reasons()
	if i := slices.Index(order, r); i >= 0 {
		return i
	}
	return len(order)
}

// Gap is an interval in which interactions may be missing. To may be in the future: the past part is read at once, the
// rest when its time has come.
type Gap struct {
	Reason   Reason
	From, To time.Time
}

const (
	// maxItemAge is the maximum age of an item when it is sent: Graph retries for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	maxItemAge  = 6 * time.Hour
	maxItemSkew = 5 * time.Minute
	// maxClockError is how far the time in an id may be ahead of this machine's clock to be used at all: any time zone
	// mistaken for another.
	maxClockError = 24 * time.Hour
)

// itemGaps returns the intervals of one item: the minute of its creation, if its id is a time. If that time differs
// much from the clock, the item may be an old interaction that changed, or the clock may be wrong, which often is why
// the item could not be used; then the last hour is added. If the id has no usable time, it is the last hour alone.
func itemGaps(reason Reason, itemID string, now time.Time) []Gap {
	at, found := (&interaction.Interaction{ID: itemID}).CreatedAt()
	lastHour := Gap{Reason: reason, From: now.Add(-time.Hour), To: now}
	// Earlier deliveries may no longer be in the dedupe cache, and would be delivered twice.
	if !found || at.Before(now.Add(-maxJoinAge)) || at.After(now.Add(maxClockError)) {
		return []Gap{lastHour}
	}
	minute := at.Truncate(time.Minute)
	gap := Gap{Reason: reason, From: minute, To: minute.Add(time.Minute)}
	if at.Before(now.Add(-maxItemAge)) || at.After(now.Add(maxItemSkew)) {
		return []Gap{gap, lastHour}
	}
	return []Gap{gap}
}

// reasonCounts counts the gaps that an interval was opened for, by reason.
type reasonCounts map[Reason]int

// plus returns the sum of both and changes neither.
func (t reasonCounts) plus(other reasonCounts) reasonCounts {
	sum := make(reasonCounts, len(t)+len(other))
	maps.Copy(sum, t)
	for reason, n := range other {
		sum[reason] += n
	}
	return sum
}

// labels returns the reasons with count 0: for an interval whose gaps are counted by another.
func (t reasonCounts) labels() reasonCounts {
	bare := make(reasonCounts, len(t))
	for reason := range t {
		bare[reason] = 0
	}
	return bare
}

// sorted returns the reasons, the most severe first.
func (t reasonCounts) sorted() []Reason {
	return slices.SortedFunc(maps.Keys(t), func(a, b Reason) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// first returns the most severe reason.
func (t reasonCounts) first() Reason {
	if len(t) == 0 {
		return ""
	}
	return t.sorted()[0]
}

// kind is what remains to be done with an interval. Only intervals of one kind merge.
type kind uint8

const (
	// kindFull: nothing of it was read.
	kindFull kind = iota
	// kindItem: nothing of it was read; it is read at most once an hour, since it stands for single items.
	kindItem
	// kindSecondPass: it was read, and is read once more, because Graph may deliver late.
	kindSecondPass
	// kindUnknownUsers: it was read for the users already seen, and waits for the directory.
	kindUnknownUsers
	// kindFailedUsers: it was read, except for the users that it lists.
	kindFailedUsers
)

const (
	// maxGraphDelay is how late Graph may be: https://learn.microsoft.com/graph/change-notifications-overview#latency
	maxGraphDelay = time.Hour
	// secondPassSlack is how much longer a second pass may wait to be combined with others.
	secondPassSlack = 30 * time.Minute
	// itemInterval is the shortest time between two passes over intervals of items.
	itemInterval = time.Hour
	// maxIntervals limits the intervals of one kind. Beyond it the two closest become one, including the time between
	// them.
	maxIntervals = 500
)

// interval is a time range with what remains to be done with it.
type interval struct {
	kind     kind
	from, to time.Time
	reasons  reasonCounts
	// due is the time before which the interval is not read; zero means at once.
	due time.Time
	// notBefore of kindSecondPass is when the earliest of the merged intervals is due. Of kindUnknownUsers: users first
	// seen before it were read; zero means that no user was.
	notBefore time.Time
	// users of kindFailedUsers are those to read, ordered by id; attempts counts failed passes in a row.
	users    []failedUser
	attempts int
}

// failedUser is a user that could not be read, with the time range that is missing.
type failedUser struct {
	user     user
	from, to time.Time
}

// absorbs reports whether two intervals merge.
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

// absorb merges two intervals, including the time between them.
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

// covers reports whether another interval of the same kind adds nothing.
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

// unread reports whether the interval is missing, as opposed to read and due for a second pass.
func (iv *interval) unread() bool { return iv.kind != kindSecondPass }

// readyAt returns when the interval can be read. Intervals of unknown users can be from the time directory on.
func (iv *interval) readyAt(itemsRead, directory time.Time) time.Time {
	switch iv.kind {
	case kindItem:
		// After its minute: where items come all the time, one interval always lies partly in the future.
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

// merge adds an interval and returns all in order, limited in number.
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

// bounded merges the two closest intervals of a kind if there are too many.
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

// mergeFailedUsers merges two lists ordered by user. A user of both is read from the earlier start to the later end.
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
	// maxJoinDistance is the longest time between two intervals that are read in one pass, together with that time. A
	// pass costs one request for each user, however long it is.
	maxJoinDistance = time.Hour
	// maxJoinAge is how old the time between them may be: what was delivered in it must still be in the dedupe cache.
	maxJoinAge = 20 * time.Hour
)

// gapStore holds all open gaps and decides what is read next. It has no lock of its own.
type gapStore struct {
	maxGap time.Duration
	// boundLookback applies maxGap to imported history, too.
	boundLookback bool

	intervals []interval
	// pass is the current pass, nil if there is none.
	pass *pass
	// polled is the end of the last poll, zero if there was none.
	polled time.Time
	// itemsRead is when the last pass over intervals of items began.
	itemsRead time.Time
}

// pass is a set of intervals that are read together.
type pass struct {
	// id links the stored list of users done to the pass.
	id        uint64
	began     time.Time
	intervals []interval
	// newUsersOnly limits the pass to users first seen after the others had been read.
	newUsersOnly bool
}

// bounds returns the time range of the pass.
func (p *pass) bounds() (from, to time.Time) {
	from, to = p.intervals[0].from, p.intervals[0].to
	for _, iv := range p.intervals[1:] {
		from, to = earliest(from, iv.from), latest(to, iv.to)
	}
	return from, to
}

// asOf returns the time before which users were first seen that need not be read.
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

// loss is time that will not be read.
type loss struct {
	reason   Reason
	from, to time.Time
	// users is the number of users concerned, 0 for all.
	users int
}

// change collects what happened to gaps.
type change struct {
	opened, closed reasonCounts
	lost           []loss
}

func (c *change) open(t reasonCounts)  { c.opened = c.opened.plus(t) }
func (c *change) close(t reasonCounts) { c.closed = c.closed.plus(t) }

// open adds a gap. Nothing changes if it is empty or completely open for the same reason already.
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

// insert adds the part of an interval that is not too old.
func (gs *gapStore) insert(iv interval, now time.Time, c *change) {
	if gs.clip(&iv, now, c); !iv.from.Before(iv.to) {
		c.close(iv.reasons)
		return
	}
	gs.intervals = merge(gs.intervals, iv)
}

// clip removes the part that is older than maxGap, and records it as lost.
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

// exempt reports whether maxGap does not apply. A user whose imported history can't be read is given up in the end.
func (gs *gapStore) exempt(iv *interval) bool {
	_, found := iv.reasons[Lookback]
	return found && !gs.boundLookback && (iv.kind != kindFailedUsers || iv.attempts < maxFailedUserAttempts)
}

// expire drops intervals that are older than maxGap. An interval that is partly older is clipped only when an eighth of
// maxGap has accumulated, so that its loss is not reported at every check.
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

// poll opens a gap from the last poll to now, if one is due. A poll that was not read yet is extended.
func (gs *gapStore) poll(now time.Time, interval time.Duration, c *change) {
	ahead := gs.polled.After(now) // The clock was set back.
	if interval <= 0 || now.Before(gs.pollAt(interval)) && !ahead {
		return
	}
	to := now.Add(-pollLag)
	from := gs.polled
	switch {
	case ahead: // The time of the last poll is unknown, and the dedupe cache reaches back this far.
		from = now.Add(-max(interval, maxJoinAge))
	case from.IsZero():
		from = now.Add(-interval)
	}
	gs.open(Gap{Reason: Poll, From: from, To: to}, kindFull, now, c)
	gs.polled = to
}

// pollLag keeps polls a second in the past, since the current second is not over.
const pollLag = time.Second

// pollAt returns when the next poll is due.
func (gs *gapStore) pollAt(interval time.Duration) time.Time {
	if gs.polled.IsZero() {
		return time.Time{}
	}
	return gs.polled.Add(pollLag + interval)
}

// nextAt returns when something can be read; false if there is nothing to read.
func (gs *gapStore) nextAt(directory time.Time) (time.Time, bool) {
	var next time.Time
	for i := range gs.intervals {
		if at := gs.intervals[i].readyAt(gs.itemsRead, directory); i == 0 || at.Before(next) {
			next = at
		}
	}
	return next, len(gs.intervals) > 0
}

// asOf returns the time before which users were first seen that were read for all intervals of unknown users.
func (gs *gapStore) asOf() time.Time {
	at := never()
	for _, iv := range gs.intervals {
		if iv.kind == kindUnknownUsers {
			at = earliest(at, iv.notBefore)
		}
	}
	return at
}

// earliest returns the start of the first interval that is read or will be; zero if there is none.
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

// missing returns how much time is missing, by its most severe reason. It leaves out time that awaits its second pass,
// and the remainder of a gap that was read up to now and ends later.
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

// plausible reports whether a time can be that of a gap; it protects the arithmetic from invalid values.
func plausible(t time.Time) bool { return t.Year() >= 1990 && t.Year() < 2100 }

const (
	// maxFutureWait limits how long the future part of a gap waits, in case its end is far away.
	maxFutureWait     = time.Hour
	minFailedUserWait = 5 * time.Minute
	maxFailedUserWait = time.Hour
	// maxFailedUserAttempts is how often users that can't be read are retried where maxGap does not apply: a week.
	maxFailedUserAttempts = 168
	// maxDeferral is how long an interval may wait for more urgent ones: polls without a pause between them would defer
	// it forever.
	maxDeferral = 15 * time.Minute
)

// urgency orders intervals by what is read first. Among equals it is the oldest, since that expires first.
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

// begin starts the pass that is due next, and returns false if none is. Intervals of unknown users can be read from the
// time directory on; newUsers limits that to users seen meanwhile.
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
	p := &pass{id: rand.Uint64(), began: now} //nolint:gosec // G404: only distinguishes passes.
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

// take moves the past part of an interval to a pass.
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

// joins reports whether an interval is read in the same pass.
func (p *pass) joins(iv *interval, now time.Time) bool {
	if p.kind() == kindUnknownUsers || iv.kind == kindUnknownUsers {
		// Which users are new is known only for all such intervals together.
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

// passResult is the result of a pass.
type passResult struct {
	// partial: not all users were known.
	partial bool
	// failed are the users that could not be read.
	failed []failedUser
}

// finish ends the pass, and adds what remains to be done.
func (gs *gapStore) finish(result passResult, now time.Time, c *change) {
	p := gs.pass
	gs.pass = nil
	gs.postpone(p, result.failed, now)
	for _, iv := range p.intervals {
		switch {
		case iv.kind == kindUnknownUsers && result.partial:
			iv.notBefore = p.began
			gs.intervals = merge(gs.intervals, iv)
			continue
		case result.partial && (iv.kind == kindFull || iv.kind == kindItem):
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

// postpone adds an interval for users that could not be read.
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
		// Further gaps neither advance nor delay the next attempt.
		left.due = gs.intervals[i].due
	}
	gs.intervals = merge(gs.intervals, left)
}

// closeUnlessFailed closes the gaps of an interval, or moves them to the interval of users that could not be read.
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
