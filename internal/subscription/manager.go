// Package subscription creates, renews and replaces the Graph subscriptions of a receiver. A pure function, plan, compares the
// wanted subscriptions with those in Graph; a Manager carries out its actions in passes.
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
	// recheckSpacing is the shortest time between two lists that events cause.
	recheckSpacing = 10 * time.Second
)

// Manager ensures that every wanted resource has an active subscription.
type Manager struct {
	settings Settings
	inbox    *inbox

	// The fields up to mu, and settings.Keys, are used by Run only, and by Delete after it has returned.
	resources     []*resourceState
	list, orphans retryState
	// keyConflicts are the known conflicts by path; keyConflict is the failure that reports them.
	keyConflicts map[string]keyConflict
	keyConflict  retryState
	budget       passBudget
	// backoffUntil is the time before which no call is made; outageFailures counts consecutive failures that affect all calls.
	backoffUntil   time.Time
	outageFailures int
	// everListed means that the list was read at least once, recheck that an event requires reading it again.
	everListed, recheck  bool
	lastCheck, nextCheck time.Time
	known                map[string]string
	knownChanged         bool
	// reauthorizationRequestedAt is when Graph asked for a reauthorization that is still pending, by subscription id.
	reauthorizationRequestedAt map[string]time.Time
	gone                       map[string]bool
	reported                   []string
	// creationCanceled means that a creation was in flight when Run was canceled, so that it may have succeeded.
	creationCanceled bool

	mu       sync.Mutex
	endTimes []time.Time // guarded by mu: when each wanted subscription ends; nil until every resource has had one
}

// New returns a Manager. It does nothing until Run.
func New(s Settings) *Manager {
	m := &Manager{
		settings: s.withDefaults(),
		inbox:    newInbox(),
		list:     retryState{name: "list"},
		orphans:  retryState{name: "surplus"},

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
			m.resources = append(m.resources, newResourceState(resource, i))
		}
	}
	for _, known := range s.Known {
		m.known[known.ID] = known.CertificateID
		if !known.ReauthorizationRequestedAt.IsZero() {
			m.reauthorizationRequestedAt[known.ID] = known.ReauthorizationRequestedAt
		}
	}
	return m
}

// Run manages the subscriptions until the context ends, whatever fails. Before it returns, it passes what the events until then
// say to the Observer. It must be called only once.
func (m *Manager) Run(ctx context.Context) {
	if len(m.resources) == 0 {
		<-ctx.Done()
		return
	}
	defer m.recordEvents()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-m.inbox.wake:
		}
		// If several cases are ready, select picks any of them.
		if ctx.Err() != nil {
			return
		}
		m.step(ctx)
		timer.Reset(time.Until(m.next()))
	}
}

// Wake queues an authentic lifecycle event. It never blocks. Events of subscriptions that are not this Manager's are ignored.
func (m *Manager) Wake(e Event) { m.inbox.put(e) }

// SetKeys replaces the encryption keys and wakes Run, which replaces subscriptions for another certificate than the first. It
// never blocks.
func (m *Manager) SetKeys(keys Keys) { m.inbox.setKeys(keys) }

// TimeLeft returns the time until the first wanted subscription ends, at least zero. It returns false until every resource has
// had a subscription.
func (m *Manager) TimeLeft(now time.Time) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.endTimes) == 0 {
		return 0, false
	}
	return max(0, slices.MinFunc(m.endTimes, time.Time.Compare).Sub(now)), true
}

// step does everything that is due.
func (m *Manager) step(ctx context.Context) {
	now := time.Now()
	m.expire(now)
	m.recordEvents() // even while no call may be made
	m.takeKeys(now)
	m.interruptPaused(now)
	if !now.Before(m.backoffUntil) {
		m.budget = passBudget{until: now.Add(passTimeLimit)}
		if !m.everListed {
			// Events can only be assigned once the list is known.
			m.checkIfDue(ctx)
		}
		m.takeEvents()
		m.interruptPaused(now)
		m.renewDue(ctx)
		m.checkIfDue(ctx)
		if !m.budget.failed {
			m.outageFailures = 0
		}
	}
	m.publish()
	m.report()
}

// next returns when something is due again.
func (m *Manager) next() time.Time {
	at := m.checkAt()
	for _, r := range m.resources {
		if patch, needed := r.patchAt(); needed {
			at = earlier(at, patch)
		}
		if r.active && !r.sub.Expiration.IsZero() {
			at = earlier(at, r.sub.Expiration)
		}
	}
	return later(at, m.backoffUntil)
}

// checkAt returns when the list is to be read again.
func (m *Manager) checkAt() time.Time {
	if m.list.err != nil {
		return later(m.list.retryAt, m.lastCheck.Add(checkSpacing))
	}
	at := m.nextCheck
	for _, r := range m.resources {
		if check, needed := r.checkAt(); needed {
			at = earlier(at, check)
		}
	}
	if m.orphans.err != nil {
		at = earlier(at, m.orphans.retryAt)
	}
	if m.recheck {
		at = earlier(at, m.lastCheck.Add(recheckSpacing))
	}
	return later(at, m.lastCheck.Add(checkSpacing))
}

func (m *Manager) checkIfDue(ctx context.Context) {
	if m.mayCall(ctx) && !time.Now().Before(m.checkAt()) {
		m.check(ctx)
	}
}

func (m *Manager) recordEvents() {
	m.takeEvents()
	m.reportKnown()
}

// takeEvents records what the pending events require. Until the first list they stay pending.
func (m *Manager) takeEvents() {
	if !m.everListed {
		return
	}
	pending := m.inbox.drain()
	if len(pending) == 0 {
		return
	}
	for _, r := range m.resources {
		happened, found := pending[r.sub.ID]
		if !found || !r.active {
			continue
		}
		switch {
		case happened.removed:
			m.markLost(r, ReasonRemoved)
			continue
		case happened.missed:
			m.interrupt(r, ReasonMissed, r.lastConfirmed)
			m.recheck = true
		}
		if happened.reauthorize {
			m.requestReauthorization(r, time.Now())
		}
	}
}

// takeKeys starts to use the keys of SetKeys. The next list shows which subscriptions are to be replaced. One whose key is no
// longer available is interrupted at once: nothing that it delivers until then can be decrypted.
func (m *Manager) takeKeys(now time.Time) {
	keys, found := m.inbox.takeKeys()
	if !found {
		return
	}
	m.settings.Keys = keys
	m.nextCheck = now
	clear(m.keyConflicts) // the other receiver's key may be among the new ones
	facts := m.facts()
	for _, r := range m.resources {
		r.created = false // a new subscription would have another certificate
		if r.operation != opRenew {
			r.retryAt = time.Time{} // the previous certificate may have been the cause of the failure
		}
		if id := facts.certificateOf(r.sub); r.active && id != "" && !facts.held[id] {
			m.logWarning("subscription can't be decrypted any more", r, reasonField(ReasonRemovedKey))
			r.deactivate(now)
			m.interrupt(r, ReasonRemovedKey, r.lastConfirmed)
		}
	}
}

// expire marks subscriptions as lost whose expiration has passed.
func (m *Manager) expire(now time.Time) {
	for _, r := range m.resources {
		if r.active && expired(r.sub, now) {
			m.markLost(r, ReasonExpired)
		}
	}
}

// publish updates what TimeLeft and the Observer can see.
func (m *Manager) publish() {
	m.mu.Lock()
	m.endTimes = m.currentEndTimes()
	m.mu.Unlock()
	m.reportKnown()
}

// reportKnown passes the known subscriptions to the Observer if they changed.
func (m *Manager) reportKnown() {
	if !m.knownChanged {
		return
	}
	m.knownChanged = false
	known := make([]Known, 0, len(m.known))
	for _, id := range slices.SortedFunc(maps.Keys(m.known), strings.Compare) {
		known = append(known, Known{ID: id, CertificateID: m.known[id], ReauthorizationRequestedAt: m.reauthorizationRequestedAt[id]})
	}
	m.settings.Observer.Known(known)
}

// currentEndTimes returns when each wanted subscription ends or ended, or nil until every resource has had one.
func (m *Manager) currentEndTimes() []time.Time {
	ends := make([]time.Time, 0, len(m.resources))
	for _, r := range m.resources {
		switch {
		case !r.wasActive:
			return nil
		case r.active:
			ends = append(ends, r.sub.Expiration)
		default:
			ends = append(ends, r.endedAt)
		}
	}
	return ends
}

func (m *Manager) remember(id, certificateID string) {
	if was, known := m.known[id]; !known || was != certificateID {
		m.known[id] = certificateID
		m.knownChanged = true
	}
}

func (m *Manager) forget(id string) {
	delete(m.gone, id)
	delete(m.reauthorizationRequestedAt, id)
	if _, known := m.known[id]; known {
		delete(m.known, id)
		m.knownChanged = true
	}
}

// check reads the list once and carries out the plan for it.
func (m *Manager) check(ctx context.Context) {
	at := time.Now()
	m.lastCheck = at
	have, err := m.settings.Graph.ListSubscriptions(ctx)
	if err != nil {
		m.failed(ctx, &m.list, opList, err)
		return
	}
	m.succeeded(&m.list)
	m.everListed, m.recheck = true, false
	m.nextCheck = at.Add(m.settings.CheckInterval)

	have = m.withNewlyCreated(have, at)
	m.prune(have)
	m.updateKeyConflicts(have, at)
	wanted := make([]graph.Subscription, 0, len(m.resources))
	for _, r := range m.resources {
		wanted = append(wanted, m.settings.wanted(r.resource))
	}
	actions := plan(wanted, have, m.facts(), at)
	for i, r := range m.resources {
		m.apply(ctx, r, actions[i], at)
	}
	m.removeSurplus(ctx, actions[len(m.resources):])

	for _, r := range m.resources {
		if r.active && r.interruption == "" && !r.paused(at) {
			m.settings.Observer.Checked(at)
			break
		}
	}
}

// apply carries out the action for one resource.
func (m *Manager) apply(ctx context.Context, r *resourceState, a action, at time.Time) {
	if r.active && r.sub.ID != a.have.ID {
		m.markLost(r, ReasonLost)
	}
	if _, wasBlocked := errors.AsType[*ConflictError](r.err); wasBlocked && a.verb != blocked {
		// The slot is free, so there is no reason to wait any longer.
		r.retryAt = time.Time{}
	}
	if r.waitsForOther && a.verb != wait {
		r.waitsForOther, r.retryAt = false, time.Time{}
	}
	switch a.verb {
	case keep, adopt:
		if !r.active || r.operation != opRenew {
			r.succeed()
		}
		m.adopt(r, a.have, at)
	case create:
		m.interrupt(r, orReason(r.interruption, ReasonAbsent), r.lastConfirmed)
		if !r.waiting(at) && m.mayCall(ctx) {
			m.create(ctx, r, a.want)
		}
	case replace:
		if a.have.ID != "" {
			m.adopt(r, a.have, at)
		}
		if !r.waiting(at) && m.mayCall(ctx) {
			m.replace(ctx, r, a)
		}
	case blocked:
		m.interrupt(r, ReasonConflict, r.lastConfirmed)
		m.failed(ctx, &r.retryState, opCreate, &ConflictError{ID: a.conflicting[0].ID, Host: hostOf(a.conflicting[0].NotificationURL)})
	case wait:
		m.interrupt(r, ReasonConflict, r.lastConfirmed)
		r.succeed()
		r.waitsForOther, r.retryAt = true, earlier(at.Add(maxBackoff), a.until)
	}
}

// adopt uses, or continues to use, a subscription that the list shows.
func (m *Manager) adopt(r *resourceState, have graph.Subscription, at time.Time) {
	if r.active {
		// A list may lag behind a grant.
		if !have.Expiration.IsZero() && at.Sub(r.grantedAt) >= m.gracePeriod() {
			r.sub.Expiration = have.Expiration
		}
	} else {
		r.activate(have, false, at)
		r.grantedAt, r.granted = time.Time{}, m.settings.Lifetime
		m.remember(have.ID, facts{known: m.known}.certificateOf(have))
		m.resumeReauthorization(r, at)
		m.logEvent("subscription adopted", r)
		m.settings.Observer.Adopted(at)
	}
	m.restore(r, at)
}

func (m *Manager) create(ctx context.Context, r *resourceState, want graph.Subscription) {
	want.Expiration = time.Now().Add(m.settings.Lifetime).UTC()
	want.ClientState = m.settings.Keys.ClientState(r.resource)
	got, err := m.settings.Graph.CreateSubscription(ctx, want)
	now := time.Now()
	m.creationCanceled = err != nil && ctx.Err() != nil
	if err == nil && !got.Expiration.After(now) {
		// The subscription exists nonetheless, and the next list will show it.
		m.remember(got.ID, want.EncryptionCertificateID)
		err = errPastExpiration
	}
	reason := r.interruption
	if reason == ReasonAbsent {
		m.settings.Telemetry.Created(ctx, err)
	} else {
		m.settings.Telemetry.Recreated(ctx, reason, err)
	}
	if err != nil {
		m.failedCreation(ctx, r, m.explainHandshake(err))
		return
	}
	m.succeeded(&r.retryState)
	r.activate(got, true, now)
	r.setGrant(got.Expiration, now)
	m.remember(got.ID, want.EncryptionCertificateID)
	if reason == ReasonAbsent {
		m.logEvent("subscription created", r)
	} else {
		m.logEvent("subscription recreated", r, reasonField(reason))
	}
	m.restore(r, now)
}

// replace deletes before it creates, since an application may have only one subscription for a resource.
func (m *Manager) replace(ctx context.Context, r *resourceState, a action) {
	if !r.active {
		// The resource has no subscription, however long the deletion takes.
		m.interrupt(r, orReason(r.interruption, a.reason), r.lastConfirmed)
	}
	for _, old := range slices.Concat(a.surplus, a.conflicting) {
		if err := m.remove(ctx, old.ID); err != nil {
			m.failed(ctx, &r.retryState, opDelete, err)
			return
		}
	}
	m.succeeded(&r.retryState)
	r.replacedConflicting = r.replacedConflicting || len(a.conflicting) > 0
	// ReasonLost is less precise than the reason of an interruption that is already open.
	if r.interruption == "" || a.reason != ReasonLost {
		m.interrupt(r, a.reason, r.lastConfirmed)
	}
	r.deactivate(time.Now())
	m.create(ctx, r, a.want)
}

func (m *Manager) removeSurplus(ctx context.Context, removals []action) {
	if len(removals) == 0 {
		m.orphans.succeed()
	}
	for _, a := range removals {
		for _, old := range a.surplus {
			if m.orphans.waiting(time.Now()) || !m.mayCall(ctx) {
				return
			}
			if err := m.remove(ctx, old.ID); err != nil {
				m.failed(ctx, &m.orphans, opDelete, err)
				continue
			}
			m.succeeded(&m.orphans)
			m.logSurplusDeleted(old)
		}
	}
}

// facts returns the inputs of plan other than the list.
func (m *Manager) facts() facts {
	f := facts{
		held:       map[string]bool{m.settings.Keys.Certificate.ID: true},
		known:      m.known,
		inUse:      map[string]bool{},
		created:    map[string]graph.Subscription{},
		gone:       m.gone,
		mayReplace: map[string]bool{},

		keyConflicts: m.keyConflicts,
	}
	for _, id := range m.settings.Keys.HeldCertificateIDs {
		f.held[id] = true
	}
	for _, r := range m.resources {
		if r.active {
			f.inUse[r.sub.ID] = true
		}
		if r.active && r.created {
			f.created[r.sub.ID] = r.sub
		}
		f.mayReplace[canonical(r.resource)] = m.settings.ReplaceForeign && !r.replacedConflicting
	}
	return f
}

// gracePeriod is how long the response to a creation or renewal takes precedence over a list, which may lag behind.
func (m *Manager) gracePeriod() time.Duration { return min(time.Minute, m.settings.CheckInterval) }

// withNewlyCreated adds recently created subscriptions that the list does not show yet.
func (m *Manager) withNewlyCreated(have []graph.Subscription, at time.Time) []graph.Subscription {
	listed := make(map[string]bool, len(have))
	for _, h := range have {
		listed[h.ID] = true
	}
	for _, r := range m.resources {
		if r.active && !listed[r.sub.ID] && at.Sub(r.startedAt) < m.gracePeriod() {
			have = append(have, r.sub)
		}
	}
	return have
}

// prune forgets subscriptions that are no longer listed.
func (m *Manager) prune(have []graph.Subscription) {
	listed := make(map[string]bool, len(have))
	for _, h := range have {
		listed[h.ID] = true
	}
	for id := range m.known {
		if !listed[id] {
			m.forget(id)
		}
	}
	maps.DeleteFunc(m.gone, func(id string, _ bool) bool { return !listed[id] })
}

func orReason(r, otherwise Reason) Reason {
	if r == "" {
		return otherwise
	}
	return r
}

// renewDue renews the subscriptions whose renewal or reauthorization is due. A PATCH does both, and Microsoft warns against
// also sending reauthorize: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
func (m *Manager) renewDue(ctx context.Context) {
	for _, r := range m.resources {
		if at, needed := r.patchAt(); needed && !time.Now().Before(at) && m.mayCall(ctx) {
			m.renew(ctx, r)
		}
	}
}

func (m *Manager) renew(ctx context.Context, r *resourceState) {
	expiration := time.Now().Add(m.settings.Lifetime).UTC()
	got, err := m.settings.Graph.RenewSubscription(ctx, r.sub.ID, expiration)
	now := time.Now()
	if err == nil && !got.Expiration.After(now) {
		err = errPastExpiration
	}
	m.settings.Telemetry.Renewal(ctx, err)
	switch {
	case err == nil:
		m.succeeded(&r.retryState)
		r.setGrant(got.Expiration, now)
		m.clearReauthorization(r, now)
		m.logEvent("subscription renewed", r)
		m.restore(r, now)
	case statusOf(err) == http.StatusNotFound:
		// Graph documents 404 as a reason to create a new subscription rather than to retry.
		m.markLost(r, ReasonLost)
	default:
		m.failed(ctx, &r.retryState, opRenew, err)
	}
}

// markLost records that the subscription in use ended.
func (m *Manager) markLost(r *resourceState, reason Reason) {
	if reason != ReasonExpired {
		m.gone[r.sub.ID] = true
	}
	r.deactivate(time.Now())
	m.logWarning("subscription ended", r, reasonField(reason))
	m.interrupt(r, reason, r.lastConfirmed)
}

// interrupt opens an interruption, or updates the reason of the open one.
func (m *Manager) interrupt(r *resourceState, reason Reason, since time.Time) {
	if r.interruption == "" {
		m.settings.Observer.Interrupted(r.resource, reason, since)
	}
	r.interruption = reason
}

// restore records that the resource has an active subscription, and closes its interruption. It does nothing while delivery
// may have paused, since a listed subscription does not prove delivery then.
func (m *Manager) restore(r *resourceState, at time.Time) {
	if r.paused(at) {
		return
	}
	r.lastConfirmed = at
	if r.interruption != "" {
		r.interruption = ""
		m.settings.Observer.Restored(r.resource, at)
	}
}

// Delete deletes the subscriptions in use, and one whose creation was canceled at the end of Run but succeeded nonetheless.
// It must be called after Run has returned.
func (m *Manager) Delete(ctx context.Context) error {
	var errs []error
	for _, r := range m.resources {
		if !r.active {
			continue
		}
		if err := m.remove(ctx, r.sub.ID); err != nil {
			errs = append(errs, fmt.Errorf("delete subscription %s: %w", r.sub.ID, err))
			continue
		}
		r.deactivate(time.Now())
		m.logEvent("subscription deleted", r)
	}
	if m.creationCanceled {
		errs = append(errs, m.deleteCanceledCreation(ctx))
	}
	m.publish()
	return errors.Join(errs...)
}

func (m *Manager) deleteCanceledCreation(ctx context.Context) error {
	have, err := m.settings.Graph.ListSubscriptions(ctx)
	if err != nil {
		return fmt.Errorf("find the subscription whose creation was canceled: %w", err)
	}
	var errs []error
	for _, r := range m.resources {
		want := m.settings.wanted(r.resource)
		for _, h := range have {
			if !m.facts().serves(h, want) {
				continue
			}
			if err := m.remove(ctx, h.ID); err != nil {
				errs = append(errs, fmt.Errorf("delete subscription %s: %w", h.ID, err))
			}
		}
	}
	m.creationCanceled = len(errs) > 0
	return errors.Join(errs...)
}
