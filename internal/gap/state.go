// SPDX-License-Identifier: Apache-2.0

package gap

import (
	"fmt"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	startupTolerance     = 5 * time.Minute  // how much older than check_interval a checkpoint may be without a gap
	maxNotificationDelay = 65 * time.Minute // 60 minutes at most: https://learn.microsoft.com/graph/api/resources/subscription#latency
	subscriptionWarmup   = 5 * time.Minute  // how long a new subscription may take to deliver
	retryWindow          = 5 * time.Hour    // longer than the 4 hours for which Graph retries
	maxItemAge           = 6 * time.Hour    // how old an item usually is when it is sent
	pollLag              = time.Second      // keeps polls in the past, since the current second is not over
	maxAttempts          = 168              // of an import or a replay, for users who can't be read: a week
	clipInterval         = time.Hour        // the shortest time that is given up of a gap
	maxGaps              = 500              // with a known end; beyond it those that can be read together become one
	atStart              = "start"          // the cause of a gap that ends when the subscription is confirmed
)

// MaxClockError is how far ahead of this machine's clock the time in an id may be to be used: any time zone mistaken for another.
const MaxClockError = 24 * time.Hour

// Rules are the part of the configuration that the rules depend on. Intervals of 0 mean never.
type Rules struct {
	Subscribed                      bool // false without a subscription
	Disabled                        bool // gaps are known but not read
	CheckInterval                   time.Duration
	MaxGap, Lookback                time.Duration
	PollInterval, ReconcileInterval time.Duration
	ReconcileDelay                  time.Duration // how old an interaction must be to be compared
	Replays                         []Interval
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
	// Checkpoint is the last time at which every wanted subscription was confirmed or had an open gap, FirstConfirmed the first.
	Checkpoint     time.Time `json:"checkpoint,omitzero"`
	FirstConfirmed time.Time `json:"first_confirmed,omitzero"`
	// Polled is the end of the last poll.
	Polled time.Time `json:"polled,omitzero"`
	// Reconciled is the end of the last comparison, Result that of the last one that ended. Inconclusive is the start of an
	// interval to compare once more.
	Reconciled   time.Time `json:"reconciled,omitzero"`
	Result       Result    `json:"result,omitzero"`
	Inconclusive time.Time `json:"inconclusive,omitzero"`
	// Replayed are the entries of Rules.Replays that were begun.
	Replayed []string `json:"replayed,omitempty"`
	// Refused are the minutes, since 1970, of items that Graph may send again, with their first refusals.
	Refused map[int64]time.Time `json:"refused,omitempty"`
	// NotBefore is when the next pass for a reason may begin.
	NotBefore map[Reason]time.Time `json:"not_before,omitempty"`
	Gaps      []Gap                `json:"gaps,omitempty"`
	// Pass is the one being read, nil for none.
	Pass *Pass `json:"pass,omitempty"`

	// confirmed is the last check of which Checkpoint tells, also that of the last run if it is fresh; zero if it is unknown what
	// happened since. It is wall time, since the monotonic clock stops while this machine is suspended.
	confirmed time.Time
	// unknownSince is where the time begins of which this run knows nothing; zero for never before.
	unknownSince time.Time
}

// Result is the result of a reconciliation.
type Result struct {
	Outcome Outcome   `json:"outcome"`
	To      time.Time `json:"to"` // the end of the interval
}

// Outcome says what a reconciliation proved.
type Outcome string

// The outcomes.
const (
	Complete     Outcome = "complete"     // everything in the history is delivered
	Incomplete   Outcome = "incomplete"   // a part could not be compared
	Inconclusive Outcome = "inconclusive" // the history had much less than the notifications, so it proves nothing
)

// Loss is an interval that will not be read.
type Loss struct {
	Reason   Reason
	From, To time.Time
	Users    int // how many are concerned, 0 for all
}

// Start notes that a run begins. damaged means that there was a state which could not be read. newestCreation is the latest
// creation that was delivered, zero for none.
func (s *State) Start(r Rules, damaged bool, newestCreation, now time.Time) {
	first := !s.Started && !damaged
	s.Started = true
	for i := range s.Gaps {
		if s.Gaps[i].open() {
			s.Gaps[i].Cause = atStart // this run is not told that the cause ends, unless it is told that it lasts
		}
	}
	if first && r.Lookback > 0 {
		s.add(Gap{Reasons: []Reason{Lookback}, From: now.Add(-r.Lookback), To: now})
	}
	if damaged && r.PollInterval > 0 {
		s.Polled = now.Round(0).Add(-r.MaxGap)
	}
	if !r.Subscribed {
		return
	}
	switch {
	case damaged:
		s.unknownSince = now.Add(-r.MaxGap)
	case s.Checkpoint.IsZero() && s.Polled.IsZero():
		return // nothing is known of an earlier run; see Adopted
	case s.Checkpoint.IsZero():
		s.unknownSince = s.Polled
	case s.Checkpoint.After(now.Add(startupTolerance)):
		s.unknownSince = now.Add(-r.MaxGap)
		if !newestCreation.IsZero() {
			s.unknownSince = notifiedTo(newestCreation)
		}
	default:
		s.unknownSince = notifiedTo(s.Checkpoint)
		if now.Sub(s.Checkpoint) <= r.CheckInterval+startupTolerance {
			s.confirmed = s.Checkpoint
			return
		}
	}
	s.add(Gap{Reasons: []Reason{Startup}, From: s.unknownSince, Cause: atStart})
}

// Recent reports whether the last confirmed check is so recent that no lifecycle event can have been missed.
func (s *State) Recent(r Rules, now time.Time) bool { return !s.confirmed.IsZero() && !s.stale(r, now) }

// Lasting reports whether the cause of a gap lasts, as far as is known.
func (s *State) Lasting() bool {
	return slices.ContainsFunc(s.Gaps, func(g Gap) bool { return g.open() })
}

// stale reports whether the last confirmed check is so long ago that it is unknown what happened since.
func (s *State) stale(r Rules, now time.Time) bool {
	return !s.confirmed.IsZero() && now.Round(0).Sub(s.confirmed) > 2*r.CheckInterval+startupTolerance
}

// notifiedTo returns the creation time up to which everything was notified when a subscription was last known to be active.
func notifiedTo(active time.Time) time.Time { return active.Round(0).Add(-maxNotificationDelay) }

// Adopted notes that a subscription of ours was there before this run. If nothing is known of that run, what Graph may have
// retried in vain is read.
func (s *State) Adopted(now time.Time) {
	if s.unknownSince.IsZero() && s.confirmed.IsZero() {
		s.unknownSince = now.Add(-retryWindow)
		s.add(Gap{Reasons: []Reason{Startup}, From: s.unknownSince, To: now.Add(subscriptionWarmup)})
	}
}

// Stopped notes that a run ends while every wanted subscription is active.
func (s *State) Stopped(r Rules, now time.Time) {
	if s.Recent(r, now) {
		s.Checkpoint = now.Round(0)
	}
}

// Confirmed notes that every wanted subscription was confirmed, or has an open gap, while the listener was up.
func (s *State) Confirmed(r Rules, now time.Time) {
	s.checked(r, now)
	s.end(atStart, now)
	if s.FirstConfirmed.IsZero() || s.FirstConfirmed.After(now) {
		s.FirstConfirmed = s.Checkpoint
	}
}

// AllInterrupted notes that no wanted subscription is active, while the listener was up. The open gap of each covers the time until it
// is restored, so that this time is not unknown; without an open gap there never was a subscription, and nothing is missing.
func (s *State) AllInterrupted(r Rules, now time.Time) {
	if slices.ContainsFunc(s.Gaps, func(g Gap) bool { return g.open() && g.Cause != atStart }) {
		s.checked(r, now)
	}
}

// checked moves the checkpoint. Where the last check is too long ago, what happened since is unknown, whatever gap is open now.
func (s *State) checked(r Rules, now time.Time) {
	if s.stale(r, now) {
		s.add(Gap{Reasons: []Reason{Subscription}, From: notifiedTo(s.confirmed), To: now.Add(subscriptionWarmup)})
	}
	s.confirmed, s.Checkpoint = now.Round(0), now.Round(0)
}

// Interrupted notes that the changes of a resource may be lost since a time; zero means since before this run. The scope is that
// of the resource.
func (s *State) Interrupted(resource string, reason Reason, scope Scope, since, now time.Time) {
	from := s.unknownSince
	if !since.IsZero() {
		from = notifiedTo(since)
	}
	switch {
	case reason == RemovedKey:
		if from.IsZero() || from.After(now.Add(-retryWindow)) {
			from = now.Add(-retryWindow)
		}
	case from.IsZero():
		return // there never was a subscription
	case since.IsZero():
		reason = Startup
	}
	for i := range s.Gaps {
		if g := &s.Gaps[i]; g.open() && g.Cause == atStart && g.Scope.equal(scope) {
			g.Cause = resource // from now on this run knows what the end of the gap waits for
		}
	}
	s.add(Gap{Reasons: []Reason{reason}, Scope: scope, From: from, Cause: resource})
}

// Restored notes that a resource has an active subscription again.
func (s *State) Restored(resource string, now time.Time) {
	s.end(resource, now)
	if s.confirmed.IsZero() {
		s.confirmed = now.Round(0) // should the listener not be up, it is unknown what happens from now on
	}
}

// KeyRemoved notes that notifications for a key that was accepted before can't be decrypted any more.
func (s *State) KeyRemoved(now time.Time) {
	s.add(Gap{Reasons: []Reason{RemovedKey}, From: now.Add(-retryWindow), Cause: atStart})
}

// end ends the open gaps of a cause.
func (s *State) end(cause string, now time.Time) {
	for i := range s.Gaps {
		if g := &s.Gaps[i]; g.open() && g.Cause == cause {
			g.To, g.Cause, g.NotBefore = now.Round(0).UTC().Add(subscriptionWarmup), "", time.Time{}
		}
	}
}

// Item notes an item that can't be used: the minute of its id is missing. Where that is long ago or no time, the last hour is
// missing as well: the item may be an old interaction that changed.
func (s *State) Item(r Rules, reason Reason, itemID string, now time.Time) {
	at, known := (&interaction.Interaction{ID: itemID}).CreatedAt()
	known = known && at.After(now.Add(-r.MaxGap)) && !at.After(now.Add(MaxClockError))
	if known {
		s.addMinute(reason, at)
	}
	if !known || at.Before(now.Add(-maxItemAge)) {
		s.add(Gap{Reasons: []Reason{reason}, From: now.Add(-time.Hour), To: now})
	}
}

// Undelivered notes that Graph gave up items of these minutes.
func (s *State) Undelivered(minutes []time.Time) {
	for _, at := range minutes {
		s.addMinute(Undelivered, at)
	}
}

// Rested notes that the history of some users, in order, was not read for an interval, because they had none.
func (s *State) Rested(users []User, from, to time.Time) {
	s.add(Gap{Reasons: []Reason{UsersUnknown}, Scope: Scope{Users: users}, From: from, To: to})
}

func (s *State) addMinute(reason Reason, at time.Time) {
	minute := at.Truncate(time.Minute)
	s.add(Gap{Reasons: []Reason{reason}, From: minute, To: minute.Add(time.Minute)})
}

// Due opens the gaps that are due by the clock: polls, reconciliations and replays.
func (s *State) Due(r Rules, now time.Time) {
	if r.Disabled {
		return
	}
	if !s.pollAt(r, now).After(now) {
		s.poll(r, now)
	}
	if !s.reconcileAt(r, now).After(now) {
		s.reconcile(r, now)
	}
	var replayed []string
	for _, replay := range r.Replays {
		key := fmt.Sprint(replay.From.UTC().Format(time.RFC3339), " ", replay.To.UTC().Format(time.RFC3339), " ", replay.Users)
		if !slices.Contains(s.Replayed, key) {
			s.add(Gap{Reasons: []Reason{Replay}, Scope: Scope{Users: replay.Users}, From: replay.From, To: replay.To})
		}
		replayed = append(replayed, key)
	}
	s.Replayed = replayed
}

func (s *State) pollAt(r Rules, now time.Time) time.Time {
	switch {
	case r.PollInterval == 0:
		return never(now)
	case s.Polled.IsZero() || s.Polled.After(now):
		return now
	}
	return s.Polled.Add(pollLag + r.PollInterval)
}

func (s *State) poll(r Rules, now time.Time) {
	var from time.Time
	for _, complete := range []time.Time{s.Polled, notifiedTo(s.Checkpoint)} {
		if !complete.After(now) {
			from = Later(from, complete)
		}
	}
	if from.Before(time.Unix(0, 0)) {
		from = now.Add(-r.PollInterval) // there was neither a poll nor a subscription
	}
	s.Polled = now.Round(0).Add(-pollLag)
	s.add(Gap{Reasons: []Reason{Poll}, From: from, To: s.Polled})
}

// reconciledTo returns where the next comparison begins; zero before the subscription was first confirmed.
func (s *State) reconciledTo(now time.Time) time.Time {
	if s.Reconciled.IsZero() || s.Reconciled.After(now) {
		return s.FirstConfirmed.Add(time.Second - 1).Truncate(time.Second)
	}
	return s.Reconciled
}

func (s *State) reconcileAt(r Rules, now time.Time) time.Time {
	from := s.reconciledTo(now)
	if r.ReconcileInterval == 0 || from.IsZero() || s.comparing(now) {
		return never(now)
	}
	return from.Add(r.ReconcileInterval + r.ReconcileDelay)
}

// comparing reports whether a comparison of all users waits or is running: its outcome decides where the next one begins. One whose
// interval is not over was due by a wrong clock.
func (s *State) comparing(now time.Time) bool {
	return slices.ContainsFunc(s.all(), func(g Gap) bool { return g.compares() && !g.To.After(now) })
}

// all returns the gaps with those being read.
func (s *State) all() []Gap {
	if s.Pass == nil {
		return s.Gaps
	}
	return slices.Concat(s.Pass.Gaps, s.Gaps)
}

func (s *State) reconcile(r Rules, now time.Time) {
	// What was delivered is known by the second.
	from, to := s.reconciledTo(now), now.Round(0).Add(-r.ReconcileDelay).Truncate(time.Second)
	if !s.Inconclusive.IsZero() {
		from = Earlier(from, s.Inconclusive)
	}
	s.Reconciled = to
	s.add(Gap{Reasons: []Reason{Reconcile}, From: from, To: to})
}

// add opens a gap, unless there is no time between its ends.
func (s *State) add(g Gap) {
	g.From, g.To = g.From.UTC().Round(0), g.To.UTC().Round(0)
	if g.open() || g.From.Before(g.To) {
		s.insert(g)
	}
}

// insert adds a gap, and merges it with others. What of it is too old is given up by Expire: it runs when Graph has answered, and
// the clock of this machine may be wrong until then.
func (s *State) insert(g Gap) {
	full := len(s.Gaps) >= maxGaps
	s.Gaps = slices.DeleteFunc(s.Gaps, func(o Gap) bool {
		found := g.mergeable(&o) || full && g.mergeableWhenFull(&o)
		if found {
			g.merge(&o)
		}
		return found
	})
	s.Gaps = append(s.Gaps, g)
	slices.SortStableFunc(s.Gaps, func(a, b Gap) int { return a.From.Compare(b.From) })
}

// Expire gives up what is older than MaxGap, and returns it; imports and replays may be of any age, and a comparison that is too old
// has a result that says so. A gap that is partly older is clipped once an hour, so that its loss is not reported at every check.
func (s *State) Expire(r Rules, now time.Time) (lost []Loss) {
	horizon := now.Add(-r.MaxGap).UTC().Round(0)
	var left []Gap
	for _, g := range s.Gaps {
		over := !g.open() && !g.To.After(horizon)
		kept := !r.Disabled && (g.Reason().is(anyAge) && g.Attempts < maxAttempts || g.compares())
		if !kept && (over || horizon.Sub(g.From) > clipInterval) {
			to := Earlier(g.end(horizon), horizon)
			if g.Scope.SeenSince.IsZero() && g.Reason() != Reconcile {
				lost = append(lost, Loss{Reason: g.Reason(), From: g.From, To: to, Users: len(g.Scope.Users)})
			}
			g.From = to
		}
		if g.open() || g.From.Before(g.To) {
			left = append(left, g)
		}
	}
	s.Gaps = left
	return lost
}

// Count returns the number of gaps by their most severe reason. Second readings do not count, nor what is read of an open gap.
func (s *State) Count() map[Reason]int {
	count := map[Reason]int{}
	for _, g := range s.all() {
		if part := s.Pass != nil && g.To.Equal(s.Pass.Began); !g.Second && !part {
			count[g.Reason()]++
		}
	}
	return count
}

// Missing returns how much time is known to be missing, by the most severe reason, with 0 for the others. What is still to be read
// a second time is not missing.
func (s *State) Missing(r Rules, now time.Time) map[Reason]time.Duration {
	sum := map[Reason]time.Duration{}
	for _, reason := range Reasons() {
		if reason.is(missing) {
			sum[reason] = 0
		}
	}
	for _, g := range s.all() {
		_, counted := sum[g.Reason()]
		rest := !g.open() && g.Attempts == 0 && g.NotBefore.After(now) // of a gap that was read, and ends later
		if length := Earlier(g.end(now), now).Sub(g.From); counted && length > 0 && !g.Second && !rest && !g.Rested() {
			sum[g.Reason()] += length
		}
	}
	lasts := func(g Gap) bool { return g.open() && g.Scope.All() } // and contains the time since the last check
	if s.stale(r, now) && !slices.ContainsFunc(s.Gaps, lasts) {
		sum[Subscription] += now.Round(0).Sub(notifiedTo(s.confirmed))
	}
	return sum
}

// NeededFrom returns the time from which on it must be known what was delivered, since it is or will be read. What a reading
// overlaps comes on top.
func (s *State) NeededFrom(r Rules, now time.Time) time.Time {
	needed := []time.Time{now}
	for _, g := range s.all() {
		needed = append(needed, g.From)
	}
	if r.PollInterval > 0 {
		needed = append(needed, s.Polled)
	}
	if r.ReconcileInterval > 0 {
		needed = append(needed, s.reconciledTo(now), s.Inconclusive)
	}
	if s.stale(r, now) {
		needed = append(needed, notifiedTo(s.confirmed))
	}
	needed = slices.DeleteFunc(needed, time.Time.IsZero)
	return Later(slices.MinFunc(needed, time.Time.Compare), now.Add(-r.MaxGap-maxNotificationDelay))
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
