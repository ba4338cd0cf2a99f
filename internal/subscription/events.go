package subscription

import (
	"sync"
	"time"
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

// maxPending bounds the subscriptions with pending events: an organization cannot have more.
const maxPending = 10_000

// pendingEvents are the pending events of one subscription. Repeated events of a kind count as one.
type pendingEvents struct{ reauthorize, removed, missed bool }

// inbox collects events and new keys until the loop processes them.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex               // guards what follows
	pending map[string]pendingEvents // by subscription id
	keys    *Keys                    // nil for none
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), pending: map[string]pendingEvents{}}
}

func (i *inbox) put(e Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	h, there := i.pending[e.SubscriptionID]
	if !there && len(i.pending) >= maxPending {
		return
	}
	switch e.Kind {
	case ReauthorizationRequired:
		h.reauthorize = true
	case SubscriptionRemoved:
		h.removed = true
	case Missed:
		h.missed = true
	default:
		return
	}
	i.pending[e.SubscriptionID] = h
	i.signal()
}

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// setKeys leaves the keys for the loop, in place of earlier ones that it has not taken.
func (i *inbox) setKeys(keys Keys) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = &keys
	i.signal()
}

// takeKeys returns the new keys, and false if there are none.
func (i *inbox) takeKeys() (keys Keys, found bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys == nil {
		return Keys{}, false
	}
	keys, i.keys = *i.keys, nil
	return keys, true
}

// drain returns the pending events and empties the inbox.
func (i *inbox) drain() map[string]pendingEvents {
	i.mu.Lock()
	defer i.mu.Unlock()
	pending := i.pending
	i.pending = map[string]pendingEvents{}
	return pending
}

const (
	// deliveryGracePeriod is how long Graph is assumed to deliver after it asked for a reauthorization. Graph documents that
	// delivery pauses after a while and that changes are lost then, but not after how long:
	// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
	deliveryGracePeriod = 15 * time.Minute
	// adoptionSpacing separates the renewals of subscriptions that are adopted together.
	adoptionSpacing = 200 * time.Millisecond
)

// requestReauthorization records that Graph asked for a reauthorization.
func (m *Manager) requestReauthorization(r *resourceState, at time.Time) {
	if !r.reauthorize {
		r.reauthorize, r.reauthorizationRequestedAt = true, at
	}
	if _, noted := m.reauthorizationRequestedAt[r.sub.ID]; !noted {
		m.reauthorizationRequestedAt[r.sub.ID] = r.reauthorizationRequestedAt
		m.knownChanged = true
	}
}

// clearReauthorization records that Graph received the reauthorization.
func (m *Manager) clearReauthorization(r *resourceState, at time.Time) {
	if !r.reauthorize {
		return
	}
	r.reauthorize, r.reauthorizedAt = false, at
	if _, noted := m.reauthorizationRequestedAt[r.sub.ID]; noted {
		delete(m.reauthorizationRequestedAt, r.sub.ID)
		m.knownChanged = true
	}
}

// resumeReauthorization requests the reauthorization that an earlier run left pending. With RenewOnAdopt, when events may have
// been missed, it requests one for every adopted subscription.
func (m *Manager) resumeReauthorization(r *resourceState, at time.Time) {
	if since, found := m.reauthorizationRequestedAt[r.sub.ID]; found {
		m.requestReauthorization(r, since)
	} else if m.settings.RenewOnAdopt {
		m.requestReauthorization(r, at)
		r.reauthorizedAt = at.Add(time.Duration(r.position)*adoptionSpacing - eventSpacing)
	}
}

// paused reports whether Graph may have paused delivery because a reauthorization has been pending for too long.
func (r *resourceState) paused(now time.Time) bool {
	return r.active && r.reauthorize && now.Sub(r.reauthorizationRequestedAt) > deliveryGracePeriod
}

// interruptPaused opens an interruption for each resource whose delivery may have paused.
func (m *Manager) interruptPaused(now time.Time) {
	for _, r := range m.resources {
		if r.paused(now) && r.interruption == "" {
			m.logWarning("Graph may have paused delivery, because the reauthorization that it asked for has not succeeded", r)
			m.interrupt(r, ReasonPaused, r.reauthorizationRequestedAt)
		}
	}
}
