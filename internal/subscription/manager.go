// Package subscription keeps the Graph subscriptions of a receiver alive.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
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

// check reads the list once and does what plan makes of it.
func (k *Manager) check(ctx context.Context) {
	at := time.Now()
	k.lastCheck = at
	have, err := k.s.Graph.ListSubscriptions(ctx)
	if err != nil {
		k.failed(ctx, &k.list, opList, err)
		return
	}
	k.worked(&k.list)
	k.looked, k.recheck = true, false
	k.nextCheck = at.Add(k.s.CheckInterval)

	have = k.withFresh(have, at)
	k.prune(have)
	k.noteKeyConflicts(have, at)
	wanted := make([]graph.Subscription, 0, len(k.resources))
	for _, w := range k.resources {
		wanted = append(wanted, k.s.wanted(w.resource))
	}
	actions := plan(wanted, have, k.facts(), at)
	for i, w := range k.resources {
		k.do(ctx, w, actions[i], at)
	}
	k.removeSurplus(ctx, actions[len(k.resources):])

	for _, w := range k.resources {
		if w.active && w.interruption == "" && !w.paused(at) {
			k.s.Observer.Checked(at)
			break
		}
	}
}

// do carries out what was decided for one resource.
func (k *Manager) do(ctx context.Context, w *resourceState, a action, at time.Time) {
	if w.active && w.sub.ID != a.have.ID {
		k.markLost(w, ReasonLost)
	}
	if _, wasBlocked := errors.AsType[*ConflictError](w.err); wasBlocked && a.verb != blocked {
		// The place is free: nothing is left to wait for.
		w.retryAt = time.Time{}
	}
	if w.waitsForOther && a.verb != wait {
		w.waitsForOther, w.retryAt = false, time.Time{}
	}
	switch a.verb {
	case keep, adopt:
		if !w.active || w.operation != opRenew {
			w.succeed()
		}
		k.adopt(w, a.have, at)
	case create:
		k.interrupt(w, orReason(w.interruption, ReasonAbsent), w.aliveAt)
		if !w.waits(at) && k.mayCall(ctx) {
			k.create(ctx, w, a.want)
		}
	case replace:
		if a.have.ID != "" {
			k.adopt(w, a.have, at)
		}
		if !w.waits(at) && k.mayCall(ctx) {
			k.replace(ctx, w, a)
		}
	case blocked:
		k.interrupt(w, ReasonConflict, w.aliveAt)
		k.failed(ctx, &w.retryState, opCreate, &ConflictError{ID: a.conflicting[0].ID, Host: hostOf(a.conflicting[0].NotificationURL)})
	case wait:
		k.interrupt(w, ReasonConflict, w.aliveAt)
		w.succeed()
		w.waitsForOther, w.retryAt = true, earlier(at.Add(longestBackoff), a.until)
	}
}

// adopt uses, or goes on using, a subscription that the list shows.
func (k *Manager) adopt(w *resourceState, have graph.Subscription, at time.Time) {
	if w.active {
		// A list may lag behind a grant.
		if !have.Expiration.IsZero() && at.Sub(w.grantedAt) >= k.grace() {
			w.sub.Expiration = have.Expiration
		}
	} else {
		w.use(have, false, at)
		w.grantedAt, w.granted = time.Time{}, k.s.Lifetime
		k.remember(have.ID, facts{known: k.known}.certificateOf(have))
		k.resumeReauthorization(w, at)
		k.event("subscription adopted", w)
	}
	k.restore(w, at)
}

func (k *Manager) create(ctx context.Context, w *resourceState, want graph.Subscription) {
	want.Expiration = time.Now().Add(k.s.Lifetime).UTC()
	want.ClientState = k.s.ClientState(w.resource)
	got, err := k.s.Graph.CreateSubscription(ctx, want)
	now := time.Now()
	k.cutOff = err != nil && ctx.Err() != nil
	if err == nil && !got.Expiration.After(now) {
		// It is there all the same: the next list will show what it is worth.
		k.remember(got.ID, want.EncryptionCertificateID)
		err = errPastExpiration
	}
	reason := w.interruption
	if reason == ReasonAbsent {
		k.s.Telemetry.Created(ctx, err)
	} else {
		k.s.Telemetry.Recreated(ctx, reason, err)
	}
	if err != nil {
		k.failedCreation(ctx, w, k.explained(err))
		return
	}
	k.worked(&w.retryState)
	w.use(got, true, now)
	w.grant(got.Expiration, now)
	k.remember(got.ID, want.EncryptionCertificateID)
	if reason == ReasonAbsent {
		k.event("subscription created", w)
	} else {
		k.event("subscription recreated", w, reasonField(reason))
	}
	k.restore(w, now)
}

// replace deletes first, since an application may have only one subscription for a resource.
func (k *Manager) replace(ctx context.Context, w *resourceState, a action) {
	if !w.active {
		// Nothing serves the resource, however long the removal takes.
		k.interrupt(w, orReason(w.interruption, a.reason), w.aliveAt)
	}
	for _, old := range slices.Concat(a.surplus, a.conflicting) {
		if err := k.remove(ctx, old.ID); err != nil {
			k.failed(ctx, &w.retryState, opDelete, err)
			return
		}
	}
	k.worked(&w.retryState)
	w.tookConflicting = w.tookConflicting || len(a.conflicting) > 0
	if w.interruption == "" || a.reason != ReasonLost {
		// Why it was lost is known better then.
		k.interrupt(w, a.reason, w.aliveAt)
	}
	w.end(time.Now())
	k.create(ctx, w, a.want)
}

func (k *Manager) removeSurplus(ctx context.Context, removals []action) {
	if len(removals) == 0 {
		k.orphans.succeed()
	}
	for _, a := range removals {
		for _, old := range a.surplus {
			if k.orphans.waits(time.Now()) || !k.mayCall(ctx) {
				return
			}
			if err := k.remove(ctx, old.ID); err != nil {
				k.failed(ctx, &k.orphans, opDelete, err)
				continue
			}
			k.worked(&k.orphans)
			k.eventSurplus(old)
		}
	}
}

// facts returns what plan must know.
func (k *Manager) facts() facts {
	f := facts{
		held:    map[string]bool{k.s.Certificate.ID: true},
		known:   k.known,
		inUse:   map[string]bool{},
		made:    map[string]graph.Subscription{},
		gone:    k.gone,
		mayTake: map[string]bool{},

		keyConflicts: k.keyConflicts,
	}
	for _, id := range k.s.HeldCertificateIDs {
		f.held[id] = true
	}
	for _, w := range k.resources {
		if w.active {
			f.inUse[w.sub.ID] = true
		}
		if w.active && w.made {
			f.made[w.sub.ID] = w.sub
		}
		f.mayTake[canonical(w.resource)] = k.s.ReplaceForeign && !w.tookConflicting
	}
	return f
}

// grace is how long Graph's own answer to a creation or renewal is believed rather than a list.
func (k *Manager) grace() time.Duration { return min(time.Minute, k.s.CheckInterval) }

// withFresh adds what was created just now, if the list does not show it yet.
func (k *Manager) withFresh(have []graph.Subscription, at time.Time) []graph.Subscription {
	listed := make(map[string]bool, len(have))
	for _, h := range have {
		listed[h.ID] = true
	}
	for _, w := range k.resources {
		if w.active && !listed[w.sub.ID] && at.Sub(w.bornAt) < k.grace() {
			have = append(have, w.sub)
		}
	}
	return have
}

// prune forgets subscriptions that are no more.
func (k *Manager) prune(have []graph.Subscription) {
	listed := make(map[string]bool, len(have))
	for _, h := range have {
		listed[h.ID] = true
	}
	for id := range k.known {
		if !listed[id] {
			k.forget(id)
		}
	}
	maps.DeleteFunc(k.gone, func(id string, _ bool) bool { return !listed[id] })
}

func orReason(r, otherwise Reason) Reason {
	if r == "" {
		return otherwise
	}
	return r
}

// renewDue renews what is old enough, or what Graph wants to be reauthorized. A PATCH does both, and Microsoft warns of
// sending reauthorize beside it: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
func (k *Manager) renewDue(ctx context.Context) {
	for _, w := range k.resources {
		if at, needed := w.patchAt(); needed && !time.Now().Before(at) && k.mayCall(ctx) {
			k.renew(ctx, w)
		}
	}
}

func (k *Manager) renew(ctx context.Context, w *resourceState) {
	asked := time.Now().Add(k.s.Lifetime).UTC()
	got, err := k.s.Graph.RenewSubscription(ctx, w.sub.ID, asked)
	now := time.Now()
	if err == nil && !got.Expiration.After(now) {
		err = errPastExpiration
	}
	k.s.Telemetry.Renewal(ctx, err)
	switch {
	case err == nil:
		k.worked(&w.retryState)
		w.grant(got.Expiration, now)
		k.clearReauthorization(w, now)
		k.event("subscription renewed", w)
		k.restore(w, now)
	case statusOf(err) == http.StatusNotFound:
		// Graph says to create a new one rather than to try again.
		k.markLost(w, ReasonLost)
	default:
		k.failed(ctx, &w.retryState, opRenew, err)
	}
}

// markLost notes that the subscription in use is no more.
func (k *Manager) markLost(w *resourceState, reason Reason) {
	if reason != ReasonExpired {
		k.gone[w.sub.ID] = true
	}
	w.end(time.Now())
	k.warn("subscription ended", w, reasonField(reason))
	k.interrupt(w, reason, w.aliveAt)
}

// interrupt opens an interruption, or gives the open one a better reason.
func (k *Manager) interrupt(w *resourceState, reason Reason, since time.Time) {
	if w.interruption == "" {
		k.s.Observer.Interrupted(w.resource, reason, since)
	}
	w.interruption = reason
}

// restore notes that the resource has a living subscription, and closes an interruption. That Graph lists it says nothing
// while delivery may have paused.
func (k *Manager) restore(w *resourceState, at time.Time) {
	if w.paused(at) {
		return
	}
	w.aliveAt = at
	if w.interruption != "" {
		w.interruption = ""
		k.s.Observer.Restored(w.resource, at)
	}
}

// Delete deletes the subscriptions in use, and one whose creation was cut off by the end of Run but succeeded all the
// same. It is called after Run returned.
func (k *Manager) Delete(ctx context.Context) error {
	var errs []error
	for _, w := range k.resources {
		if !w.active {
			continue
		}
		if err := k.remove(ctx, w.sub.ID); err != nil {
			errs = append(errs, fmt.Errorf("delete subscription %s: %w", w.sub.ID, err))
			continue
		}
		w.end(time.Now())
		k.event("subscription deleted", w)
	}
	if k.cutOff {
		errs = append(errs, k.deleteCutOff(ctx))
	}
	k.publish()
	return errors.Join(errs...)
}

func (k *Manager) deleteCutOff(ctx context.Context) error {
	have, err := k.s.Graph.ListSubscriptions(ctx)
	if err != nil {
		return fmt.Errorf("look for the subscription whose creation was cut off: %w", err)
	}
	var errs []error
	for _, w := range k.resources {
		want := k.s.wanted(w.resource)
		for _, h := range have {
			if !k.facts().serves(h, want) {
				continue
			}
			if err := k.remove(ctx, h.ID); err != nil {
				errs = append(errs, fmt.Errorf("delete subscription %s: %w", h.ID, err))
			}
		}
	}
	k.cutOff = len(errs) > 0
	return errors.Join(errs...)
}
