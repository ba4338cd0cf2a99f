// SPDX-License-Identifier: Apache-2.0

// Package subscription creates, renews and replaces the Graph subscriptions of a receiver. A pure function, plan, compares the
// wanted subscriptions with those in Graph; a Manager carries out its actions in passes.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	// listSpacing is the shortest time between two lists. Graph allows 25 in 20 s:
	// https://learn.microsoft.com/graph/throttling-limits
	listSpacing = time.Second
	// passTimeLimit prevents ten thousand creations from delaying a renewal that is due.
	passTimeLimit = 30 * time.Second
)

// Manager ensures that every wanted resource has an active subscription.
type Manager struct {
	settings Settings
	inbox    *inbox

	// The fields up to firstEnd, and settings.Keys, are used by Run only, and by Delete after it has returned.
	facts
	resources []*resourceState
	// outage is the failure of what concerns all resources: before outage.next nothing is called.
	outage retry
	// passEnd is when the current pass ends.
	passEnd time.Time
	// lastCheck is when the list was last read, nextCheck when it is to be read again though nothing failed.
	lastCheck, nextCheck time.Time
	// known are the subscriptions that the next run needs to know, and stored is where it finds them.
	known  []Known
	stored *statestore.Value[[]Known]
	health health.Part
	// failing are the kinds of failures that Status knows.
	failing []string

	// firstEnd is when the first wanted subscription ends; nil until every resource has had one.
	firstEnd atomic.Pointer[time.Time]
}

// New returns a Manager. It does nothing until Run.
func New(s Settings) *Manager {
	m := &Manager{
		settings: s,
		inbox:    newInbox(),
		outage:   newRetry("all"),
		stored:   newStored(s.Store, s.Logger),
		facts:    facts{owned: map[string]*ownSubscription{}, mayReplace: map[string]bool{}, keyReplacements: map[string]int{}},
		health: health.Part{
			Logger: s.Logger, Failing: "subscription fails, will be tried again", Recovered: "subscription failure is over",
			Code: failure.RequestRefused,
		},
	}
	for i, resource := range s.Resources {
		m.resources = append(m.resources, newResourceState(resource, i))
		m.mayReplace[path(resource)] = s.ReplaceForeign
	}
	m.useKeys(s.Keys)
	return m
}

func newStored(store *statestore.Store, logger *zap.Logger) *statestore.Value[[]Known] {
	return statestore.NewValue[[]Known](statestore.ValueSettings{
		Store: store, Key: "subscriptions", Version: 1, Name: "own subscriptions", Logger: logger,
	})
}

// Stored reads from storage which subscriptions a run created or adopted. damaged means that the value can't be used.
func Stored(ctx context.Context, store *statestore.Store) (known []Known, damaged bool, err error) {
	return newStored(store, zap.NewNop()).Load(ctx)
}

// Load reads which subscriptions an earlier run created or adopted. It must be called before Run. The error is one of the storage.
func (m *Manager) Load(ctx context.Context) error {
	known, _, err := m.stored.Load(ctx)
	m.use(known)
	return err
}

// use notes the subscriptions of an earlier run.
func (m *Manager) use(known []Known) {
	m.known = known
	for _, one := range known {
		m.owned[one.ID] = &ownSubscription{Known: one}
	}
}

func (m *Manager) useKeys(keys Keys) {
	m.settings.Keys = keys
	m.held = map[string]bool{keys.CertificateID: true}
	for _, id := range keys.HeldCertificateIDs {
		m.held[id] = true
	}
}

// Run manages the subscriptions until the context ends, whatever fails. Before it returns, it tells the Observer what the
// events until then say. It must be called only once.
func (m *Manager) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-m.inbox.wake:
		}
		// If several cases are ready, select picks any of them.
		if ctx.Err() != nil {
			m.processEvents()
			m.publish(ctx)
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
func (m *Manager) SetKeys(keys Keys) {
	m.inbox.keys.Store(&keys)
	m.inbox.signal()
}

// TimeLeft returns the time until the first wanted subscription ends, at least zero. It returns false until every resource has
// had a subscription.
func (m *Manager) TimeLeft(now time.Time) (time.Duration, bool) {
	end := m.firstEnd.Load()
	if end == nil {
		return 0, false
	}
	return max(0, end.Sub(now)), true
}

// step does everything that is due.
func (m *Manager) step(ctx context.Context) {
	now := time.Now()
	m.processEvents()
	m.processKeys()
	m.interruptEnded(now)
	if m.outage.due(now) {
		m.pass(ctx)
	}
	m.processEvents() // the first list shows whose they are
	m.publish(ctx)
	m.report()
}

// pass makes the calls that are due, until one of them shows that no other can succeed.
func (m *Manager) pass(ctx context.Context) {
	m.passEnd = time.Now().Add(passTimeLimit)
	m.renewDue(ctx)
	// The list is read in each pass that it is due in, however long the renewals of many users take.
	if now := time.Now(); ctx.Err() == nil && m.outage.due(now) && !now.Before(m.checkAt()) {
		m.check(ctx)
	}
	if ctx.Err() == nil && m.outage.due(time.Now()) {
		m.outage.succeeded()
	}
}

// next returns when something is due again.
func (m *Manager) next() time.Time {
	at := m.checkAt()
	for _, r := range m.resources {
		if r.active {
			at = earliest(at, r.renewAt())
		}
		if end := r.end(); !end.IsZero() {
			at = earliest(at, end)
		}
	}
	return latest(at, m.outage.next)
}

// checkAt returns when the list is to be read again.
func (m *Manager) checkAt() time.Time {
	at := m.nextCheck
	for _, r := range m.resources {
		if !r.active || r.err != nil && r.operation != opRenew {
			at = earliest(at, r.next)
		}
	}
	return latest(at, m.lastCheck.Add(listSpacing))
}

// interruptEnded opens an interruption for each resource whose subscription has expired, or whose delivery may have paused.
func (m *Manager) interruptEnded(now time.Time) {
	for _, r := range m.resources {
		if r.active && expired(r.sub, now) {
			m.markLost(r, ReasonExpired)
		}
		if r.paused(now) && r.interruption == "" {
			m.warn("Graph may have paused delivery, because the reauthorization that it asked for has not succeeded", r, "",
				failure.SubscriptionInterrupted)
			m.interrupt(r, ReasonPaused, r.own.ReauthorizationRequestedAt)
		}
	}
}

// publish updates what TimeLeft returns, and stores the subscriptions if they have changed or could not be stored.
func (m *Manager) publish(ctx context.Context) {
	if !slices.ContainsFunc(m.resources, func(r *resourceState) bool { return r.own == nil }) {
		first := slices.MinFunc(m.resources, func(a, b *resourceState) int { return a.end().Compare(b.end()) }).end()
		m.firstEnd.Store(&first)
	}
	var known []Known
	for _, id := range slices.Sorted(maps.Keys(m.owned)) {
		if own := m.owned[id]; !own.gone {
			known = append(known, own.Known)
		}
	}
	if !slices.Equal(known, m.known) {
		m.known = known
		m.stored.Changed()
	}
	_ = m.stored.Save(context.WithoutCancel(ctx), func() []Known { return known }) // a failure is logged there
}

// Delete deletes the subscriptions in use. It must be called after Run has returned.
func (m *Manager) Delete(ctx context.Context) error {
	var errs []error
	for _, r := range m.resources {
		if !r.active {
			continue
		}
		if err := m.remove(ctx, r.sub); err != nil {
			errs = append(errs, fmt.Errorf("delete subscription %s: %w", r.sub.ID, err))
			continue
		}
		r.active = false
		m.info("subscription deleted", r, "")
	}
	m.publish(ctx)
	return errors.Join(errs...)
}

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }
