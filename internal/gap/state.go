package gap

import (
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// startupTolerance is how much older than check_interval the checkpoint of the last run may be without a gap, since Graph
	// retries for hours.
	startupTolerance = 5 * time.Minute
	// maxNotificationDelay is how late Graph may notify, 60 minutes, with some reserve:
	// https://learn.microsoft.com/graph/api/resources/subscription#latency
	maxNotificationDelay = 65 * time.Minute
	// readOverlap is how much earlier than a gap its reading begins.
	readOverlap = 5 * time.Minute
	// subscriptionWarmup is how long a new subscription may take to deliver.
	subscriptionWarmup = 5 * time.Minute
	// retryWindow is how long Graph retries, 4 hours, with some reserve:
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	retryWindow = 5 * time.Hour
	// maxGaps bounds the gaps whose end is known. Beyond it the two closest become one, with the time between them.
	maxGaps = 500
	// atStart is the cause of a gap that ends when the subscription is confirmed.
	atStart = "start"
)

// Rules are the part of the configuration that the rules depend on.
type Rules struct {
	// Subscribed is false without a subscription.
	Subscribed bool
	// Disabled means that gaps are known but not read.
	Disabled bool
	// CheckInterval is the time between two checks of the subscription.
	CheckInterval time.Duration
	// MaxGap is how old a gap may become.
	MaxGap time.Duration
	// Lookback is what the very first start imports.
	Lookback time.Duration
	// PollInterval is the time between two polls, 0 for none.
	PollInterval time.Duration
	// ReconcileInterval is the time between two reconciliations, 0 for none; ReconcileDelay is how old an interaction must be to
	// be compared.
	ReconcileInterval, ReconcileDelay time.Duration
	// Replays are the intervals to read once more.
	Replays []Interval
}

// Interval is a time range with its users; none means all.
type Interval struct {
	From, To time.Time
	Users    []User
}

// State is everything that is known to be missing, with the times up to which the rest is complete. It is stored as one value,
// so that no crash can come between two of its parts.
type State struct {
	// Started is true once a run has begun.
	Started bool `json:"started,omitempty"`
	// Checkpoint is the last time at which every wanted subscription was confirmed or had an open gap.
	Checkpoint time.Time `json:"checkpoint,omitzero"`
	// FirstConfirmed is the first such time ever.
	FirstConfirmed time.Time `json:"first_confirmed,omitzero"`
	// Polled is the end of the last poll.
	Polled time.Time `json:"polled,omitzero"`
	// Reconciled is the end of the last comparison. Inconclusive is the start of an interval to compare once more.
	Reconciled   time.Time `json:"reconciled,omitzero"`
	Inconclusive time.Time `json:"inconclusive,omitzero"`
	// Result is that of the last comparison that ended.
	Result Result `json:"result,omitzero"`
	// Replayed are the entries of Rules.Replays that were begun.
	Replayed []string `json:"replayed,omitempty"`
	// ItemsRead is when the last pass over gaps of items began.
	ItemsRead time.Time `json:"items_read,omitzero"`
	// Paces holds the last pass for each reason.
	Paces map[Reason]Pace `json:"paces,omitempty"`
	Gaps  []Gap           `json:"gaps,omitempty"`
	// Pass is the one being read, nil for none.
	Pass *Pass `json:"pass,omitempty"`

	// confirmed is the last confirmed check, also one of the last run if its checkpoint is fresh; zero if it is unknown what
	// happened since.
	confirmed time.Time
	// unknownSince is where the time begins of which this run knows nothing; zero for never before.
	unknownSince time.Time
}

// Result is the result of a reconciliation.
type Result struct {
	Outcome Outcome `json:"outcome"`
	// To is the end of the interval.
	To time.Time `json:"to"`
}

// Outcome says what a reconciliation proved.
type Outcome string

// The outcomes.
const (
	// Complete: everything in the history is delivered.
	Complete Outcome = "complete"
	// Incomplete: a part could not be compared.
	Incomplete Outcome = "incomplete"
	// Inconclusive: the history had much less than the notifications, so it proves nothing.
	Inconclusive Outcome = "inconclusive"
)

// Pace is when a pass ended and how long it took.
type Pace struct {
	Ended time.Time     `json:"ended"`
	Took  time.Duration `json:"took"`
}

// Changes are what an event changed, to be counted and logged.
type Changes struct {
	// Opened and Closed have an element for each gap. Second readings do not count.
	Opened, Closed []Reason
	// Lost is time that is given up.
	Lost []Loss
}

// Loss is an interval that will not be read.
type Loss struct {
	Reason   Reason
	From, To time.Time
	// Users is the number of users concerned, 0 for all.
	Users int
}

// Found is what else the start found in storage.
type Found struct {
	// Damaged is true if there was a state that could not be read.
	Damaged bool
	// NewestCreation is the latest creation that was delivered; zero for none.
	NewestCreation time.Time
}

// Start notes that a run begins.
func (s *State) Start(r Rules, found Found, now time.Time) Changes {
	var c Changes
	first := !s.Started && !found.Damaged
	s.Started = true
	if first && r.Lookback > 0 {
		s.add(Gap{Reasons: []Reason{Lookback}, From: now.Add(-r.Lookback), To: now}, &c)
	}
	if found.Damaged && r.PollInterval > 0 {
		s.Polled = now.Round(0).Add(-r.MaxGap)
	}
	if !r.Subscribed {
		return c
	}
	switch {
	case found.Damaged:
		s.unknownSince = now.Add(-r.MaxGap)
	case s.Checkpoint.IsZero() && s.Polled.IsZero():
		return c // nothing is known of an earlier run; see Adopted
	case s.Checkpoint.IsZero():
		s.unknownSince = s.Polled
	case s.Checkpoint.After(now.Add(startupTolerance)):
		s.unknownSince = now.Add(-r.MaxGap)
		if !found.NewestCreation.IsZero() {
			s.unknownSince = found.NewestCreation.Add(-maxNotificationDelay)
		}
	default:
		s.unknownSince = s.Checkpoint.Add(-maxNotificationDelay)
		if now.Sub(s.Checkpoint) <= r.CheckInterval+startupTolerance {
			s.confirmed = s.Checkpoint
			return c
		}
	}
	s.add(Gap{Reasons: []Reason{Startup}, From: s.unknownSince, Cause: atStart}, &c)
	return c
}

// Recent reports whether the last confirmed check, also of the last run, is so recent that no lifecycle event can have been
// missed.
func (s *State) Recent(r Rules, now time.Time) bool { return !s.confirmed.IsZero() && !s.stale(r, now) }

// stale reports whether the last confirmed check is so long ago that it is unknown what happened since.
func (s *State) stale(r Rules, now time.Time) bool {
	return !s.confirmed.IsZero() && elapsed(s.confirmed, now) > 2*r.CheckInterval+startupTolerance
}

// elapsed returns the time since t. The monotonic clock stops while a machine is suspended, and the wall clock can be set back,
// so the longer time counts.
func elapsed(t, now time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// notifiedTo returns the creation time up to which everything was notified when a subscription was last known to be active.
func notifiedTo(active, now time.Time) time.Time {
	return now.Round(0).Add(-elapsed(active, now) - maxNotificationDelay)
}

// Adopted notes that a subscription of ours was there before this run. If nothing is known of that run, what Graph may have
// retried in vain is read.
func (s *State) Adopted(_ Rules, now time.Time) Changes {
	var c Changes
	if s.unknownSince.IsZero() && s.confirmed.IsZero() {
		s.unknownSince = now.Add(-retryWindow)
		s.add(Gap{Reasons: []Reason{Startup}, From: s.unknownSince, To: now.Add(subscriptionWarmup)}, &c)
	}
	return c
}

// Stopped notes that a run ends while every wanted subscription is active.
func (s *State) Stopped(r Rules, now time.Time) Changes {
	if s.Recent(r, now) {
		s.Checkpoint = now.Round(0)
	}
	return Changes{}
}

// Confirmed notes that every wanted subscription was confirmed, or has an open gap, while the listener was up.
func (s *State) Confirmed(r Rules, now time.Time) Changes {
	var c Changes
	if s.stale(r, now) {
		s.add(Gap{Reasons: []Reason{Subscription}, From: notifiedTo(s.confirmed, now), To: now.Add(subscriptionWarmup)}, &c)
	}
	s.end(r, func(g *Gap) bool { return !g.live }, now, &c)
	s.confirmed, s.Checkpoint = now, now.Round(0)
	if s.FirstConfirmed.IsZero() || s.FirstConfirmed.After(now) {
		s.FirstConfirmed = s.Checkpoint
	}
	return c
}

// Interrupted notes that the changes of a resource may be lost since a time; zero means since before this run. The scope is that
// of the resource.
func (s *State) Interrupted(_ Rules, resource string, reason Reason, scope Scope, since, now time.Time) Changes {
	var c Changes
	from := s.unknownSince
	if !since.IsZero() {
		from = notifiedTo(since, now)
	}
	switch {
	case reason == RemovedKey:
		if from.IsZero() || from.After(now.Add(-retryWindow)) {
			from = now.Add(-retryWindow)
		}
	case from.IsZero():
		return c // there never was a subscription
	case since.IsZero():
		reason = Startup
	}
	for i := range s.Gaps {
		g := &s.Gaps[i]
		if g.open() && g.Cause == atStart && g.Scope.equal(scope) {
			g.Cause = resource // from now on this run knows what the end of the gap waits for
		}
		g.live = g.live || g.open() && g.Cause == resource
	}
	s.add(Gap{Reasons: []Reason{reason}, Scope: scope, From: from, Cause: resource, live: true}, &c)
	return c
}

// Restored notes that a resource has an active subscription again.
func (s *State) Restored(r Rules, resource string, now time.Time) Changes {
	var c Changes
	s.end(r, func(g *Gap) bool { return g.Cause == resource }, now, &c)
	if s.confirmed.IsZero() {
		s.confirmed = now // should the listener not be up, it is unknown what happens from now on
	}
	return c
}

// KeyRemoved notes that notifications for a key that was accepted before can't be decrypted any more.
func (s *State) KeyRemoved(_ Rules, now time.Time) Changes {
	var c Changes
	s.add(Gap{Reasons: []Reason{RemovedKey}, From: now.Add(-retryWindow), Cause: atStart}, &c)
	return c
}

// end ends the open gaps that match.
func (s *State) end(r Rules, match func(*Gap) bool, now time.Time, c *Changes) {
	var ended []Gap
	s.Gaps = slices.DeleteFunc(s.Gaps, func(g Gap) bool {
		over := g.open() && match(&g)
		if over {
			ended = append(ended, g)
		}
		return over
	})
	for _, g := range ended {
		g.To, g.Cause, g.live, g.NotBefore = now.Round(0).UTC().Add(subscriptionWarmup), "", false, time.Time{}
		if g.From.After(now) {
			g.From = now.Round(0).UTC().Add(-r.MaxGap) // the clock was wrong then, so it is unknown when the gap began
		}
		s.insert(g, c)
	}
}

const (
	// maxItemAge is the usual maximum age of an item when it is sent: Graph retries for 4 hours.
	maxItemAge = 6 * time.Hour
	// maxItemSkew is how far ahead of this machine's clock the time in an id may be.
	maxItemSkew = 5 * time.Minute
	// maxClockError is how far ahead it may be to be used at all: any time zone mistaken for another.
	maxClockError = 24 * time.Hour
)

// Item notes an item that can't be used: the minute of its id is missing. Where that is long ago or no time, the last hour is
// missing as well: the item may be an old interaction that changed, or the clock may be wrong.
func (s *State) Item(r Rules, reason Reason, itemID string, now time.Time) Changes {
	var c Changes
	at, known := (&interaction.Interaction{ID: itemID}).CreatedAt()
	known = known && at.After(now.Add(-r.MaxGap)) && !at.After(now.Add(maxClockError))
	if known {
		s.addMinute(reason, at, &c)
	}
	if !known || at.Before(now.Add(-maxItemAge)) || at.After(now.Add(maxItemSkew)) {
		s.add(Gap{Reasons: []Reason{reason}, From: now.Add(-time.Hour), To: now}, &c)
	}
	return c
}

// Undelivered notes that Graph gave up items of these minutes.
func (s *State) Undelivered(_ Rules, minutes []time.Time, _ time.Time) Changes {
	var c Changes
	for _, at := range minutes {
		s.addMinute(Undelivered, at, &c)
	}
	return c
}

// Rested notes that the history of some users, in order, was not read for an interval, because they had none. What is younger than
// an hour is left to the second readings of the gaps that left them out.
func (s *State) Rested(_ Rules, users []User, from, to time.Time) Changes {
	var c Changes
	s.add(Gap{Reasons: []Reason{UsersUnknown}, Scope: Scope{Users: users}, From: from, To: to}, &c)
	return c
}

func (s *State) addMinute(reason Reason, at time.Time, c *Changes) {
	minute := at.Truncate(time.Minute)
	s.add(Gap{Reasons: []Reason{reason}, From: minute, To: minute.Add(time.Minute)}, c)
}

// Due opens the gaps that are due by the clock: polls, reconciliations and replays.
func (s *State) Due(r Rules, now time.Time) Changes {
	var c Changes
	if r.Disabled {
		return c
	}
	if at, on := s.pollAt(r, now); on && !at.After(now) {
		s.poll(r, now, &c)
	}
	if s.Reconciled.After(now) {
		s.Reconciled = time.Time{} // noted by a wrong clock, and must not count once that time has come
	}
	if at, on := s.reconcileAt(r, now); on && !at.After(now) {
		s.reconcile(r, now, &c)
	}
	configured := func(key string) bool {
		return slices.ContainsFunc(r.Replays, func(i Interval) bool { return i.key() == key })
	}
	s.Replayed = slices.DeleteFunc(s.Replayed, func(key string) bool { return !configured(key) })
	for _, replay := range r.Replays {
		if key := replay.key(); !slices.Contains(s.Replayed, key) {
			s.Replayed = append(s.Replayed, key)
			s.add(Gap{Reasons: []Reason{Replay}, Scope: Scope{Users: replay.Users}, From: replay.From, To: replay.To}, &c)
		}
	}
	return c
}

// pollLag keeps polls a second in the past, since the current second is not over.
const pollLag = time.Second

func (s *State) pollAt(r Rules, now time.Time) (at time.Time, on bool) {
	if s.Polled.IsZero() || s.Polled.After(now) {
		return now, r.PollInterval > 0
	}
	return s.Polled.Add(pollLag + r.PollInterval), r.PollInterval > 0
}

func (s *State) poll(r Rules, now time.Time, c *Changes) {
	var from time.Time
	for _, complete := range []time.Time{s.Polled, s.Checkpoint.Add(-maxNotificationDelay)} {
		if !complete.After(now) {
			from = later(from, complete)
		}
	}
	if from.Before(time.Unix(0, 0)) {
		from = now.Add(-r.PollInterval) // there was neither a poll nor a subscription
	}
	s.Polled = now.Round(0).Add(-pollLag)
	s.add(Gap{Reasons: []Reason{Poll}, From: from, To: s.Polled}, c)
}

// reconciledTo returns where the next comparison begins; zero before the subscription was first confirmed.
func (s *State) reconciledTo(now time.Time) time.Time {
	if s.Reconciled.IsZero() || s.Reconciled.After(now) {
		return s.FirstConfirmed.Add(time.Second - 1).Truncate(time.Second)
	}
	return s.Reconciled
}

func (s *State) reconcileAt(r Rules, now time.Time) (at time.Time, on bool) {
	from := s.reconciledTo(now)
	return from.Add(r.ReconcileInterval + r.ReconcileDelay), r.ReconcileInterval > 0 && !from.IsZero() && !s.comparing(now)
}

// comparing reports whether a comparison of all users waits or is running. One whose interval is not over was due by a wrong clock.
func (s *State) comparing(now time.Time) bool {
	return slices.ContainsFunc(s.all(), func(g Gap) bool {
		return g.Reason() == Reconcile && g.Scope.All() && !g.Second && !g.To.After(now)
	})
}

// all returns the gaps with those being read.
func (s *State) all() []Gap {
	if s.Pass == nil {
		return s.Gaps
	}
	return slices.Concat(s.Pass.Gaps, s.Gaps)
}

func (s *State) reconcile(r Rules, now time.Time, c *Changes) {
	// What was delivered is known by the second.
	from, to := s.reconciledTo(now), now.Round(0).Add(-r.ReconcileDelay).Truncate(time.Second)
	if !s.Inconclusive.IsZero() {
		from = earlier(from, s.Inconclusive)
	}
	s.Reconciled = to
	s.add(Gap{Reasons: []Reason{Reconcile}, From: from, To: to}, c)
}

func (i Interval) key() string {
	parts := []string{i.From.UTC().Format(time.RFC3339), i.To.UTC().Format(time.RFC3339)}
	for _, user := range i.Users {
		parts = append(parts, user.String())
	}
	return strings.Join(parts, " ")
}

// add opens a gap. Nothing changes if it is known already for the same reasons.
func (s *State) add(g Gap, c *Changes) {
	g.From, g.To = g.From.UTC().Round(0), g.To.UTC().Round(0)
	if !g.open() && !g.From.Before(g.To) {
		return
	}
	if slices.ContainsFunc(s.Gaps, func(o Gap) bool { return o.covers(&g) }) {
		return
	}
	c.Opened = append(c.Opened, g.Reason())
	s.insert(g, c)
}

// insert adds a gap, and merges it with others. What of it is too old is given up by Expire or Begin: they run when Graph has
// answered, and the clock of this machine may be wrong until then.
func (s *State) insert(g Gap, c *Changes) {
	s.Gaps = slices.DeleteFunc(s.Gaps, func(o Gap) bool {
		if !g.mergeable(&o) {
			return false
		}
		if !g.Part && !o.Part {
			s.close(&o, c)
		}
		g.merge(&o)
		return true
	})
	s.Gaps = append(s.Gaps, g)
	slices.SortStableFunc(s.Gaps, func(a, b Gap) int { return a.From.Compare(b.From) })
	s.bound(c)
}

// close counts a gap as closed. Second readings do not count, nor does the part of a gap of which the rest is still open.
func (s *State) close(g *Gap, c *Changes) {
	if !g.Second {
		c.Closed = append(c.Closed, g.Reason())
	}
}

// bound merges the two closest gaps that may be merged if there are too many. Where only the users differ, those of both are read
// for the time of both.
func (s *State) bound(c *Changes) {
	if len(s.Gaps) <= maxGaps {
		return
	}
	first, second := s.closest((*Gap).compatible)
	if first < 0 {
		first, second = s.closest((*Gap).similar)
	}
	if first < 0 {
		return
	}
	s.Gaps[first].merge(&s.Gaps[second])
	s.close(&s.Gaps[second], c)
	s.Gaps = slices.Delete(s.Gaps, second, second+1)
}

// closest returns the two gaps with the shortest time between them among those whose end is known and that match; -1 for none.
func (s *State) closest(match func(a, b *Gap) bool) (first, second int) {
	first, second = -1, -1
	var shortest time.Duration
	for i := range s.Gaps {
		for j := i + 1; j < len(s.Gaps); j++ {
			a, b := &s.Gaps[i], &s.Gaps[j]
			if a.open() || b.open() || !match(a, b) {
				continue
			}
			if hole := b.From.Sub(a.To); first < 0 || hole < shortest {
				first, second, shortest = i, j, hole
			}
			break // the next that matches is the closest
		}
	}
	return first, second
}

// clip removes the part that is older than MaxGap, and reports it as lost. Imports and replays may be of any age.
func (s *State) clip(r Rules, g *Gap, now time.Time, c *Changes) {
	horizon := now.Add(-r.MaxGap).UTC().Round(0)
	if exempt(r, g) || horizon.Sub(g.From) < time.Minute { // a gap that begins MaxGap ago is not too old a moment later
		return
	}
	to := horizon
	if !g.open() {
		to = earlier(g.To, horizon)
	}
	if g.Scope.SeenSince.IsZero() && g.Reason() != Reconcile {
		c.Lost = append(c.Lost, Loss{Reason: g.Reason(), From: g.From, To: to, Users: len(g.Scope.Users)})
	}
	g.From = to
}

func exempt(r Rules, g *Gap) bool {
	return (g.Reason() == Lookback || g.Reason() == Replay) && !r.Disabled && g.Attempts < maxAttempts
}

// maxAttempts is how often an import or a replay is tried for users who can't be read: a week.
const maxAttempts = 168

// Expire gives up what is older than MaxGap at the given time. A gap that is partly older is clipped only when an eighth of MaxGap
// has accumulated, so that its loss is not reported at every check.
func (s *State) Expire(r Rules, now time.Time) Changes {
	var c Changes
	horizon := now.Add(-r.MaxGap)
	kept := s.Gaps[:0]
	for _, g := range s.Gaps {
		if g.Scope.SeenSince.After(now) {
			g.Scope.SeenSince = time.Unix(1, 0).UTC() // the clock was wrong then: any user may have been seen since
		}
		whole := !g.open() && !g.To.After(horizon)
		if whole || horizon.Sub(g.From) >= r.MaxGap/8 {
			s.clip(r, &g, now, &c)
		}
		if !g.open() && !g.From.Before(g.To) {
			s.close(&g, &c)
			continue
		}
		kept = append(kept, g)
	}
	clear(s.Gaps[len(kept):])
	s.Gaps = kept
	return c
}

// Missing returns how much time is known to be missing, by the most severe reason, with 0 for the others. A second reading that
// is still to come is not missing, nor is what is read by the clock.
func (s *State) Missing(r Rules, now time.Time) map[Reason]time.Duration {
	sum := map[Reason]time.Duration{}
	for _, reason := range Reasons() {
		if reason != Reconcile && reason != Replay && reason != Poll {
			sum[reason] = 0
		}
	}
	for _, g := range s.all() {
		to := now
		if !g.open() {
			to = earlier(g.To, now)
		}
		_, counted := sum[g.Reason()]
		rest := !g.open() && g.Attempts == 0 && g.NotBefore.After(now) // of a gap that was read, and ends later
		if length := to.Sub(g.From); counted && length > 0 && !g.Second && !rest && !g.Rested() {
			sum[g.Reason()] += length
		}
	}
	if s.stale(r, now) {
		sum[Subscription] += now.Round(0).Sub(notifiedTo(s.confirmed, now))
	}
	return sum
}

// NeededFrom returns the time from which on it must be known what was delivered, because it is read or will be; zero if nothing
// is.
func (s *State) NeededFrom(r Rules, now time.Time) time.Time {
	var from time.Time
	need := func(t time.Time) {
		if !t.IsZero() && (from.IsZero() || t.Before(from)) {
			from = t
		}
	}
	for _, g := range s.all() {
		need(g.From)
	}
	if r.PollInterval > 0 {
		need(s.Polled)
	}
	if r.ReconcileInterval > 0 {
		need(s.reconciledTo(now))
		need(s.Inconclusive)
	}
	if s.stale(r, now) {
		need(notifiedTo(s.confirmed, now))
	}
	if from.IsZero() {
		return from
	}
	return later(from, now.Add(-r.MaxGap-maxNotificationDelay)).Add(-readOverlap)
}

// Clone returns a copy that later events do not change.
func (s *State) Clone() State {
	clone := *s
	clone.Gaps, clone.Replayed = slices.Clone(s.Gaps), slices.Clone(s.Replayed)
	if s.Pass != nil {
		p := *s.Pass
		clone.Pass = &p
	}
	return clone
}
