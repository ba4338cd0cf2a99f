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
		s.add(r, Gap{Reasons: []Reason{Lookback}, From: now.Add(-r.Lookback), To: now}, now, &c)
	}
	if !r.Subscribed {
		return c
	}
	fresh := false
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
		fresh = now.Sub(s.Checkpoint) <= r.CheckInterval+startupTolerance
	}
	if fresh {
		s.confirmed = s.Checkpoint
		return c
	}
	s.add(r, Gap{Reasons: []Reason{Startup}, From: s.unknownSince, Cause: atStart}, now, &c)
	return c
}

// Recent reports whether the last confirmed check, also of the last run, is so recent that no lifecycle event can have been
// missed.
func (s *State) Recent(r Rules, now time.Time) bool { return !s.confirmed.IsZero() && !s.stale(r, now) }

// stale reports whether the last confirmed check is so long ago that it is unknown what happened since. The monotonic clock
// stops while a machine is suspended, and the wall clock can be set back, so the longer time counts.
func (s *State) stale(r Rules, now time.Time) bool {
	since := max(now.Sub(s.confirmed), now.Round(0).Sub(s.confirmed.Round(0)))
	return !s.confirmed.IsZero() && since > 2*r.CheckInterval+startupTolerance
}

// Adopted notes that a subscription of ours was there before this run. If nothing is known of that run, what Graph may have
// retried in vain is read.
func (s *State) Adopted(r Rules, now time.Time) Changes {
	var c Changes
	if s.unknownSince.IsZero() {
		s.unknownSince = now.Add(-retryWindow)
		s.add(r, Gap{Reasons: []Reason{Startup}, From: s.unknownSince, To: now.Add(subscriptionWarmup)}, now, &c)
	}
	return c
}

// Confirmed notes that every wanted subscription was confirmed, or has an open gap, while the listener was up.
func (s *State) Confirmed(r Rules, now time.Time) Changes {
	var c Changes
	if s.stale(r, now) {
		s.add(r, Gap{Reasons: []Reason{Subscription}, From: s.confirmed.Round(0).Add(-maxNotificationDelay), To: now.Add(subscriptionWarmup)}, now, &c)
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
func (s *State) Interrupted(r Rules, resource string, reason Reason, scope Scope, since, now time.Time) Changes {
	var c Changes
	from := since.Round(0).Add(-maxNotificationDelay)
	switch {
	case reason == RemovedKey:
		from = now.Add(-retryWindow)
		if since.IsZero() && !s.unknownSince.IsZero() {
			from = earlier(from, s.unknownSince)
		}
	case since.IsZero() && s.unknownSince.IsZero():
		return c // there never was a subscription
	case since.IsZero():
		reason, from = Startup, s.unknownSince
	}
	for i := range s.Gaps {
		g := &s.Gaps[i]
		if g.open() && g.Cause == atStart && g.Scope.equal(scope) {
			g.Cause = resource // from now on this run knows what the end of the gap waits for
			g.From, g.Reasons = earlier(g.From, from.UTC()), mergeReasons(g.Reasons, []Reason{reason})
		}
		g.live = g.live || g.open() && g.Cause == resource
	}
	s.add(r, Gap{Reasons: []Reason{reason}, Scope: scope, From: from, Cause: resource, live: true}, now, &c)
	return c
}

// Restored notes that a resource has an active subscription again.
func (s *State) Restored(r Rules, resource string, now time.Time) Changes {
	var c Changes
	s.end(r, func(g *Gap) bool { return g.Cause == resource }, now, &c)
	return c
}

// KeyRemoved notes that notifications for a key that was accepted before can't be decrypted any more.
func (s *State) KeyRemoved(r Rules, now time.Time) Changes {
	var c Changes
	s.add(r, Gap{Reasons: []Reason{RemovedKey}, From: now.Add(-retryWindow), Cause: atStart}, now, &c)
	return c
}

// end ends the open gaps that match. A gap that begins later than now stays open, since the clock must be wrong.
func (s *State) end(r Rules, match func(*Gap) bool, now time.Time, c *Changes) {
	var ended []Gap
	s.Gaps = slices.DeleteFunc(s.Gaps, func(g Gap) bool {
		over := g.open() && match(&g) && !g.From.After(now)
		if over {
			ended = append(ended, g)
		}
		return over
	})
	for _, g := range ended {
		g.To, g.Cause, g.live, g.NotBefore = now.Round(0).Add(subscriptionWarmup), "", false, time.Time{}
		s.insert(r, g, now, c)
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
		s.addMinute(r, reason, at, now, &c)
	}
	if !known || at.Before(now.Add(-maxItemAge)) || at.After(now.Add(maxItemSkew)) {
		s.add(r, Gap{Reasons: []Reason{reason}, From: now.Add(-time.Hour), To: now}, now, &c)
	}
	return c
}

// Undelivered notes that Graph gave up items of these minutes.
func (s *State) Undelivered(r Rules, minutes []time.Time, now time.Time) Changes {
	var c Changes
	for _, at := range minutes {
		s.addMinute(r, Undelivered, at, now, &c)
	}
	return c
}

// Skipped notes that the history of some users, in order, was not read since a time, because they had none.
func (s *State) Skipped(r Rules, users []User, from, now time.Time) Changes {
	var c Changes
	s.add(r, Gap{Reasons: []Reason{UsersUnknown}, Scope: Scope{Users: users}, From: from, To: now}, now, &c)
	return c
}

func (s *State) addMinute(r Rules, reason Reason, at, now time.Time, c *Changes) {
	minute := at.Truncate(time.Minute)
	s.add(r, Gap{Reasons: []Reason{reason}, From: minute, To: minute.Add(time.Minute)}, now, c)
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
			s.add(r, Gap{Reasons: []Reason{Replay}, Scope: Scope{Users: replay.Users}, From: replay.From, To: replay.To}, now, &c)
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
	from := s.Polled
	if from.IsZero() || from.After(now) {
		from = s.Checkpoint
	}
	if from.IsZero() || from.After(now) {
		from = now.Add(-r.PollInterval)
	}
	s.Polled = now.Round(0).Add(-pollLag)
	s.add(r, Gap{Reasons: []Reason{Poll}, From: from, To: s.Polled}, now, c)
}

// reconciledTo returns where the next comparison begins; zero before the subscription was first confirmed.
func (s *State) reconciledTo(now time.Time) time.Time {
	if s.Reconciled.IsZero() || s.Reconciled.After(now) {
		return s.FirstConfirmed
	}
	return s.Reconciled
}

func (s *State) reconcileAt(r Rules, now time.Time) (at time.Time, on bool) {
	from := s.reconciledTo(now)
	return from.Add(r.ReconcileInterval + r.ReconcileDelay), r.ReconcileInterval > 0 && !from.IsZero() && !s.comparing()
}

// comparing reports whether a comparison for all users waits or is running.
func (s *State) comparing() bool {
	is := func(g Gap) bool { return g.Reason() == Reconcile && g.Scope.All() && !g.Second }
	return slices.ContainsFunc(s.Gaps, is) || s.Pass != nil && slices.ContainsFunc(s.Pass.Gaps, is)
}

func (s *State) reconcile(r Rules, now time.Time, c *Changes) {
	from, to := s.reconciledTo(now), now.Round(0).Add(-r.ReconcileDelay)
	if !s.Inconclusive.IsZero() {
		from = earlier(from, s.Inconclusive)
	}
	s.Reconciled = to
	s.add(r, Gap{Reasons: []Reason{Reconcile}, From: from, To: to}, now, c)
}

func (i Interval) key() string {
	parts := []string{i.From.UTC().Format(time.RFC3339), i.To.UTC().Format(time.RFC3339)}
	for _, user := range i.Users {
		parts = append(parts, user.String())
	}
	return strings.Join(parts, " ")
}

// add opens a gap. Nothing changes if it is known already for the same reasons.
func (s *State) add(r Rules, g Gap, now time.Time, c *Changes) {
	g.From, g.To = g.From.UTC().Round(0), g.To.UTC().Round(0)
	if !g.open() && !g.From.Before(g.To) {
		return
	}
	if slices.ContainsFunc(s.Gaps, func(o Gap) bool { return o.covers(&g) }) {
		return
	}
	c.Opened = append(c.Opened, g.Reason())
	s.insert(r, g, now, c)
}

// insert adds the part of a gap that is not too old, and merges it with others.
func (s *State) insert(r Rules, g Gap, now time.Time, c *Changes) {
	if s.clip(r, &g, now, c); !g.open() && !g.From.Before(g.To) {
		s.close(&g, c)
		return
	}
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

// bound merges the two closest gaps that may be merged if there are too many.
func (s *State) bound(c *Changes) {
	if len(s.Gaps) <= maxGaps {
		return
	}
	first, second := -1, -1
	var smallest time.Duration
	for i := range s.Gaps {
		for j := i + 1; j < len(s.Gaps); j++ {
			a, b := &s.Gaps[i], &s.Gaps[j]
			if a.open() || b.open() || !a.compatible(b) {
				continue
			}
			if hole := b.From.Sub(a.To); first < 0 || hole < smallest {
				first, second, smallest = i, j, hole
			}
			break // the next of the same kind is the closest
		}
	}
	if first < 0 {
		return
	}
	s.Gaps[first].merge(&s.Gaps[second])
	s.close(&s.Gaps[second], c)
	s.Gaps = slices.Delete(s.Gaps, second, second+1)
}

// clip removes the part that is older than MaxGap, and reports it as lost. Imports and replays may be of any age.
func (s *State) clip(r Rules, g *Gap, now time.Time, c *Changes) {
	horizon := now.Add(-r.MaxGap).UTC().Round(0)
	if exempt(r, g) || !g.From.Before(horizon) {
		return
	}
	to := horizon
	if !g.open() {
		to = earlier(g.To, horizon)
	}
	if !g.Second && g.Reason() != UsersUnknown && g.Reason() != Reconcile {
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

// waits reports whether it is the rest of a gap that was read up to now and whose end is later.
func (g *Gap) waits(now time.Time) bool {
	return !g.open() && g.Attempts == 0 && g.NotBefore.After(now)
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
	count := func(gaps []Gap) {
		for i := range gaps {
			g := &gaps[i]
			to := now
			if !g.open() {
				to = earlier(g.To, now)
			}
			_, counted := sum[g.Reason()]
			if length := to.Sub(g.From); counted && length > 0 && !g.Second && !g.waits(now) && !g.Rested() {
				sum[g.Reason()] += length
			}
		}
	}
	count(s.Gaps)
	if s.Pass != nil {
		count(s.Pass.Gaps)
	}
	if s.stale(r, now) {
		sum[Subscription] += now.Sub(s.confirmed.Add(-maxNotificationDelay))
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
	for i := range s.Gaps {
		need(s.Gaps[i].From)
	}
	if s.Pass != nil {
		need(s.Pass.From)
	}
	if r.PollInterval > 0 {
		need(s.Polled)
	}
	if r.ReconcileInterval > 0 {
		need(s.reconciledTo(now))
		need(s.Inconclusive)
	}
	if s.stale(r, now) {
		need(s.confirmed.Add(-maxNotificationDelay))
	}
	if from.IsZero() {
		return from
	}
	return later(from, now.Add(-r.MaxGap-maxNotificationDelay))
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
