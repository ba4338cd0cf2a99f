// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// check reads the list once and carries out the plan for it.
func (m *Manager) check(ctx context.Context) {
	at := time.Now()
	have, err := m.settings.Graph.ListSubscriptions(ctx)
	if err != nil {
		m.failed(ctx, &m.outage, opList, err)
		return
	}
	// Wall time, since the monotonic clock stops while this machine is suspended.
	pause := at.Round(0).Sub(m.lastCheck.Round(0))
	eventsMissed := !m.lastCheck.IsZero() && pause > 2*m.settings.CheckInterval+pauseTolerance
	m.lastCheck, m.nextCheck = at, at.Add(m.settings.CheckInterval)
	if m.outage.operation == opList {
		m.outage.succeeded() // while after a failed change only a change shows that the outage is over
	}
	have = m.updateOwned(have, at)
	// Resources that fail again and again come last, so that they do not end the pass before the others.
	slices.SortStableFunc(m.resources, func(a, b *resourceState) int { return a.next.Compare(b.next) })
	actions, surplus := plan(m.wanted(), have, m.facts, at)
	for i, r := range m.resources {
		m.apply(ctx, r, actions[i], at)
		if eventsMissed && r.active {
			r.requestReauthorization(at)
		}
	}
	m.deleteSurplus(ctx, surplus)
	switch {
	case slices.ContainsFunc(m.resources, func(r *resourceState) bool { return r.active && r.interruption == "" && !r.paused(at) }):
		m.settings.Observer.Checked()
	case !slices.ContainsFunc(m.resources, func(r *resourceState) bool { return r.interruption == "" }):
		m.settings.Observer.AllInterrupted()
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
			r.succeeded()
		}
		m.adopt(r, a.have, at)
		if at.Sub(r.startedAt) > keyConflictDuration {
			delete(m.keyReplacements, path(r.resource))
		}
	case create:
		m.interrupt(r, ReasonAbsent, r.lastConfirmed)
		if r.due(at) && m.mayCall(ctx) {
			m.create(ctx, r, a.want)
		}
	case replace:
		if a.have.ID != "" {
			m.adopt(r, a.have, at)
		} else {
			m.interrupt(r, a.reason, r.lastConfirmed)
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
	for _, old := range surplus {
		if !m.mayCall(ctx) {
			return
		}
		if err := m.remove(ctx, old); err != nil {
			m.failed(ctx, &m.outage, opDelete, err)
			return
		}
		m.settings.Logger.Info("surplus subscription deleted",
			zap.String("id", old.ID), zap.Time("expiration", old.Expiration), zap.String("host", HostOf(old.NotificationURL)))
	}
}

// wanted returns the subscription that each resource should have, without its expiration and its clientState.
func (m *Manager) wanted() []graph.Subscription {
	wanted := make([]graph.Subscription, 0, len(m.resources))
	for _, r := range m.resources {
		wanted = append(wanted, graph.Subscription{
			Resource:                 r.resource,
			ChangeTypes:              m.settings.ChangeTypes,
			NotificationURL:          m.settings.NotificationURL,
			LifecycleNotificationURL: m.settings.NotificationURL,
			EncryptionCertificate:    m.settings.Keys.Certificate,
			EncryptionCertificateID:  m.settings.Keys.CertificateID,
		})
	}
	return wanted
}

// updateOwned returns the list, with subscriptions that were created so recently that Graph may not list them yet, and forgets
// those that no longer exist.
func (m *Manager) updateOwned(have []graph.Subscription, at time.Time) []graph.Subscription {
	listed := make(map[string]bool, len(have))
	for _, h := range have {
		listed[h.ID] = true
	}
	lag := min(time.Minute, m.settings.CheckInterval)
	for _, r := range m.resources {
		if r.active && !listed[r.sub.ID] && at.Sub(r.startedAt) < lag {
			listed[r.sub.ID] = true
			have = append(have, r.sub)
		}
	}
	maps.DeleteFunc(m.owned, func(id string, _ *ownSubscription) bool { return !listed[id] })
	return have
}
