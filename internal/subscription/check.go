package subscription

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

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
