// SPDX-License-Identifier: Apache-2.0

package gap

import (
	"maps"
	"slices"
	"time"
)

const (
	maxGraphDelay      = time.Hour                  // https://learn.microsoft.com/graph/change-notifications-overview#latency
	hourly             = time.Hour                  // between two passes over a gap whose cause lasts, and over gaps of items
	maxHole            = time.Hour                  // between two gaps of one pass: requests for each user cost more than that time
	maxWait            = 2 * time.Hour              // more than a gap is made to wait
	minRetry, maxRetry = 5 * time.Minute, time.Hour // between two tries of what could not be read
)

// Pass is one run over gaps that are read together. It is part of the State, so that a restart goes on where it stopped.
type Pass struct {
	Gaps  []Gap     `json:"gaps"`
	Began time.Time `json:"began"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	// Cursor is the last user, in order, up to whom all were read or have failed; nil before the first.
	Cursor *User `json:"cursor,omitempty"`
	// Failed are the users up to Cursor who could not be read.
	Failed []User `json:"failed,omitempty"`
	// Partial is true once not all users were known, so that only those already seen were read.
	Partial bool `json:"partial,omitempty"`
	// Comparison is what a reconciliation has counted up to Cursor.
	Comparison Comparison `json:"comparison,omitzero"`
}

// Comparison counts the users and interactions that a reconciliation compared, and those that had not been delivered.
type Comparison struct{ Users, Interactions, Recovered int }

// Reasons returns those of all gaps.
func (p *Pass) Reasons() []Reason {
	var all []Reason
	for i := range p.Gaps {
		all = mergeReasons(all, p.Gaps[i].Reasons)
	}
	return all
}

// Scope returns a scope that contains those of all gaps.
func (p *Pass) Scope() Scope {
	scope := p.Gaps[0].Scope
	for _, g := range p.Gaps[1:] {
		scope = scope.union(g.Scope)
	}
	return scope
}

// Second reports whether everything in the pass was read before.
func (p *Pass) Second() bool {
	return !slices.ContainsFunc(p.Gaps, func(g Gap) bool { return !g.Second })
}

// Retry reports whether the pass tries again what could not be read before.
func (p *Pass) Retry() bool {
	return slices.ContainsFunc(p.Gaps, func(g Gap) bool { return g.Attempts > 0 })
}

// Users is what is known of the users of a pass.
type Users struct {
	Listed     bool      // whether the directory names all licensed users, or the configuration does
	NewestSeen time.Time // when a user was first seen last; zero for never
}

// never returns a time for what is not due before something else happens.
func never(now time.Time) time.Time { return now.AddDate(1, 0, 0) }

// readyAt returns when a gap can be read.
func (s *State) readyAt(g *Gap, u Users, now time.Time) time.Time {
	if u.NewestSeen.After(now) { // The clock has been set back, and who is new is unknown: read once an hour.
		u.NewestSeen = now.Truncate(hourly)
	}
	if !g.Scope.SeenSince.IsZero() && !u.Listed && u.NewestSeen.Before(g.Scope.SeenSince) {
		return never(now)
	}
	at := g.From.Add(time.Second)
	if g.Reason().is(ofItem) {
		at = g.From.Add(time.Minute) // where items come all the time, one gap always lies partly in the future
	}
	waits := []time.Time{g.NotBefore}
	for _, reason := range g.Reasons {
		waits = append(waits, s.NotBefore[reason])
	}
	for _, wait := range waits {
		if wait.Before(now.Add(maxWait)) { // else the clock has been set back
			at = Later(at, wait)
		}
	}
	return at
}

// NextAt returns when something is due next, after Due; a year from now if nothing will be.
func (s *State) NextAt(r Rules, u Users, now time.Time) time.Time {
	if r.Disabled {
		return never(now)
	}
	next := Earlier(s.pollAt(r, now), s.reconcileAt(r, now))
	for i := range s.Gaps {
		next = Earlier(next, s.readyAt(&s.Gaps[i], u, now))
	}
	return next
}

// Begin begins the pass that is due next, unless one is being read. State.Pass is nil if none is due.
func (s *State) Begin(u Users, now time.Time) {
	first := s.nextReady(u, now)
	if s.Pass != nil || first < 0 {
		return
	}
	p := &Pass{Began: now.Round(0).UTC(), From: now.Round(0).UTC()}
	s.take(p, first, now)
	joins := func(g Gap) bool { return !s.readyAt(&g, u, now).After(now) && p.joins(&g) }
	for i := slices.IndexFunc(s.Gaps, joins); i >= 0; i = slices.IndexFunc(s.Gaps, joins) {
		s.take(p, i, now) // the pass may be longer now
	}
	s.Pass = p
}

// nextReady returns the index of the gap to read next, -1 for none: the one that has been ready for the longest time, so that
// none waits for ever.
func (s *State) nextReady(u Users, now time.Time) int {
	next, earliest := -1, now.Add(1)
	for i := range s.Gaps {
		if at := s.readyAt(&s.Gaps[i], u, now); at.Before(earliest) {
			next, earliest = i, at
		}
	}
	return next
}

// take moves the past part of a gap to a pass. The rest stays, unless the gap ends so late that it was closed by a wrong clock.
func (s *State) take(p *Pass, i int, now time.Time) {
	g := s.Gaps[i]
	s.Gaps = slices.Delete(s.Gaps, i, i+1)
	if g.open() || g.To.After(now) {
		rest := g
		rest.From, rest.NotBefore, rest.Attempts = p.Began, p.Began.Add(hourly), 0
		if !g.open() {
			rest.NotBefore = Earlier(rest.NotBefore, g.To)
		}
		g.To, g.Cause = p.Began, ""
		if rest.open() || rest.Reason() == Replay || rest.To.Before(now.Add(MaxClockError)) {
			s.insert(rest)
		}
	}
	p.Gaps = append(p.Gaps, g)
	p.From, p.To = Earlier(p.From, g.From), Later(p.To, g.To)
}

// joins reports whether a gap is read in the same pass. Users of different gaps are read together only where that makes none of
// them read much that was not missing, since its delivery may no longer be known.
func (p *Pass) joins(g *Gap) bool {
	first := &p.Gaps[0]
	if !first.readAlike(g) {
		return false
	}
	to := g.end(p.Began)
	if p.Scope().equal(g.Scope) {
		return !g.From.After(p.To.Add(maxHole)) && !p.From.After(to.Add(maxHole))
	}
	bothUsers := len(first.Scope.Users) > 0 && len(g.Scope.Users) > 0
	return bothUsers && g.From.Sub(p.From).Abs() <= maxHole && to.Sub(p.To).Abs() <= maxHole
}

// End is how a pass ended.
type End struct {
	Partial bool          // not all users were known, so only those already seen were read
	Failed  []User        // users who could not be read, in order
	Took    time.Duration // without the time between two runs
	Outcome Outcome       // of a reconciliation
}

// Finish ends the pass, and opens what remains to be read.
func (s *State) Finish(end End, now time.Time) {
	p := s.Pass
	s.Pass = nil
	s.pace(p, end.Took, now)
	s.setResult(p, end.Outcome)
	if len(end.Failed) > 0 {
		s.retry(p, Scope{Users: end.Failed}, now)
	}
	for _, g := range p.Gaps {
		if (end.Partial || p.Partial) && (!g.Scope.SeenSince.IsZero() || g.Scope.All() && g.Reason() != Reconcile) {
			s.add(Gap{Reasons: []Reason{UsersUnknown}, Scope: Scope{SeenSince: p.Began}, From: g.From, To: g.To})
		}
		if late := p.Began.Add(-maxGraphDelay); !g.Second && g.Reason() != Replay && g.To.After(late) {
			g.From, g.Second, g.NotBefore, g.Attempts = Later(g.From, late), true, p.Began.Add(maxGraphDelay), 0
			s.insert(g)
		}
	}
}

// pace has the next pass for the same reasons wait as long as this one took, an hour where they concern items.
func (s *State) pace(p *Pass, took time.Duration, now time.Time) {
	next := map[Reason]time.Time{}
	maps.Copy(next, s.NotBefore)
	for _, reason := range p.Reasons() {
		next[reason] = now.Round(0).UTC().Add(took)
		if reason.is(ofItem) {
			next[reason] = Later(next[reason], p.Began.Add(hourly))
		}
	}
	s.NotBefore = next
}

// setResult notes the result of a reconciliation. What was inconclusive is compared once more with the next; what that one had
// compared for the second time is not.
func (s *State) setResult(p *Pass, outcome Outcome) {
	first := &p.Gaps[0]
	if first.Reason() != Reconcile || first.Second {
		return
	}
	from := p.From
	if first.Scope.All() {
		if !s.Inconclusive.IsZero() {
			from = Later(from, s.Result.To)
		}
		s.Result = Result{Outcome: outcome, To: p.To}
		s.Inconclusive = time.Time{}
	}
	if outcome == Inconclusive && from.Before(p.To) && (s.Inconclusive.IsZero() || from.Before(s.Inconclusive)) {
		s.Inconclusive = from
	}
}

// retry opens a gap for what could not be read in a pass, to be tried again with back-off.
func (s *State) retry(p *Pass, scope Scope, now time.Time) {
	left := p.Gaps[0]
	for _, g := range p.Gaps[1:] {
		left.merge(&g)
	}
	left.Scope = scope
	left.NotBefore = now.Round(0).UTC().Add(min(minRetry<<min(left.Attempts, 10), maxRetry))
	left.Attempts++
	s.insert(left)
}

// Abort ends the pass, if there is one, because no user can be read. Its gaps are tried again with back-off.
func (s *State) Abort(now time.Time) {
	if p := s.Pass; p != nil {
		s.Pass = nil
		s.pace(p, 0, now)
		s.retry(p, p.Scope(), now)
	}
}
