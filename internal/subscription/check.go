package subscription

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// check reads the list once and carries out the plan for it.
func (m *Manager) check(ctx context.Context) {
	at := time.Now()
	m.lastCheck = at
	have, err := m.settings.Graph.ListSubscriptions(ctx)
	if err != nil {
		m.failed(ctx, &m.outage, opList, err)
		return
	}
	m.everListed, m.nextCheck = true, at.Add(m.settings.CheckInterval)

	have = m.withNewlyCreated(have, at)
	m.forgetUnlisted(have)
	m.observeRivals(have, at)
	// Resources that fail again and again come last, so that they do not end the pass before the others.
	slices.SortStableFunc(m.resources, func(a, b *resourceState) int { return a.next.Compare(b.next) })
	wanted := make([]graph.Subscription, 0, len(m.resources))
	for _, r := range m.resources {
		wanted = append(wanted, m.settings.wanted(r.resource))
	}
	actions, surplus := plan(wanted, have, m.facts(at), at)
	for i, r := range m.resources {
		m.apply(ctx, r, actions[i], at)
	}
	m.deleteSurplus(ctx, surplus)
	if slices.ContainsFunc(m.resources, func(r *resourceState) bool {
		return r.active && r.interruption == "" && !m.paused(r, at)
	}) {
		m.settings.Observer.Checked(at)
	}
}

// apply carries out the action for one resource.
func (m *Manager) apply(ctx context.Context, r *resourceState, a action, at time.Time) {
	if r.active && r.sub.ID != a.have.ID {
		m.markLost(r, ReasonLost)
	}
	if r.operation == opReplace && a.verb != leave {
		r.recovered() // the slot is free, so there is no reason to wait any longer
	}
	switch a.verb {
	case adopt:
		if !r.active || r.operation != opRenew {
			r.recovered()
		}
		m.adopt(r, a.have, at)
	case create:
		m.interrupt(r, cmp.Or(r.interruption, ReasonAbsent), r.lastConfirmed)
		if r.due(at) && m.mayCall(ctx) {
			m.create(ctx, r, a.want)
		}
	case replace:
		if a.have.ID != "" {
			m.adopt(r, a.have, at)
		}
		if r.due(at) && m.mayCall(ctx) {
			m.replace(ctx, r, a)
		}
	case leave:
		m.interrupt(r, ReasonConflict, r.lastConfirmed)
		r.failed(at, opReplace, a.err, 0)
	}
}

func (m *Manager) deleteSurplus(ctx context.Context, surplus []graph.Subscription) {
	if len(surplus) == 0 {
		m.surplus.succeeded()
	}
	for _, old := range surplus {
		if !m.surplus.due(time.Now()) || !m.mayCall(ctx) {
			return
		}
		if err := m.remove(ctx, old.ID); err != nil {
			m.failed(ctx, &m.surplus, opDelete, err)
			return
		}
		m.surplus.succeeded()
		m.logSurplusDeleted(old)
	}
}

// facts returns the inputs of plan other than the list.
func (m *Manager) facts(at time.Time) facts {
	f := facts{
		held:       map[string]bool{m.settings.Keys.Certificate.ID: true},
		owned:      m.owned,
		inUse:      map[string]bool{},
		created:    map[string]graph.Subscription{},
		mayReplace: map[string]bool{},
		deferred:   map[string]bool{},
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
	for slot, rival := range m.rivals {
		f.deferred[slot] = rival.deferred(at)
	}
	return f
}

// gracePeriod is how long the response to a creation or renewal takes precedence over a list, which may lag behind.
func (m *Manager) gracePeriod() time.Duration { return min(time.Minute, m.settings.CheckInterval) }

// withNewlyCreated adds recently created subscriptions that the list does not show yet.
func (m *Manager) withNewlyCreated(have []graph.Subscription, at time.Time) []graph.Subscription {
	listed := idsOf(have)
	for _, r := range m.resources {
		if r.active && !listed[r.sub.ID] && at.Sub(r.startedAt) < m.gracePeriod() {
			have = append(have, r.sub)
		}
	}
	return have
}

// forgetUnlisted forgets subscriptions that no longer exist.
func (m *Manager) forgetUnlisted(have []graph.Subscription) {
	listed := idsOf(have)
	maps.DeleteFunc(m.owned, func(id string, _ ownSubscription) bool { return !listed[id] })
}

func idsOf(subs []graph.Subscription) map[string]bool {
	ids := make(map[string]bool, len(subs))
	for _, s := range subs {
		ids[s.ID] = true
	}
	return ids
}
