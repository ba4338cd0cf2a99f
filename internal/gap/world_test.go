// SPDX-License-Identifier: Apache-2.0

package gap_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// The documented limits of Graph, and what the collector does beside the rules.
const (
	graphDelay    = time.Hour
	graphRetries  = 4 * time.Hour
	warmup        = 5 * time.Minute
	retryDeadline = 4*time.Hour + 30*time.Minute
	overlap       = 5 * time.Minute
	restFor       = 72 * time.Hour
	minRest       = 24 * time.Hour
)

// interaction is one that a user of the tenant had.
type interaction struct {
	user, resource int
	created        time.Time
	inHistory      time.Time // when the history has it
	// pending is true while Graph tries to notify, next is when it tries, first when it tried first.
	pending     bool
	next, first time.Time
	backoff     time.Duration
	delivered   bool
	replayed    bool
	// silent is true if its notification was lost without a trace, so that only a comparison finds it.
	silent bool
	// acknowledged is true if only a gap in the memory of the collector stands for it, since the storage failed.
	acknowledged bool
	// excuse says why it need not be delivered unless it is covered otherwise; excused is true once it was needed.
	excuse  string
	excused bool
}

// resource is what the collector wants a subscription for.
type resource struct {
	name  string
	users []int
	scope gap.Scope
	// active is whether Graph has a subscription. Notifications of what is created before warm may be missing, and until
	// blocked none can be created.
	active        bool
	warm, blocked time.Time
	reason        gap.Reason // of the interruption, if it is not active
	// interrupted and confirmed are what the process knows.
	interrupted bool
	confirmed   time.Time
}

type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool { return !t.Before(s.from) && !t.After(s.to) }

// world is the tenant, Graph and the collector. Times are true unless it is said that they are by the collector's clock.
type world struct {
	random       *rand.Rand
	rules        gap.Rules
	t            time.Time
	events       []event
	failure      string
	users        []gap.User
	pace         []time.Duration // how often each user has an interaction
	resources    []*resource
	interactions []*interaction
	open         []*interaction // neither delivered nor excused
	offered      time.Time      // what was created earlier need not be found
	until        map[trouble]time.Time
	failing      map[int]time.Time // users who can't be read
	unlicensed   map[int]time.Time
	loseSilently int
	offset       time.Duration // how far the clock is ahead
	dated        bool          // whether the answers of Graph have a date
	replaysAt    []time.Time   // when Rules.Replays were configured
	passes       []time.Time
	rested       map[int]bool // users who ever had no license

	// The collector: its memory, and what storage holds of it.
	memory, disk memory
	encoded      *gap.State // disk.state as it is read, nil if that was not tried yet
	running      bool
	startAt      time.Time
	nextCheck    time.Time
	adopted      bool
	calm         bool          // whether nothing happens any more
	unstored     bool          // whether an interruption is known that storage does not hold
	horizon      time.Time     // what was created before has been given up, by the collector's clock
	clockEver    bool          // whether the clock was ever wrong
	corrected    time.Duration // how far the clock is ahead by the answers of Graph
	hollowPass   bool          // the history answers the pass being read with nothing
}

// trouble is something that is not well for a time.
type trouble int

const (
	network trouble = iota
	inbound
	listener
	pipeline
	storageFails
	badItems
	forbidden
	unlisted
	hollow
	suspended
	wrongClock
)

var troubleNames = [...]string{"network", "inbound", "listener", "pipeline", "storage", "bad items", "forbidden", "unlisted", "hollow history", "suspended", "wrong clock"}

func (w *world) has(what trouble) bool { return w.t.Before(w.until[what]) }

// memory is what the collector knows. Storage has four values of it.
type memory struct {
	state       gap.State
	cache       cache
	people      people
	undelivered map[*interaction]refusal
}

type cache struct {
	newest  time.Time // creation that was delivered
	evicted time.Time // up to this creation it is unknown what was delivered
}

type people struct {
	seen  map[int]time.Time // when users were first seen, by the collector's clock
	rests map[int]rest
}

func (p people) clone() people { return people{maps.Clone(p.seen), maps.Clone(p.rests)} }

// refusal is of an item that was answered with 503; first is by the collector's clock.
type refusal struct{ minute, first time.Time }

// rest is the time of a user without a license. It began at since by the collector's clock.
type rest struct {
	since    time.Time
	interval span
}

// event is one line of what is printed on failure. It is formatted only then.
type event struct {
	at     time.Time
	format string
	args   []any
}

func (w *world) event(format string, args ...any) {
	w.events = append(w.events, event{w.t, format, args})
}

func (w *world) lastEvents(n int) string {
	var text strings.Builder
	for _, e := range w.events[max(0, len(w.events)-n):] {
		fmt.Fprintf(&text, "%s "+e.format+"\n", append([]any{e.at.Format(stamp)}, e.args...)...)
	}
	return text.String()
}

func (w *world) chance(p float64) bool { return w.random.Float64() < p }

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.random.Int64N(int64(b-a)+1))
}

func pick[T any](w *world, from ...T) T { return from[w.random.IntN(len(from))] }

// now is the time of the collector's clock, corrected by what Graph's answers showed.
func (w *world) now() time.Time { return w.t.Add(w.offset - w.corrected) }

// answered notes an answer of Graph.
func (w *world) answered() {
	if w.dated {
		w.corrected = max(w.offset, 0)
	}
}

// ---- The tenant and Graph

func (w *world) live(d time.Duration) {
	from := w.t
	w.t = w.t.Add(d)
	for user := range w.users {
		if w.chance(d.Hours() / w.pace[user].Hours()) {
			w.interact(user, from.Add(w.between(0, d)))
		}
	}
}

func (w *world) interact(user int, created time.Time) {
	if w.t.Before(w.unlicensed[user]) {
		return
	}
	delay := w.between(0, 5*time.Second)
	if w.chance(0.15) {
		delay = w.between(0, graphDelay)
	}
	i := &interaction{user: user, created: created, inHistory: created.Add(delay)}
	for n, r := range w.resources {
		if !slices.Contains(r.users, user) {
			continue
		}
		i.resource = n
		if i.pending = r.active && (created.After(r.warm) || w.chance(0.5)); i.pending {
			i.next = created.Add(w.between(0, 10*time.Second))
			if w.chance(0.15) {
				i.next = created.Add(w.between(0, graphDelay))
			}
		}
	}
	w.interactions = append(w.interactions, i)
	if !created.Before(w.offered) {
		w.open = append(w.open, i)
	}
}

// notify lets Graph try what is due.
func (w *world) notify() {
	for _, i := range w.open {
		for i.pending && !i.next.After(w.t) {
			if i.first.IsZero() {
				i.first = i.next
			}
			if w.attempt(i) {
				i.pending = false
				break
			}
			i.backoff = min(2*i.backoff+time.Minute, 10*time.Minute)
			i.next = i.next.Add(i.backoff)
			if i.next.Sub(i.first) > graphRetries {
				i.pending = false
				w.event("Graph gives up %s", i)
			}
		}
	}
}

// attempt reports whether the collector answered 202.
func (w *world) attempt(i *interaction) bool {
	if !w.running || w.has(suspended) || w.has(network) || w.has(inbound) || w.has(listener) {
		return false
	}
	switch {
	case w.loseSilently > 0:
		w.loseSilently--
		i.silent = true
		w.event("%s is lost silently", i)
	case w.has(pipeline):
		if _, found := w.memory.undelivered[i]; !found {
			w.memory.undelivered[i] = refusal{i.created.Truncate(time.Minute), w.now()}
		}
		return false
	case w.has(badItems):
		w.memory.state.Item(w.rules, pick(w, gap.Unverified, gap.Undecryptable, gap.Empty), strconv.FormatInt(i.created.UnixMilli(), 10), w.now())
		i.acknowledged = !w.writeState()
		delete(w.memory.undelivered, i)
		w.event("%s can't be used", i)
	default:
		w.deliver(i)
		w.prompted(i.user)
	}
	return true
}

func (w *world) deliver(i *interaction) {
	i.delivered = true
	delete(w.memory.undelivered, i)
	if i.created.After(w.memory.cache.newest) {
		w.memory.cache.newest = i.created
	}
	if _, found := w.memory.people.seen[i.user]; !found {
		w.memory.people.seen[i.user] = w.now()
	}
}

// prompted ends the rest of a user whose prompt was notified.
func (w *world) prompted(user int) {
	r, found := w.memory.people.rests[user]
	if !found || w.now().Sub(r.since) < minRest {
		return
	}
	w.memory.state.Rested(w.users[user:user+1], r.interval.from, w.now().Add(-graphDelay))
	if w.writeState() {
		delete(w.memory.people.rests, user)
		w.event("user %d may be read again", user)
	}
}

// ---- The collector

func (w *world) writeState() bool {
	if w.has(storageFails) {
		return false
	}
	w.disk.people = w.memory.people.clone() // before the state, which counts users at rest as read
	w.disk.state, w.encoded = w.memory.state.Clone(), nil
	w.disk.undelivered = maps.Clone(w.memory.undelivered) // their minutes are part of that value
	w.unstored = false
	for _, i := range w.open {
		i.acknowledged = false
	}
	return true
}

// write writes some of the values, as the loops of the collector do.
func (w *world) write(p float64) {
	if w.has(storageFails) {
		return
	}
	if w.chance(p) {
		w.disk.cache = w.memory.cache
	}
	if w.chance(p) {
		w.writeState()
	}
}

// stored returns the state as the next run reads it.
func (w *world) stored() gap.State {
	if w.encoded == nil {
		text, err := json.Marshal(w.disk.state)
		if err != nil {
			panic(err)
		}
		w.encoded = new(gap.State)
		if err := json.Unmarshal(text, w.encoded); err != nil {
			panic(err)
		}
	}
	return w.encoded.Clone()
}

func (w *world) start() {
	w.running, w.adopted, w.unstored, w.corrected, w.nextCheck = true, false, false, 0, w.t
	w.memory = memory{w.stored(), w.disk.cache, w.disk.people.clone(), map[*interaction]refusal{}}
	maps.Copy(w.memory.undelivered, w.disk.undelivered)
	for _, r := range w.resources {
		r.interrupted, r.confirmed = false, time.Time{}
	}
	first := !w.memory.state.Started
	w.memory.state.Start(w.rules, false, w.disk.cache.newest, w.now())
	if w.memory.state.Due(w.rules, w.now()); first {
		w.disk.state, w.encoded = w.memory.state.Clone(), nil // the histories begin with a start that succeeds
	}
	w.event("start, clock %s ahead: %s", w.offset, snapshot(w.memory.state.Clone()))
}

func (w *world) stop(clean bool) {
	if clean && !w.has(suspended) {
		if w.memory.state.Recent(w.rules, w.now()) && !w.has(listener) && w.anyActive() {
			w.memory.state.Confirmed(w.rules, w.now())
		}
		w.write(1)
	}
	for _, i := range w.open {
		if i.acknowledged || w.unstored {
			i.excuse = "the storage failed until the end"
		}
	}
	w.running = false
}

func (w *world) anyActive() bool {
	return slices.ContainsFunc(w.resources, func(r *resource) bool { return r.active && !r.interrupted && !r.confirmed.IsZero() })
}

func (w *world) collect() {
	if !w.running && !w.startAt.After(w.t) {
		w.start()
	}
	if !w.running || w.has(suspended) {
		return
	}
	if w.rules.Subscribed && !w.nextCheck.After(w.t) && !w.has(network) {
		w.nextCheck = w.t.Add(w.rules.CheckInterval)
		w.checkSubscriptions()
	}
	w.expireUndelivered()
	w.memory.state.Due(w.rules, w.now())
	if !w.has(network) {
		w.backfill()
	}
	if w.running {
		w.write(0.8)
	}
}

func (w *world) checkSubscriptions() {
	w.answered()
	s, now := &w.memory.state, w.now()
	for _, r := range w.resources {
		switch {
		case r.active && !w.adopted:
			s.Adopted(now)
		case !r.active && !r.interrupted:
			s.Interrupted(r.name, r.reason, r.scope, r.confirmed, now)
			r.interrupted = true
			w.unstored = !w.writeState() // before there is a new subscription, which would hide that there was none
			w.event("%s is interrupted", r.name)
		}
		if !r.active && !w.t.Before(r.blocked) {
			r.active, r.warm = true, w.t.Add(warmup)
			w.event("%s is subscribed", r.name)
		}
		if r.active {
			r.confirmed = now
			if r.interrupted {
				s.Restored(r.name, now)
				r.interrupted = false
			}
		}
	}
	w.adopted = true
	switch {
	case w.has(listener):
	case w.anyActive():
		s.Confirmed(w.rules, now)
	case !slices.ContainsFunc(w.resources, func(r *resource) bool { return !r.interrupted }):
		s.AllInterrupted(w.rules, now)
	}
}

func (w *world) expireUndelivered() {
	var minutes []time.Time
	for i, r := range w.memory.undelivered {
		if w.now().Sub(r.first) >= retryDeadline || r.first.After(w.now()) {
			minutes = append(minutes, r.minute)
			delete(w.memory.undelivered, i)
		}
	}
	if len(minutes) == 0 {
		return
	}
	slices.SortFunc(minutes, time.Time.Compare)
	w.memory.state.Undelivered(minutes)
	w.event("%d items were not delivered", len(minutes))
}

func (w *world) listed() bool { return len(w.resources) > 1 || !w.has(unlisted) }

func (w *world) known() gap.Users {
	u := gap.Users{Listed: w.listed()}
	for _, at := range w.memory.people.seen {
		if at.After(u.NewestSeen) {
			u.NewestSeen = at
		}
	}
	return u
}

// maxPassesAtOnce is more than there are reasons to read something at one time.
const maxPassesAtOnce = 40

func (w *world) backfill() {
	w.answered()
	w.horizon = maxTime(w.horizon, w.now().Add(-w.rules.MaxGap))
	s := &w.memory.state
	idle := false
	for range maxPassesAtOnce {
		s.Due(w.rules, w.now())
		w.excuseLost(s.Expire(w.rules, w.now()))
		if s.Pass == nil {
			s.Begin(w.known(), w.now())
			if s.Pass == nil {
				at := s.NextAt(w.rules, w.known(), w.now())
				if at.After(w.now()) {
					return
				}
				if idle {
					w.fail("something is due at %s and nothing begins: %s", at, describeState(s))
				}
				idle = true // what was too old has been given up
				continue
			}
			w.passes = append(w.passes, w.t)
			w.hollowPass = w.has(hollow) && s.Pass.Gaps[0].Reason() == gap.Reconcile
			w.event("pass begins: %s", passText{s.Pass})
			w.write(0.9)
		}
		if w.has(pipeline) || !w.read() {
			w.happenInPass()
			return
		}
		w.write(0.5)
	}
	w.fail("a loop of readings: %s", describeState(s))
}

// read reads some users of the pass, and reports whether it ended.
func (w *world) read() bool {
	s := &w.memory.state
	p := s.Pass
	if w.has(forbidden) && p.Cursor == nil {
		s.Abort(w.now())
		w.event("pass is aborted")
		return true
	}
	scope := p.Scope()
	left := 1 + w.random.IntN(3*len(w.users)/2)
	for user, id := range w.users {
		if p.Cursor != nil && id.Compare(*p.Cursor) <= 0 || !w.selects(p, scope, user) {
			continue
		}
		if left--; left < 0 {
			return false
		}
		if w.t.Before(w.failing[user]) || w.has(forbidden) {
			p.Failed = append(p.Failed, id)
		} else {
			w.readUser(p, user)
		}
		p.Cursor = &id
	}
	end := gap.End{Partial: w.partial(p), Failed: p.Failed, Took: time.Duration(len(w.users)) * time.Second}
	if p.Gaps[0].Reason() == gap.Reconcile {
		w.compared(p, &end)
	}
	s.Finish(end, w.now())
	w.event("pass ends, partial %t, %d failed, %s: %s", end.Partial, len(p.Failed), end.Outcome, snapshot(s.Clone()))
	return true
}

func (w *world) partial(p *gap.Pass) bool { return !w.listed() && len(p.Scope().Users) == 0 }

// selects reports whether a user is read in a pass.
func (w *world) selects(p *gap.Pass, scope gap.Scope, user int) bool {
	p.Partial = p.Partial || w.partial(p)
	if len(scope.Users) > 0 {
		return slices.Contains(scope.Users, w.users[user])
	}
	first, seen := w.memory.people.seen[user]
	if !seen {
		return w.listed()
	}
	return !first.Before(scope.SeenSince)
}

func (w *world) readUser(p *gap.Pass, user int) {
	from, to := p.From, p.To
	if r, resting := w.memory.people.rests[user]; resting {
		if w.now().Sub(r.since) < restFor && !w.now().Before(r.since) {
			r.interval.from, r.interval.to = minTime(r.interval.from, p.From), maxTime(r.interval.to, p.To)
			w.memory.people.rests[user] = r
			return
		}
		from, to = minTime(from, r.interval.from), maxTime(to, r.interval.to)
		delete(w.memory.people.rests, user)
		if w.t.Before(w.unlicensed[user]) {
			for _, i := range w.open {
				if i.user == user && r.interval.has(i.created) {
					i.excuse = "no license for long"
				}
			}
		}
	}
	if w.t.Before(w.unlicensed[user]) {
		w.memory.people.rests[user] = rest{w.now(), span{p.From, p.To}}
		w.event("user %d has no license", user)
		return
	}
	reconcile, replay := p.Gaps[0].Reason() == gap.Reconcile, p.Gaps[0].Reason() == gap.Replay
	read := span{from.Add(-overlap), to}
	if reconcile {
		read.from = from
	}
	for _, i := range w.interactions {
		if i.user != user || !read.has(i.created) || i.inHistory.After(w.t) {
			continue
		}
		i.replayed = i.replayed || replay || !p.Scope().SeenSince.IsZero()
		switch {
		case i.delivered || w.hollowPass:
		case reconcile && !i.created.After(w.memory.cache.evicted):
			i.excuse = "the day was incomplete"
		default:
			w.deliver(i)
		}
	}
}

// compared ends a reconciliation.
func (w *world) compared(p *gap.Pass, end *gap.End) {
	end.Outcome = gap.Complete
	if w.hollowPass {
		end.Outcome = gap.Inconclusive
	}
	twice := p.Scope().All() && !w.memory.state.Inconclusive.IsZero()
	for _, i := range w.open {
		switch _, seen := w.memory.people.seen[i.user]; {
		case !(span{p.From, p.To}).has(i.created):
		case w.hollowPass && twice && i.created.Before(w.memory.state.Result.To):
			i.excuse = "inconclusive twice"
		case p.Partial && !seen:
			i.excuse = "the day was complete for the users seen"
		}
	}
}

// excuseLost excuses what was reported as given up.
func (w *world) excuseLost(losses []gap.Loss) {
	for _, lost := range losses {
		w.event("given up: %s %s to %s", lost.Reason, lost.From, lost.To)
		if w.offset <= 0 && lost.To.After(w.t.Add(-w.rules.MaxGap)) {
			w.fail("given up too early")
		}
		for _, i := range w.open {
			if (span{lost.From, lost.To}).has(i.created) {
				i.excuse = "reported as lost"
			}
		}
	}
}

func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ---- What is printed

const stamp = "02 15:04:05"

func (i *interaction) String() string {
	return fmt.Sprintf("interaction of user %d at %s, in the history at %s, notified from %s, silent %t", i.user, i.created.Format(stamp),
		i.inHistory.Format(stamp), i.first.Format(stamp), i.silent)
}

// snapshot and passText are described when they are printed.
type snapshot gap.State

func (s snapshot) String() string { return describeState((*gap.State)(&s)) }

type passText struct{ pass *gap.Pass }

func (p passText) String() string { return describePass(p.pass) }

func describeGap(g gap.Gap) string {
	to := "open for " + g.Cause
	if !g.To.IsZero() {
		to = g.To.Format(stamp)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%v %s - %s", g.Reasons, g.From.Format(stamp), to)
	for _, user := range g.Scope.Users {
		fmt.Fprintf(&text, " user %d", user[0])
	}
	if !g.Scope.SeenSince.IsZero() {
		text.WriteString(" seen since " + g.Scope.SeenSince.Format(stamp))
	}
	if g.Second {
		text.WriteString(" second")
	}
	if !g.NotBefore.IsZero() {
		text.WriteString(" not before " + g.NotBefore.Format(stamp))
	}
	return text.String()
}

func describePass(p *gap.Pass) string {
	var text []string
	for _, g := range p.Gaps {
		text = append(text, describeGap(g))
	}
	return strings.Join(text, ", ")
}

func describeState(s *gap.State) string {
	text := []string{"checkpoint " + s.Checkpoint.Format(stamp) + ", reconciled " + s.Reconciled.Format(stamp) + ", polled " + s.Polled.Format(stamp)}
	for _, g := range s.Gaps {
		text = append(text, describeGap(g))
	}
	if s.Pass != nil {
		text = append(text, "pass: "+describePass(s.Pass))
	}
	return strings.Join(text, "\n\t\t")
}
