// SPDX-License-Identifier: Apache-2.0

package gap_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// TestRules_NothingLostInRandomHistories tries random histories of a tenant, of Graph and of a collector with the rules of this
// package. After each step, each interaction that Graph offered must be delivered, still owed by Graph, in a gap that will be
// read, or in the interval of the next reconciliation; and once all has been well for long enough, all must be delivered.
//
// GAP_HISTORIES is the number of histories, GAP_SEED the first seed, GAP_EVENTS how many events a failure shows.
func TestRules_NothingLostInRandomHistories(t *testing.T) {
	t.Parallel()
	histories, seed := fromEnv(t, "GAP_HISTORIES", 500), fromEnv(t, "GAP_SEED", 1)
	const workers = 4
	var failed atomic.Bool
	for worker := range workers {
		t.Run(fmt.Sprintf("part %d", worker+1), func(t *testing.T) {
			t.Parallel()
			for i := seed + worker; i < seed+histories && !failed.Load(); i += workers {
				w := newWorld(uint64(i))
				w.run()
				if w.failure != "" {
					failed.Store(true)
					t.Fatalf("GAP_SEED=%d GAP_HISTORIES=1: %s\nrules: %+v\nstate: %s\nthe last events:\n%s",
						i, w.failure, w.rules, describeState(&w.memory.state), w.lastEvents(fromEnv(t, "GAP_EVENTS", 80)))
				}
			}
		})
	}
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

// newWorld returns a tenant before its collector is started for the first time.
func newWorld(seed uint64) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 1)),
		t:      time.Date(2026, time.March, 10, 0, 0, 0, 0, time.UTC),
		until:  map[trouble]time.Time{}, failing: map[int]time.Time{}, unlicensed: map[int]time.Time{}, rested: map[int]bool{},
	}
	w.dated = w.chance(0.5)
	for n := range 3 + w.random.IntN(3) {
		w.users = append(w.users, gap.User{byte(n)})
		w.pace = append(w.pace, pick(w, 90*time.Minute, 90*time.Minute, 20*time.Hour))
	}
	w.rules = gap.Rules{CheckInterval: pick[time.Duration](w, 5, 15, 30) * time.Minute, MaxGap: pick(w, 48*time.Hour, 7*24*time.Hour), Lookback: pick(w, 0, 0, 12*time.Hour, 60*time.Hour)}
	w.disk.people = people{map[int]time.Time{}, map[int]rest{}}
	begin := w.t.Add(w.between(time.Hour, 70*time.Hour))
	w.offered = begin.Add(w.rules.CheckInterval - w.rules.Lookback)
	all := make([]int, len(w.users))
	for n := range all {
		all[n] = n
	}
	switch w.random.IntN(5) {
	case 0: // history alone
		w.rules.PollInterval = pick(w, 15*time.Minute, 2*time.Hour)
		w.offered = minTime(w.offered, begin.Add(w.rules.CheckInterval-w.rules.PollInterval))
	case 1: // a subscription for each user
		for n, user := range w.users {
			w.resources = append(w.resources, &resource{name: fmt.Sprintf("user %d", n), users: []int{n}, scope: gap.Scope{Users: []gap.User{user}}, reason: gap.Subscription})
		}
	default:
		w.resources = append(w.resources, &resource{name: "tenant", users: all, reason: gap.Subscription})
	}
	w.rules.Subscribed = len(w.resources) > 0
	if w.rules.Subscribed && w.chance(0.7) {
		w.rules.ReconcileInterval, w.rules.ReconcileDelay = 24*time.Hour, 5*time.Hour+30*time.Minute
	}
	for w.t.Before(begin) {
		w.live(min(w.between(10*time.Minute, time.Hour), begin.Sub(w.t)))
	}
	for _, i := range w.open {
		if w.rules.Lookback == 0 && w.rules.Subscribed {
			i.excuse = "before the first start"
		}
	}
	return w
}

// run lives through a history, and a time after it in which all is well.
func (w *world) run() {
	w.until[unlisted] = w.t.Add(pick(w, 0, 0, 6*time.Hour, 1000*time.Hour))
	end := w.t.Add(w.between(6*time.Hour, 96*time.Hour))
	for w.t.Before(end) && w.failure == "" {
		w.step(w.stepLength())
		if w.chance(0.2) {
			w.happen()
			w.check()
		}
	}
	w.heal()
	heal := w.t
	prompts := heal.Add(26 * time.Hour) // these end the rests of users
	for end = heal.Add(96 * time.Hour); w.t.Before(end) && w.failure == ""; {
		w.step(w.between(10*time.Minute, time.Hour))
		if !prompts.IsZero() && w.t.After(prompts) {
			prompts = time.Time{}
			for user := range w.users {
				w.interact(user, w.t)
			}
		}
	}
	if w.failure == "" {
		w.checkEnd(end.Add(-4 * time.Hour))
	}
}

func (w *world) stepLength() time.Duration {
	switch n := w.random.IntN(10); {
	case n < 1:
		return w.between(time.Second, time.Minute)
	case n < 7:
		return w.between(time.Minute, 6*time.Minute)
	default:
		return w.between(6*time.Minute, 30*time.Minute)
	}
}

func (w *world) step(d time.Duration) {
	for ; d > 0 && w.failure == ""; d -= w.rules.CheckInterval {
		w.live(min(d, w.rules.CheckInterval))
		w.notify()
		if w.offset != 0 && !w.has(wrongClock) {
			w.offset, w.corrected = 0, 0
			w.event("the clock is right again")
		}
		w.collect()
	}
	w.check()
}

// happen lets something happen.
func (w *world) happen() {
	reconciled := w.rules.ReconcileInterval > 0
	short := w.between(time.Minute, 40*time.Minute)
	long := pick(w, short, w.between(time.Hour, 7*time.Hour), w.between(time.Hour, 30*time.Hour))
	switch n := w.random.IntN(17); n {
	case 0, 1, 2:
		w.restart(pick(w, time.Second, short, long))
	case 3:
		w.trouble(pick(w, network, listener), long)
	case 4:
		w.trouble(pipeline, long)
	case 5:
		if w.trouble(inbound, short); reconciled {
			w.trouble(inbound, long)
		}
	case 6, 7:
		w.loseSubscription(pick(w, 0, short, long))
	case 8:
		w.trouble(badItems, short)
	case 9:
		w.trouble(storageFails, short)
	case 10:
		w.trouble(forbidden, pick(w, long, 60*time.Hour))
	case 11:
		if w.has(unlisted) && w.chance(0.7) {
			w.until[unlisted] = w.t
			w.event("the directory may be listed again")
		} else {
			w.trouble(unlisted, pick(w, short, long))
		}
	case 12:
		w.failing[w.random.IntN(len(w.users))] = w.t.Add(min(long, 12*time.Hour))
		w.event("a user fails for %s", long)
	case 13:
		user := w.random.IntN(len(w.users))
		w.rested[user] = true
		w.unlicensed[user] = w.t.Add(pick(w, long, 40*time.Hour, 80*time.Hour))
		w.event("user %d has no license until %s", user, w.unlicensed[user].Format(stamp))
	case 14:
		w.trouble(suspended, long)
	default:
		if reconciled {
			w.happenBesideReconciliation(long)
		} else {
			w.replay()
		}
	}
}

// happenInPass lets something happen in the middle of a pass.
func (w *world) happenInPass() {
	switch n := w.random.IntN(10); {
	case w.calm:
	case n == 0:
		w.write(0.8)
		w.restart(time.Second)
	case n < 3 && w.has(unlisted):
		w.until[unlisted] = w.t
		w.event("the directory may be listed again, in a pass")
	}
}

// happenBesideReconciliation lets something happen that only a reconciliation can make good.
func (w *world) happenBesideReconciliation(d time.Duration) {
	switch w.random.IntN(5) {
	case 0:
		w.loseSilently = 1 + w.random.IntN(4)
	case 1:
		w.trouble(hollow, pick(w, d, 30*time.Hour))
		w.loseSilently++
	case 2:
		if w.running && w.chance(0.3) {
			w.memory.cache.evicted = w.memory.cache.newest.Add(-w.between(0, 20*time.Hour))
			w.event("evicted up to %s", w.memory.cache.evicted.Format(stamp))
		}
	case 3:
		w.replay()
	case 4:
		if w.memory.state.FirstConfirmed.IsZero() || w.offset != 0 {
			return
		}
		w.offset = pick[time.Duration](w, 1, -1) * pick(w, w.between(2*time.Minute, 3*time.Hour), w.between(2*24*time.Hour, 20*24*time.Hour))
		w.clockEver = true
		w.event("the clock jumps by %s", w.offset)
		w.trouble(wrongClock, d)
	}
}

func (w *world) trouble(what trouble, d time.Duration) {
	w.until[what] = maxTime(w.until[what], w.t.Add(d))
	w.event("%s is not well until %s", troubleNames[what], w.until[what].Format(stamp))
}

func (w *world) restart(d time.Duration) {
	if !w.running || w.rules.Subscribed && w.disk.state.FirstConfirmed.IsZero() {
		return
	}
	clean := w.chance(0.4)
	w.event("the collector ends, cleanly: %t", clean)
	w.stop(clean)
	w.startAt = w.t.Add(d)
}

// loseSubscription ends a subscription or all, with what is still to be notified for it.
func (w *world) loseSubscription(blocked time.Duration) {
	one := w.random.IntN(len(w.resources) + 1)
	for n, r := range w.resources {
		if !r.active || one < len(w.resources) && n != one {
			continue
		}
		r.active, r.blocked = false, w.t.Add(blocked)
		w.event("Graph loses the subscription for %s", r.name)
		for _, i := range w.open {
			_, tracked := w.memory.undelivered[i]
			_, stored := w.disk.undelivered[i]
			recent := w.t.Sub(i.created) < graphDelay || tracked && stored
			if i.resource == n && recent && w.chance(0.5) {
				i.pending = false
			}
		}
	}
}

// replay adds an entry to the configuration at the next start.
func (w *world) replay() {
	if w.running && len(w.rules.Replays) < 3 {
		w.restart(time.Second)
		to := w.t.Add(-w.between(0, 40*time.Hour))
		replay := gap.Interval{From: to.Add(-w.between(time.Hour, 40*time.Hour)), To: to}
		if w.chance(0.5) {
			replay.Users = []gap.User{pick(w, w.users...)}
		}
		w.rules.Replays = append(w.rules.Replays, replay)
		w.replaysAt = append(w.replaysAt, w.t)
		w.event("replay %s - %s", replay.From.Format(stamp), replay.To.Format(stamp))
	}
}

func (w *world) heal() {
	w.event("all is well")
	w.calm = true
	clear(w.until)
	clear(w.failing)
	clear(w.unlicensed)
	w.loseSilently, w.offset, w.corrected, w.startAt = 0, 0, 0, w.t
	for _, r := range w.resources {
		r.blocked = time.Time{}
	}
}

// ---- The invariants

// check checks what must be true after each step.
func (w *world) check() {
	if w.failure != "" {
		return
	}
	w.open = slices.DeleteFunc(w.open, func(i *interaction) bool { return i.delivered || i.excused })
	known, horizon := w.knows(), maxTime(w.horizon, w.t.Add(-w.rules.MaxGap))
	for _, i := range w.open {
		switch {
		case i.pending || known.covers(i):
		case i.excuse != "":
			i.excused = true
		case w.rules.Subscribed && i.created.Before(w.firstActive()):
			i.excused = true // there was no subscription
		case i.acknowledged && w.running:
		case w.rules.ReconcileInterval == 0 && !i.first.IsZero() && i.first.Before(known.confirmed):
			// Graph could not deliver it in a pause too short for a gap, tried again in another pause, and gave up. Only a
			// reconciliation finds that.
			i.excused = true
		case i.created.Before(horizon) && known.unknown(i):
			i.excused = true // the end of a gap of unknown users is no loss
		case i.created.Before(horizon) && w.rules.ReconcileInterval > 0:
			i.excused = true // a comparison that waits that long is given up
		default:
			w.fail("lost: %s, rests %v\nknown: %s", i, known.people.rests, describeState(&known.state))
		}
	}
	if n := len(w.memory.state.Gaps); n > 100 {
		w.fail("%d gaps: %s", n, describeState(&w.memory.state))
	}
	w.passes = slices.DeleteFunc(w.passes, func(at time.Time) bool { return at.Before(w.t.Add(-time.Hour)) })
	if len(w.passes) > 60 {
		w.fail("%d passes within an hour", len(w.passes))
	}
}

// firstActive returns when Graph first had a subscription that delivers; the time now while it has none.
func (w *world) firstActive() time.Time {
	if first := w.memory.state.FirstConfirmed; !first.IsZero() {
		return first.Add(warmup)
	}
	return w.t
}

// knowledge is what the collector knows to be missing, with what its next check of the subscriptions will find.
type knowledge struct {
	w     *world
	state gap.State
	memory
	confirmed time.Time // the last confirmed check
}

func (w *world) knows() knowledge {
	k := knowledge{w, w.memory.state.Clone(), w.memory, w.memory.state.Checkpoint}
	if !w.running {
		k = knowledge{w, w.stored(), w.disk, w.disk.state.Checkpoint}
		k.state.Start(w.rules, false, w.disk.cache.newest, w.t)
	}
	for _, r := range w.resources {
		switch confirmed := r.confirmed; {
		case !w.running && r.active:
			k.state.Adopted(w.t)
		case !r.active && (!w.running || !r.interrupted):
			if !w.running {
				confirmed = time.Time{}
			}
			k.state.Interrupted(r.name, r.reason, r.scope, confirmed, w.t)
		}
	}
	if w.rules.Subscribed {
		k.state.Confirmed(w.rules, w.t)
	}
	return k
}

// first returns when a user was first seen, by the collector's clock.
func (k *knowledge) first(user int) time.Time { return k.people.seen[user] }

// unknown reports whether the user of an interaction was not known then.
func (k *knowledge) unknown(i *interaction) bool {
	first := k.first(i.user)
	return first.IsZero() || first.After(i.created)
}

func (k *knowledge) covers(i *interaction) bool {
	s := &k.state
	if r, found := k.people.rests[i.user]; found && r.interval.has(i.created) {
		return true
	}
	if _, tracked := k.undelivered[i]; tracked {
		return true
	}
	if k.w.rules.PollInterval > 0 && !i.created.Before(k.polledTo()) {
		return true
	}
	if k.w.rules.ReconcileInterval > 0 && !i.created.Before(k.reconciledTo()) {
		return true
	}
	for _, g := range s.Gaps {
		if k.contains(&g, i) {
			return true
		}
	}
	return s.Pass != nil && k.passCovers(s.Pass, i)
}

func (k *knowledge) polledTo() time.Time {
	if k.state.Polled.IsZero() {
		return k.w.t.Add(-k.w.rules.PollInterval)
	}
	return k.state.Polled
}

func (k *knowledge) reconciledTo() time.Time {
	to := k.state.Reconciled
	if to.IsZero() || to.After(k.w.t) {
		to = k.state.FirstConfirmed
	}
	if again := k.state.Inconclusive; !again.IsZero() {
		to = minTime(to, again)
	}
	return to
}

func (k *knowledge) contains(g *gap.Gap, i *interaction) bool {
	if g.Reason() == gap.Replay || i.created.Before(g.From) || !g.To.IsZero() && i.created.After(g.To) {
		return false
	}
	if len(g.Scope.Users) > 0 {
		return slices.Contains(g.Scope.Users, k.w.users[i.user])
	}
	first := k.first(i.user)
	return first.IsZero() || !first.Before(g.Scope.SeenSince)
}

func (k *knowledge) passCovers(p *gap.Pass, i *interaction) bool {
	id := k.w.users[i.user]
	read := p.Cursor != nil && id.Compare(*p.Cursor) <= 0 && !slices.Contains(p.Failed, id)
	reconcile := p.Gaps[0].Reason() == gap.Reconcile
	first := k.first(i.user)
	unseen := p.Partial && (first.IsZero() || !first.Before(p.Began)) && !reconcile
	return slices.ContainsFunc(p.Gaps, func(g gap.Gap) bool {
		switch {
		case !k.contains(&g, i):
			return false
		case !read || unseen && len(g.Scope.Users) == 0 || reconcile && k.w.hollowPass:
			return true
		}
		return !g.Second && !i.created.Before(p.Began.Add(-graphDelay)) // it is read once more
	})
}

// checkEnd checks what must be true once all has been well for long enough. What is newer than a time may be on its way.
func (w *world) checkEnd(newest time.Time) {
	for _, i := range w.open {
		if i.created.Before(newest) && i.excuse == "" {
			w.fail("not delivered at the end: %s, rests %v, undelivered %d", i, w.memory.people.rests, len(w.memory.undelivered))
		}
	}
	s := &w.memory.state
	if w.rules.Subscribed && s.Checkpoint.Before(w.t.Add(-time.Hour)) || w.rules.PollInterval > 0 && s.Polled.Before(w.t.Add(-3*time.Hour)) {
		w.fail("the checkpoint does not move on: %s", describeState(s))
	}
	for reason, missing := range s.Missing(w.rules, w.now()) {
		if missing > 0 {
			w.fail("%s of %s are missing at the end: %s", missing, reason, describeState(s))
		}
	}
	if to := s.Result.To; w.rules.ReconcileInterval > 0 && to.Before(w.t.Add(-31*time.Hour)) {
		w.fail("the last reconciliation ends at %s", to)
	}
	w.checkReplays()
}

// checkReplays checks that what a replay asks for was read, unless the history could not have it, or its user was not known.
func (w *world) checkReplays() {
	for n, replay := range w.rules.Replays {
		for _, i := range w.interactions {
			asked := len(replay.Users) == 0 || slices.Contains(replay.Users, w.users[i.user])
			first, seen := w.memory.people.seen[i.user]
			known := seen && !w.clockEver && first.Before(w.replaysAt[n].Add(-time.Hour)) && !w.rested[i.user]
			if asked && known && i.inHistory.Before(w.replaysAt[n]) && (span{replay.From, replay.To}).has(i.created) && !i.replayed {
				w.fail("not replayed: %s", i)
			}
		}
	}
}
