// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// The lifecycle events of Graph: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
const (
	// ReauthorizationRequired means that delivery will pause unless the subscription is renewed.
	ReauthorizationRequired = "reauthorizationRequired"
	// SubscriptionRemoved means that the subscription no longer exists.
	SubscriptionRemoved = "subscriptionRemoved"
	// Missed means that some changes were not delivered.
	Missed = "missed"
)

// Event is a lifecycle event whose authenticity was verified.
type Event struct {
	SubscriptionID string
	// Kind is one of the three events above. Others are ignored.
	Kind string
}

const (
	// maxPending bounds the pending events: an organization has at most 10,000 subscriptions.
	maxPending = 30_000
	// eventSpacing is the shortest time between two renewals of a subscription that lifecycle events cause.
	eventSpacing = time.Minute
	// deliveryGracePeriod is how long Graph is assumed to deliver after it asked for a reauthorization. Graph documents that
	// delivery pauses after a while and that changes are lost then, but not after how long:
	// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
	deliveryGracePeriod = 15 * time.Minute
	// pauseTolerance is how much later than two intervals after the last list another one may be without lifecycle events counting as
	// missed.
	pauseTolerance = 5 * time.Minute
)

// inbox collects events and new keys until the loop processes them.
type inbox struct {
	wake chan struct{}
	keys atomic.Pointer[Keys] // nil for none

	mu     sync.Mutex     // guards what follows
	events map[Event]bool // repeated ones count as one
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), events: map[Event]bool{}}
}

func (i *inbox) put(e Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.events) < maxPending {
		i.events[e] = true
	}
	i.signal()
}

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// takeEvents returns the pending events and removes them.
func (i *inbox) takeEvents() map[Event]bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	events := i.events
	i.events = map[Event]bool{}
	return events
}

// processEvents records what the pending events require. Until the first list it is not known whose they are, and they stay
// pending.
func (m *Manager) processEvents() {
	if m.lastCheck.IsZero() {
		return
	}
	events := m.inbox.takeEvents()
	for _, r := range m.resources {
		happened := func(kind string) bool { return r.active && events[Event{r.sub.ID, kind}] }
		if happened(SubscriptionRemoved) {
			m.markLost(r, ReasonRemoved)
		}
		if happened(Missed) {
			m.interrupt(r, ReasonMissed, r.lastConfirmed)
			m.nextCheck = time.Time{}
		}
		if happened(ReauthorizationRequired) {
			r.requestReauthorization(time.Now())
		}
	}
}

// processKeys starts to use the keys of SetKeys. The next list shows which subscriptions are to be replaced. One whose key is
// no longer available is interrupted at once: nothing that it delivers until then can be decrypted.
func (m *Manager) processKeys() {
	keys := m.inbox.keys.Swap(nil)
	if keys == nil {
		return
	}
	m.useKeys(*keys)
	m.nextCheck = time.Time{}
	clear(m.keyReplacements) // the other receiver's key may be among the new ones
	for _, own := range m.owned {
		own.createdURL = "" // a new subscription would have another certificate
	}
	for _, r := range m.resources {
		r.next = time.Time{} // the previous certificate may have been the cause of the failure
		if id := m.certificateOf(r.sub); r.active && id != "" && !m.held[id] {
			m.warn("subscription can't be decrypted any more", r, ReasonRemovedKey, failure.CertificateMissing)
			r.active = false
			m.interrupt(r, ReasonRemovedKey, r.lastConfirmed)
		}
	}
}

// requestReauthorization records that Graph asked for a reauthorization.
func (r *resourceState) requestReauthorization(at time.Time) {
	if !r.reauthorize() {
		r.own.ReauthorizationRequestedAt = at
	}
}

// paused reports whether Graph may have paused delivery because a reauthorization has been pending for too long.
func (r *resourceState) paused(now time.Time) bool {
	return r.active && r.reauthorize() && now.Sub(r.own.ReauthorizationRequestedAt) > deliveryGracePeriod
}

// reauthorize reports whether a reauthorization is pending.
func (r *resourceState) reauthorize() bool { return !r.own.ReauthorizationRequestedAt.IsZero() }
