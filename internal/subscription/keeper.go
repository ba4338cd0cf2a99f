// Package subscription keeps the Graph subscriptions of a receiver alive.
package subscription

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// checkSpacing is the shortest time between two lists. Graph allows 25 in 20 s:
	// https://learn.microsoft.com/graph/throttling-limits
	checkSpacing = time.Second
	// recheckSpacing is the shortest time between two lists that events ask for.
	recheckSpacing = 10 * time.Second
)

// Keeper sees to it that every wanted resource has a subscription that lives.
type Keeper struct {
	s     Settings
	inbox *inbox

	// All up to mu belongs to Run.
	watches      []*watch
	list, strays attempt
	// keyConflicts are known by path, and keyConflict is the failure that they are.
	keyConflicts map[string]keyConflict
	keyConflict  attempt
	turn         turn
	// hold is the time before which no call is made at all, outage counts failures in a row that concerned all calls.
	hold   time.Time
	outage int
	// looked says that the list was read at least once; recheck that an event asks for reading it again.
	looked, recheck      bool
	lastCheck, nextCheck time.Time
	known                map[string]string
	knownChanged         bool
	// unanswered is since when Graph waits for a reauthorization, by subscription.
	unanswered map[string]time.Time
	gone       map[string]bool
	reported   []string
	// cutOff says that a creation was under way when Run ended: it may have succeeded all the same.
	cutOff bool

	mu   sync.Mutex
	ends []time.Time // guarded by mu: when each wanted subscription ends; nil until every one has lived
}

// New makes a keeper. It does nothing until Run.
func New(s Settings) *Keeper {
	k := &Keeper{
		s:      s.withDefaults(),
		inbox:  newInbox(),
		list:   attempt{name: "list"},
		strays: attempt{name: "surplus"},

		keyConflicts: map[string]keyConflict{},
		keyConflict:  attempt{name: "notification_url"},

		known: map[string]string{},
		gone:  map[string]bool{},

		unanswered: map[string]time.Time{},
	}
	listed := map[string]bool{}
	for i, resource := range s.Resources {
		if !listed[canonical(resource)] {
			listed[canonical(resource)] = true
			k.watches = append(k.watches, newWatch(resource, i))
		}
	}
	for _, known := range s.Known {
		k.known[known.ID] = known.CertificateID
		if !known.Unanswered.IsZero() {
			k.unanswered[known.ID] = known.Unanswered
		}
	}
	return k
}

// Run keeps the subscriptions until the context ends. No failure ends it earlier. It is called once.
func (k *Keeper) Run(ctx context.Context) {
	if len(k.watches) == 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.inbox.wake:
		}
		// Both may be ready, and then either is chosen.
		if ctx.Err() != nil {
			return
		}
		k.step(ctx)
		timer.Reset(time.Until(k.next()))
	}
}

// Wake takes in an authentic lifecycle event. It never blocks. Events of subscriptions that are not ours change nothing.
func (k *Keeper) Wake(e Event) { k.inbox.put(e) }

// Drain tells the Observer what events say that came too late for Run, and returns those that ask for a renewal, which are
// for the next keeper. It is called after Run has returned.
func (k *Keeper) Drain() []Event {
	k.takeEvents()
	k.tellKnown()
	var left []Event
	for _, w := range k.watches {
		if w.reauthorize {
			left = append(left, Event{SubscriptionID: w.sub.ID, Kind: ReauthorizationRequired})
		}
	}
	return left
}

// TimeLeft returns how long the wanted subscription that ends first still lives, never less than zero; false while any of
// them has not lived yet.
func (k *Keeper) TimeLeft(now time.Time) (time.Duration, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ends) == 0 {
		return 0, false
	}
	return max(0, slices.MinFunc(k.ends, time.Time.Compare).Sub(now)), true
}

// step does all that is due now.
func (k *Keeper) step(ctx context.Context) {
	now := time.Now()
	k.expire(now)
	k.takeEvents() // what they say is noted also while no call may be made
	k.tellKnown()
	k.pause(now)
	if !now.Before(k.hold) {
		k.turn = turn{until: now.Add(longestTurn)}
		if !k.looked {
			// Without a list it is not known whose the events are.
			k.checkIfDue(ctx)
		}
		k.takeEvents()
		k.pause(now)
		k.renewDue(ctx)
		k.checkIfDue(ctx)
		if !k.turn.failed {
			k.outage = 0
		}
	}
	k.publish()
	k.report()
}

// next returns when something is due again.
func (k *Keeper) next() time.Time {
	at := k.checkAt()
	for _, w := range k.watches {
		if patch, needed := w.patchAt(); needed {
			at = earlier(at, patch)
		}
		if w.active && !w.sub.Expiration.IsZero() {
			at = earlier(at, w.sub.Expiration)
		}
	}
	return later(at, k.hold)
}

// checkAt returns when the list is to be read again.
func (k *Keeper) checkAt() time.Time {
	if k.list.err != nil {
		return later(k.list.retryAt, k.lastCheck.Add(checkSpacing))
	}
	at := k.nextCheck
	for _, w := range k.watches {
		if check, needed := w.checkAt(); needed {
			at = earlier(at, check)
		}
	}
	if k.strays.err != nil {
		at = earlier(at, k.strays.retryAt)
	}
	if k.recheck {
		at = earlier(at, k.lastCheck.Add(recheckSpacing))
	}
	return later(at, k.lastCheck.Add(checkSpacing))
}

func (k *Keeper) checkIfDue(ctx context.Context) {
	if k.mayCall(ctx) && !time.Now().Before(k.checkAt()) {
		k.check(ctx)
	}
}

// takeEvents notes what the events ask for, as soon as it is known which subscriptions are ours.
func (k *Keeper) takeEvents() {
	if !k.looked {
		return
	}
	pending := k.inbox.take()
	if len(pending) == 0 {
		return
	}
	for _, w := range k.watches {
		happened, found := pending[w.sub.ID]
		if !found || !w.active {
			continue
		}
		switch {
		case happened.removed:
			k.lose(w, ReasonRemoved)
			continue
		case happened.missed:
			k.interrupt(w, ReasonMissed, w.aliveAt)
			k.recheck = true
		}
		if happened.reauthorize {
			k.ask(w, time.Now())
		}
	}
}

// expire drops subscriptions whose time has passed.
func (k *Keeper) expire(now time.Time) {
	for _, w := range k.watches {
		if w.active && expired(w.sub, now) {
			k.lose(w, ReasonExpired)
		}
	}
}

// publish shows the outside what changed.
func (k *Keeper) publish() {
	k.mu.Lock()
	k.ends = k.endings()
	k.mu.Unlock()
	k.tellKnown()
}

// tellKnown hands over what the next run has to know.
func (k *Keeper) tellKnown() {
	if !k.knownChanged {
		return
	}
	k.knownChanged = false
	known := make([]Known, 0, len(k.known))
	for _, id := range slices.SortedFunc(maps.Keys(k.known), strings.Compare) {
		known = append(known, Known{ID: id, CertificateID: k.known[id], Unanswered: k.unanswered[id]})
	}
	k.s.Observer.Known(known)
}

// endings returns when each wanted subscription ends or ended, nil until every one has lived.
func (k *Keeper) endings() []time.Time {
	ends := make([]time.Time, 0, len(k.watches))
	for _, w := range k.watches {
		switch {
		case !w.lived:
			return nil
		case w.active:
			ends = append(ends, w.sub.Expiration)
		default:
			ends = append(ends, w.endedAt)
		}
	}
	return ends
}

func (k *Keeper) remember(id, certificateID string) {
	if was, known := k.known[id]; !known || was != certificateID {
		k.known[id] = certificateID
		k.knownChanged = true
	}
}

func (k *Keeper) forget(id string) {
	delete(k.gone, id)
	delete(k.unanswered, id)
	if _, known := k.known[id]; known {
		delete(k.known, id)
		k.knownChanged = true
	}
}
