// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// resourceState is the state of one wanted resource. Its retry is that of the creation, renewal or replacement of its
// subscription.
type resourceState struct {
	retry

	resource string
	// sub is the subscription in use while active is set, and else the previous one. own is what is known of it beyond Graph's
	// list; nil if this process never had a subscription for the resource.
	sub    graph.Subscription
	own    *ownSubscription
	active bool
	// renewal is when sub is to be renewed unless Graph asks for it earlier.
	renewal time.Time
	// startedAt is when sub was created or adopted.
	startedAt time.Time
	// lastConfirmed is when an active subscription was last confirmed.
	lastConfirmed time.Time
	// interruption is the reason of the open interruption, "" while there is none.
	interruption Reason
	// reauthorizedAt is when the last renewal that Graph asked for succeeded.
	reauthorizedAt time.Time
}

func newResourceState(resource string, position int) *resourceState {
	r := &resourceState{resource: resource, retry: newRetry("tenant")}
	if strings.HasPrefix(canonical(resource), "copilot/users/") {
		r.name = "users[" + strconv.Itoa(position) + "]"
	}
	return r
}

// end returns when the subscription ends, and zero if it has ended.
func (r *resourceState) end() time.Time {
	if !r.active {
		return time.Time{}
	}
	return r.sub.Expiration
}

// setGrant records a granted expiration. The renewal is due when a third of the granted lifetime is left, but at least a second
// after the grant.
func (r *resourceState) setGrant(expiration, now time.Time) {
	r.sub.Expiration = expiration
	r.renewal = latest(expiration.Add(-expiration.Sub(now)/3), now.Add(time.Second))
}

// renewAt returns when an active subscription is to be renewed.
func (r *resourceState) renewAt() time.Time {
	at := r.renewal
	if r.reauthorize() {
		at = earliest(at, r.reauthorizedAt.Add(eventSpacing))
	}
	return latest(at, r.next)
}

// renewDue renews the subscriptions whose renewal or reauthorization is due. A PATCH does both, and Microsoft warns against
// also sending reauthorize: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
func (m *Manager) renewDue(ctx context.Context) {
	for _, r := range m.resources {
		if r.active && !time.Now().Before(r.renewAt()) && m.mayCall(ctx) {
			m.renew(ctx, r)
		}
	}
}

func (m *Manager) renew(ctx context.Context, r *resourceState) {
	expiration := time.Now().Add(m.settings.Lifetime).UTC()
	got, err := granted(m.settings.Graph.RenewSubscription(ctx, r.sub.ID, expiration))
	now := time.Now()
	m.settings.Telemetry.Renewal(ctx, err)
	switch {
	case err == nil:
		r.succeeded()
		r.setGrant(got.Expiration, now)
		if r.reauthorize() {
			r.own.ReauthorizationRequestedAt, r.reauthorizedAt = time.Time{}, now
		}
		m.info("subscription renewed", r, "")
		m.restore(r, now)
	case statusOf(err) == http.StatusNotFound:
		// Graph documents 404 as a reason to create a new subscription rather than to retry.
		m.markLost(r, ReasonLost)
	default:
		m.failed(ctx, &r.retry, opRenew, err)
	}
}

// adopt uses, or continues to use, a subscription that the list shows.
func (m *Manager) adopt(r *resourceState, have graph.Subscription, at time.Time) {
	if r.active {
		// A list may still show the expiration before the last renewal.
		r.sub.Expiration = latest(r.sub.Expiration, have.Expiration)
	} else {
		m.activate(r, have, m.certificateOf(have), at)
		r.renewal = have.Expiration.Add(-m.settings.Lifetime / 3)
		if m.settings.RenewOnAdopt {
			r.requestReauthorization(at)
		}
		m.info("subscription adopted", r, "")
		m.settings.Observer.Adopted()
	}
	m.restore(r, at)
}

// activate starts to use a subscription.
func (m *Manager) activate(r *resourceState, sub graph.Subscription, certificateID string, now time.Time) {
	r.sub, r.active, r.startedAt = sub, true, now
	r.own = m.own(sub.ID)
	r.own.CertificateID = certificateID
}

// own returns what is known of a subscription of this receiver.
func (m *Manager) own(id string) *ownSubscription {
	if m.owned[id] == nil {
		m.owned[id] = &ownSubscription{Known: Known{ID: id}}
	}
	return m.owned[id]
}

func (m *Manager) create(ctx context.Context, r *resourceState, want graph.Subscription) {
	want.Expiration = time.Now().Add(m.settings.Lifetime).UTC()
	want.ClientState = m.settings.Keys.ClientState(r.resource)
	got, err := granted(m.settings.Graph.CreateSubscription(ctx, want))
	now := time.Now()
	m.settings.Telemetry.Created(ctx, r.interruption, err)
	if err != nil {
		m.failed(ctx, &r.retry, opCreate, m.explainHandshake(err))
		return
	}
	r.recovered()
	m.activate(r, got, want.EncryptionCertificateID, now)
	r.own.createdURL = got.NotificationURL
	r.setGrant(got.Expiration, now)
	if r.interruption == ReasonAbsent {
		m.info("subscription created", r, "")
	} else {
		m.info("subscription recreated", r, r.interruption)
	}
	m.restore(r, now)
}

// granted returns what Graph granted, or an error if that has expired already.
func granted(got graph.Subscription, err error) (graph.Subscription, error) {
	if err == nil && !got.Expiration.After(time.Now()) {
		err = failure.With(errors.New("Graph granted no expiration in the future"),
			failure.New(failure.ClockWrong))
	}
	return got, err
}

// replace deletes before it creates, since an application may have only one subscription for a resource.
func (m *Manager) replace(ctx context.Context, r *resourceState, a action) {
	for _, old := range slices.Concat(a.surplus, a.conflicting) {
		if err := m.remove(ctx, old); err != nil {
			m.failed(ctx, &r.retry, opDelete, err)
			return
		}
	}
	if len(a.conflicting) > 0 {
		m.mayReplace[path(r.resource)] = false
	}
	m.interrupt(r, a.reason, r.lastConfirmed)
	r.active = false
	m.create(ctx, r, a.want)
}

// remove deletes a subscription. A conflicting one, which is not owned, does not become so.
func (m *Manager) remove(ctx context.Context, old graph.Subscription) error {
	if err := m.settings.Graph.DeleteSubscription(ctx, old.ID); err != nil {
		return err
	}
	if m.ours(old, m.settings.NotificationURL) {
		if m.otherKey(old) {
			m.keyReplacements[path(old.Resource)]++
		}
		m.own(old.ID).gone = true
	}
	return nil
}

// markLost records that the subscription in use ended. After a short life its successor is created with back-off.
func (m *Manager) markLost(r *resourceState, reason Reason) {
	if reason != ReasonExpired {
		m.own(r.sub.ID).gone = true
	}
	r.active, r.next = false, time.Time{}
	if lasted := time.Since(r.startedAt); lasted < maxWait {
		r.next = time.Now().Add(r.wait())
	} else {
		r.backoff.Reset()
	}
	m.warn("subscription ended", r, reason, failure.SubscriptionInterrupted)
	m.interrupt(r, reason, r.lastConfirmed)
}

// interrupt opens an interruption. While one is open, it keeps its reason.
func (m *Manager) interrupt(r *resourceState, reason Reason, since time.Time) {
	if r.interruption == "" {
		r.interruption = reason
		m.settings.Observer.Interrupted(r.resource, reason, since)
	}
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
		m.settings.Observer.Restored(r.resource)
	}
}
