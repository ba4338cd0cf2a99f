package gap

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxGraphDelay is how late Graph may be: https://learn.microsoft.com/graph/change-notifications-overview#latency
	maxGraphDelay = time.Hour
	// openInterval is the shortest time between two passes over a gap whose cause lasts, itemInterval over gaps of items.
	openInterval, itemInterval = time.Hour, time.Hour
	// maxHole is the longest time between two gaps that are read in one pass, together with that time. A pass costs one request
	// for each user, however long it is.
	maxHole = time.Hour
	// maxWait is more than a gap is made to wait.
	maxWait = 2 * time.Hour
	// minRetry and maxRetry bound the time between two tries of what could not be read.
	minRetry, maxRetry = 5 * time.Minute, time.Hour
)

// Pass is one run over gaps that are read together. It is part of the State, so that a restart goes on where it stopped.
type Pass struct {
	Gaps  []Gap     `json:"gaps"`
	Began time.Time `json:"began"`
	// From and To are the bounds of the gaps.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Cursor is the last user, in order, up to whom all were read or have failed; nil before the first.
	Cursor *User `json:"cursor,omitempty"`
	// Failed are the users up to Cursor who could not be read.
	Failed []User `json:"failed,omitempty"`
	// Partial is true once not all users were known, so that only those already seen were read.
	Partial bool `json:"partial,omitempty"`
	// Comparison is what a reconciliation has counted up to Cursor.
	Comparison Comparison `json:"comparison,omitzero"`
}

// Comparison counts what a reconciliation compared.
type Comparison struct {
	// Users and Interactions were compared; Recovered interactions had not been delivered.
	Users, Interactions, Recovered int
}

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
func (p *Pass) Second() bool { return p.Gaps[0].Second }

// Retry reports whether the pass tries again what could not be read before.
func (p *Pass) Retry() bool {
	return slices.ContainsFunc(p.Gaps, func(g Gap) bool { return g.Attempts > 0 })
}

// Users is what is known of the users of a pass.
type Users struct {
	// Listed is true if the directory names all licensed users, or the configuration does.
	Listed bool
	// NewestSeen is when a user was first seen last; zero for never.
	NewestSeen time.Time
}

// readyAt returns when a gap can be read; false if that does not depend on the time.
func (s *State) readyAt(g *Gap, u Users, now time.Time) (time.Time, bool) {
	at := g.From.Add(time.Second)
	if g.NotBefore.Before(now.Add(maxWait)) { // else the clock has been set back
		at = later(at, g.NotBefore)
	}
	if !g.Scope.SeenSince.IsZero() && !u.Listed {
		if u.NewestSeen.Before(g.Scope.SeenSince) {
			return time.Time{}, false
		}
		if u.NewestSeen.After(now) { // for the same reason it is unknown whether anybody is new
			at = later(at, s.Paces[UsersUnknown].Ended.Add(openInterval))
		}
	}
	if g.Reason().OfItem() {
		at = later(at, g.From.Add(time.Minute)) // where items come all the time, one gap always lies partly in the future
		if !s.ItemsRead.IsZero() && !s.ItemsRead.After(now) {
			at = later(at, s.ItemsRead.Add(itemInterval))
		}
	}
	for _, reason := range g.Reasons {
		if last := s.Paces[reason]; !last.Ended.After(now) {
			at = later(at, last.Ended.Add(last.Took))
		}
	}
	return at, true
}

// NextAt returns when something is due; false if nothing will be.
func (s *State) NextAt(r Rules, u Users, now time.Time) (next time.Time, found bool) {
	note := func(at time.Time, on bool) {
		if on && (!found || at.Before(next)) {
			next, found = at, true
		}
	}
	if r.Disabled {
		return time.Time{}, false
	}
	for i := range s.Gaps {
		note(s.readyAt(&s.Gaps[i], u, now))
	}
	note(s.pollAt(r, now))
	note(s.reconcileAt(r, now))
	for _, replay := range r.Replays {
		note(now, !slices.Contains(s.Replayed, replay.key()))
	}
	return next, found
}

// Begin begins the pass that is due next, unless one is being read. State.Pass is nil if none is due.
func (s *State) Begin(r Rules, u Users, now time.Time) Changes {
	var c Changes
	for s.Pass == nil {
		first := s.nextReady(u, now)
		if first < 0 {
			break
		}
		p := &Pass{Began: now.Round(0).UTC()}
		s.take(r, p, first, now, &c)
		for i := 0; i < len(s.Gaps); {
			if at, ok := s.readyAt(&s.Gaps[i], u, now); ok && !at.After(now) && len(p.Gaps) > 0 && p.joins(&s.Gaps[i]) {
				s.take(r, p, i, now, &c)
				i = 0
				continue
			}
			i++
		}
		if len(p.Gaps) == 0 {
			continue // all of it was too old
		}
		if p.Gaps[0].Reason().OfItem() {
			s.ItemsRead = p.Began
		}
		s.Pass = p
	}
	return c
}

// nextReady returns the index of the gap to read next, -1 for none: the one that has been ready for the longest time, so that
// none waits for ever.
func (s *State) nextReady(u Users, now time.Time) int {
	next, earliest := -1, time.Time{}
	for i := range s.Gaps {
		if at, ok := s.readyAt(&s.Gaps[i], u, now); ok && !at.After(now) && (next < 0 || at.Before(earliest)) {
			next, earliest = i, at
		}
	}
	return next
}

// take moves the past part of a gap to a pass. The rest stays.
func (s *State) take(r Rules, p *Pass, i int, now time.Time, c *Changes) {
	g := s.Gaps[i]
	s.Gaps = slices.Delete(s.Gaps, i, i+1)
	if s.clip(r, &g, now, c); !g.open() && !g.From.Before(g.To) {
		s.close(&g, c)
		return
	}
	if g.open() || g.To.After(now) {
		rest := g
		rest.From, rest.NotBefore, rest.Attempts = p.Began, p.Began.Add(openInterval), 0
		if !g.open() {
			rest.NotBefore = earlier(rest.NotBefore, g.To)
		}
		g.To, g.Cause, g.live, g.Part = p.Began, "", false, true
		if rest.open() || rest.Reason() == Replay || rest.To.Before(now.Add(maxClockError)) {
			s.insert(rest, c)
		} else {
			g.Part = false // a gap that ended so far in the future was closed by a wrong clock
		}
	}
	if p.Gaps = append(p.Gaps, g); len(p.Gaps) == 1 {
		p.From, p.To = g.From, g.To
	}
	p.From, p.To = earlier(p.From, g.From), later(p.To, g.To)
}

// joins reports whether a gap is read in the same pass. Users of different gaps are read together only where that makes none of
// them read much that was not missing: it may have been delivered so long ago that this is no longer known.
func (p *Pass) joins(g *Gap) bool {
	first := &p.Gaps[0]
	if !first.readAlike(g) {
		return false
	}
	to := g.To
	if to.IsZero() {
		to = p.Began
	}
	if p.Scope().equal(g.Scope) {
		return !g.From.After(p.To.Add(maxHole)) && !p.From.After(to.Add(maxHole))
	}
	bothUsers := len(first.Scope.Users) > 0 && len(g.Scope.Users) > 0
	return bothUsers && g.From.Sub(p.From).Abs() <= maxHole && to.Sub(p.To).Abs() <= maxHole
}

// End is how a pass ended.
type End struct {
	// Partial: not all users were known, so only those already seen were read.
	Partial bool
	// Failed are users who could not be read, in order.
	Failed []User
	// Took is how long the pass took, without the time between two runs.
	Took time.Duration
	// Outcome is that of a reconciliation.
	Outcome Outcome
}

// Finish ends the pass, and opens what remains to be read.
func (s *State) Finish(_ Rules, end End, now time.Time) Changes {
	var c Changes
	p := s.Pass
	s.Pass = nil
	s.setPace(p, end.Took, now)
	s.setResult(p, end.Outcome)
	if len(end.Failed) > 0 {
		s.retry(p, Scope{Users: end.Failed}, now, &c)
	}
	for _, g := range p.Gaps {
		if (end.Partial || p.Partial) && (!g.Scope.SeenSince.IsZero() || g.Scope.All() && g.Reason() != Reconcile) {
			s.add(Gap{Reasons: []Reason{UsersUnknown}, Scope: Scope{SeenSince: p.Began}, From: g.From, To: g.To}, &c)
		}
		if !g.Part {
			s.close(&g, &c)
		}
		if late := p.Began.Add(-maxGraphDelay); !g.Second && g.Reason() != Replay && g.To.After(late) {
			g.From, g.Second, g.NotBefore, g.Attempts = later(g.From, late), true, p.Began.Add(maxGraphDelay), 0
			s.insert(g, &c)
		}
	}
	return c
}

func (s *State) setPace(p *Pass, took time.Duration, now time.Time) {
	paces := maps.Clone(s.Paces)
	if paces == nil {
		paces = map[Reason]Pace{}
	}
	for _, reason := range p.Reasons() {
		paces[reason] = Pace{Ended: now.Round(0).UTC(), Took: took}
	}
	s.Paces = paces
}

// setResult notes the result of a reconciliation. What was inconclusive is compared once more with the next.
func (s *State) setResult(p *Pass, outcome Outcome) {
	first := &p.Gaps[0]
	if first.Reason() != Reconcile || first.Second {
		return
	}
	again := false
	if first.Scope.All() {
		s.Result = Result{Outcome: outcome, To: p.To}
		again = !s.Inconclusive.IsZero()
		s.Inconclusive = time.Time{}
	}
	if outcome == Inconclusive && !again && (s.Inconclusive.IsZero() || p.From.Before(s.Inconclusive)) {
		s.Inconclusive = p.From
	}
}

// retry opens a gap for what could not be read in a pass, to be tried again with back-off.
func (s *State) retry(p *Pass, scope Scope, now time.Time, c *Changes) {
	left := p.Gaps[0]
	for _, g := range p.Gaps[1:] {
		left.merge(&g)
	}
	left.Scope, left.Part = scope, false
	left.NotBefore = now.Round(0).UTC().Add(min(minRetry<<min(left.Attempts, 10), maxRetry))
	left.Attempts++
	if !left.Second {
		c.Opened = append(c.Opened, left.Reason())
	}
	s.insert(left, c)
}

// Abort ends the pass because no user could be read. Its gaps are tried again with back-off.
func (s *State) Abort(_ Rules, took time.Duration, now time.Time) Changes {
	var c Changes
	p := s.Pass
	s.Pass = nil
	s.setPace(p, took, now)
	s.retry(p, p.Scope(), now, &c)
	for i := range p.Gaps {
		if !p.Gaps[i].Part {
			s.close(&p.Gaps[i], &c)
		}
	}
	return c
}

// Suspend puts the gaps of the pass back, to be read from the start.
func (s *State) Suspend(Rules, time.Time) Changes {
	var c Changes
	if p := s.Pass; p != nil {
		s.Pass = nil
		for _, g := range p.Gaps {
			s.insert(g, &c)
		}
	}
	return c
}
