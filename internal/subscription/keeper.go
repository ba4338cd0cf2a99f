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

// Manager sees to it that every wanted resource has a subscription that lives.
type Manager struct {
	s     Settings
	inbox *inbox

	// All up to mu belongs to Run.
	resources     []*resourceState
	list, orphans retryState
	// keyConflicts are known by path, and keyConflict is the failure that they are.
	keyConflicts map[string]keyConflict
	keyConflict  retryState
	budget       passBudget
	// hold is the time before which no call is made at all, outage counts failures in a row that concerned all calls.
	hold   time.Time
	outage int
	// looked says that the list was read at least once; recheck that an event asks for reading it again.
	looked, recheck      bool
	lastCheck, nextCheck time.Time
	known                map[string]string
	knownChanged         bool
	// reauthorizationRequestedAt is since when Graph waits for a reauthorization, by subscription.
	reauthorizationRequestedAt map[string]time.Time
	gone                       map[string]bool
	reported                   []string
	// cutOff says that a creation was under way when Run ended: it may have succeeded all the same.
	cutOff bool

	mu   sync.Mutex
	ends []time.Time // guarded by mu: when each wanted subscription ends; nil until every one has lived
}

// New makes a keeper. It does nothing until Run.
func New(s Settings) *Manager {
	k := &Manager{
		s:       s.withDefaults(),
		inbox:   newInbox(),
		list:    retryState{name: "list"},
		orphans: retryState{name: "surplus"},

		keyConflicts: map[string]keyConflict{},
		keyConflict:  retryState{name: "notification_url"},

		known: map[string]string{},
		gone:  map[string]bool{},

		reauthorizationRequestedAt: map[string]time.Time{},
	}
	listed := map[string]bool{}
	for i, resource := range s.Resources {
		if !listed[canonical(resource)] {
			listed[canonical(resource)] = true
			k.resources = append(k.resources, newResourceState(resource, i))
		}
	}
	for _, known := range s.Known {
		k.known[known.ID] = known.CertificateID
		if !known.ReauthorizationRequestedAt.IsZero() {
			k.reauthorizationRequestedAt[known.ID] = known.ReauthorizationRequestedAt
		}
	}
	return k
}

// Run keeps the subscriptions until the context ends. No failure ends it earlier. It is called once.
func (k *Manager) Run(ctx context.Context) {
	if len(k.resources) == 0 {
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
func (k *Manager) Wake(e Event) { k.inbox.put(e) }

// Drain tells the Observer what events say that came too late for Run, and returns those that ask for a renewal, which are
// for the next keeper. It is called after Run has returned.
func (k *Manager) Drain() []Event {
	k.takeEvents()
	k.tellKnown()
	var left []Event
	for _, w := range k.resources {
		if w.reauthorize {
			left = append(left, Event{SubscriptionID: w.sub.ID, Kind: ReauthorizationRequired})
		}
	}
	return left
}

// TimeLeft returns how long the wanted subscription that ends first still lives, never less than zero; false while any of
// them has not lived yet.
func (k *Manager) TimeLeft(now time.Time) (time.Duration, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ends) == 0 {
		return 0, false
	}
	return max(0, slices.MinFunc(k.ends, time.Time.Compare).Sub(now)), true
}

// step does all that is due now.
func (k *Manager) step(ctx context.Context) {
	now := time.Now()
	k.expire(now)
	k.takeEvents() // what they say is noted also while no call may be made
	k.tellKnown()
	k.pause(now)
	if !now.Before(k.hold) {
		k.budget = passBudget{until: now.Add(longestTurn)}
		if !k.looked {
			// Without a list it is not known whose the events are.
			k.checkIfDue(ctx)
		}
		k.takeEvents()
		k.pause(now)
		k.renewDue(ctx)
		k.checkIfDue(ctx)
		if !k.budget.failed {
			k.outage = 0
		}
	}
	k.publish()
	k.report()
}

// next returns when something is due again.
func (k *Manager) next() time.Time {
	at := k.checkAt()
	for _, w := range k.resources {
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
func (k *Manager) checkAt() time.Time {
	if k.list.err != nil {
		return later(k.list.retryAt, k.lastCheck.Add(checkSpacing))
	}
	at := k.nextCheck
	for _, w := range k.resources {
		if check, needed := w.checkAt(); needed {
			at = earlier(at, check)
		}
	}
	if k.orphans.err != nil {
		at = earlier(at, k.orphans.retryAt)
	}
	if k.recheck {
		at = earlier(at, k.lastCheck.Add(recheckSpacing))
	}
	return later(at, k.lastCheck.Add(checkSpacing))
}

func (k *Manager) checkIfDue(ctx context.Context) {
	if k.mayCall(ctx) && !time.Now().Before(k.checkAt()) {
		k.check(ctx)
	}
}

// takeEvents notes what the events ask for, as soon as it is known which subscriptions are ours.
func (k *Manager) takeEvents() {
	if !k.looked {
		return
	}
	pending := k.inbox.take()
	if len(pending) == 0 {
		return
	}
	for _, w := range k.resources {
		happened, found := pending[w.sub.ID]
		if !found || !w.active {
			continue
		}
		switch {
		case happened.removed:
			k.markLost(w, ReasonRemoved)
			continue
		case happened.missed:
			k.interrupt(w, ReasonMissed, w.aliveAt)
			k.recheck = true
		}
		if happened.reauthorize {
			k.requestReauthorization(w, time.Now())
		}
	}
}

// expire drops subscriptions whose time has passed.
func (k *Manager) expire(now time.Time) {
	for _, w := range k.resources {
		if w.active && expired(w.sub, now) {
			k.markLost(w, ReasonExpired)
		}
	}
}

// publish shows the outside what changed.
func (k *Manager) publish() {
	k.mu.Lock()
	k.ends = k.endings()
	k.mu.Unlock()
	k.tellKnown()
}

// tellKnown hands over what the next run has to know.
func (k *Manager) tellKnown() {
	if !k.knownChanged {
		return
	}
	k.knownChanged = false
	known := make([]Known, 0, len(k.known))
	for _, id := range slices.SortedFunc(maps.Keys(k.known), strings.Compare) {
		known = append(known, Known{ID: id, CertificateID: k.known[id], ReauthorizationRequestedAt: k.reauthorizationRequestedAt[id]})
	}
	k.s.Observer.Known(known)
}

// endings returns when each wanted subscription ends or ended, nil until every one has lived.
func (k *Manager) endings() []time.Time {
	ends := make([]time.Time, 0, len(k.resources))
	for _, w := range k.resources {
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

func (k *Manager) remember(id, certificateID string) {
	if was, known := k.known[id]; !known || was != certificateID {
		k.known[id] = certificateID
		k.knownChanged = true
	}
}

func (k *Manager) forget(id string) {
	delete(k.gone, id)
	delete(k.reauthorizationRequestedAt, id)
	if _, known := k.known[id]; known {
		delete(k.known, id)
		k.knownChanged = true
	}
}
