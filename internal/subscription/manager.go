// Package subscription creates, renews and replaces the Graph subscriptions of a receiver. A pure function, plan, compares the
// wanted subscriptions with those in Graph; a Manager carries out its actions in passes.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
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

	// The fields up to mu, and settings.Keys, are used by Run only, and by Delete after it has returned.
	resources []*resourceState
	// outage is what keeps every call from succeeding: before outage.next nothing is called.
	outage retry
	// surplus is the deletion of subscriptions that are not wanted.
	surplus retry
	// rivals are the known ones by path; conflict is the failure that reports them.
	rivals   map[string]rival
	conflict retry
	// passEnd is when the current pass ends. serverFailures counts those of its calls that failed because of the server.
	passEnd        time.Time
	serverFailures int
	// everListed means that the list was read at least once.
	everListed           bool
	lastCheck, nextCheck time.Time
	// owned are the subscriptions of this receiver by id, reported those that the Observer knows.
	owned    map[string]ownSubscription
	reported []Known
	// logged are the kinds of failures that are not over.
	logged        map[string]*loggedFailure
	reportedKinds []string
	// creationCanceled means that a creation was in flight when Run was canceled, so that it may have succeeded.
	creationCanceled bool

	mu sync.Mutex // guards what follows
	// firstEnd is when the first wanted subscription ends; zero until every resource has had one.
	firstEnd time.Time
	complete bool
}

// ownSubscription is a subscription that this receiver created or adopted. Gone means that Graph reported it as deleted, though
// a list may still show it.
type ownSubscription struct {
	Known
	gone bool
}

// New returns a Manager. It does nothing until Run.
func New(s Settings) *Manager {
	m := &Manager{
		settings: s,
		inbox:    newInbox(),
		outage:   newRetry("all"),
		surplus:  newRetry("surplus"),
		rivals:   map[string]rival{},
		conflict: newRetry("notification_url"),
		owned:    map[string]ownSubscription{},
		logged:   map[string]*loggedFailure{},
	}
	listed := map[string]bool{}
	for i, resource := range s.Resources {
		if !listed[canonical(resource)] {
			listed[canonical(resource)] = true
			m.resources = append(m.resources, newResourceState(resource, i))
		}
	}
	for _, known := range s.Known {
		m.owned[known.ID] = ownSubscription{Known: known}
	}
	m.reported = m.known()
	return m
}

// Run manages the subscriptions until the context ends, whatever fails. Before it returns, it passes what the events until then
// say to the Observer. It must be called only once.
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
			m.publish()
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
	return max(0, m.firstEnd.Sub(now)), m.complete
}

// step does everything that is due.
func (m *Manager) step(ctx context.Context) {
	now := time.Now()
	m.expire(now)
	m.processEvents()
	m.processKeys(now)
	m.interruptPaused(now)
	if m.outage.due(now) {
		m.pass(ctx)
	}
	m.processEvents() // the first list shows whose they are
	m.publish()
	m.report()
}

// pass makes the calls that are due, until one of them shows that no other can succeed.
func (m *Manager) pass(ctx context.Context) {
	m.passEnd, m.serverFailures = time.Now().Add(passTimeLimit), 0
	m.renewDue(ctx)
	if m.mayCall(ctx) && !time.Now().Before(m.checkAt()) {
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
		if !r.active {
			continue
		}
		at = earlier(at, m.renewAt(r))
		if !r.sub.Expiration.IsZero() {
			at = earlier(at, r.sub.Expiration)
		}
	}
	return later(at, m.outage.next)
}

// checkAt returns when the list is to be read again.
func (m *Manager) checkAt() time.Time {
	at := m.nextCheck
	for _, r := range m.resources {
		if !r.active || r.err != nil && r.operation != opRenew {
			at = earlier(at, r.next)
		}
	}
	if m.surplus.err != nil {
		at = earlier(at, m.surplus.next)
	}
	return later(at, m.lastCheck.Add(listSpacing))
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
	first, complete := m.resources[0].end(), true
	for _, r := range m.resources {
		first, complete = earlier(first, r.end()), complete && r.wasActive()
	}
	m.mu.Lock()
	m.firstEnd, m.complete = first, complete
	m.mu.Unlock()
	if known := m.known(); !slices.Equal(known, m.reported) {
		m.reported = known
		m.settings.Observer.Known(known)
	}
}

// known returns the subscriptions that the next run needs to know.
func (m *Manager) known() []Known {
	var known []Known
	for _, id := range slices.Sorted(maps.Keys(m.owned)) {
		if own := m.owned[id]; !own.gone {
			known = append(known, own.Known)
		}
	}
	return known
}

// Delete deletes the subscriptions in use, and one whose creation was canceled at the end of Run but succeeded nonetheless.
// It must be called after Run has returned.
func (m *Manager) Delete(ctx context.Context) error {
	ids, err := m.inUse(ctx)
	errs := []error{err}
	for _, id := range ids {
		if err := m.remove(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("delete subscription %s: %w", id, err))
		}
	}
	for _, r := range m.resources {
		if r.active && m.owned[r.sub.ID].gone {
			r.active = false
			m.logInfo("subscription deleted", r)
		}
	}
	m.publish()
	return errors.Join(errs...)
}

// inUse returns the ids of the subscriptions in use. Those of canceled creations are found in Graph's list.
func (m *Manager) inUse(ctx context.Context) (ids []string, err error) {
	var have []graph.Subscription
	if m.creationCanceled {
		if have, err = m.settings.Graph.ListSubscriptions(ctx); err != nil {
			err = fmt.Errorf("find the subscription whose creation was canceled: %w", err)
		}
	}
	f := m.facts(time.Now())
	for _, r := range m.resources {
		if r.active {
			ids = append(ids, r.sub.ID)
			continue
		}
		for _, h := range have {
			if f.serves(h, m.settings.wanted(r.resource)) {
				ids = append(ids, h.ID)
			}
		}
	}
	return ids, err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
