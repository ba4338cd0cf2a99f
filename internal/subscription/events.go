package subscription

import (
	"sync"
	"time"
)

// The lifecycle events of Graph: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
const (
	// ReauthorizationRequired means: delivery will pause unless the subscription is renewed.
	ReauthorizationRequired = "reauthorizationRequired"
	// SubscriptionRemoved means: the subscription is no more.
	SubscriptionRemoved = "subscriptionRemoved"
	// Missed means: some changes were not delivered.
	Missed = "missed"
)

// Event is a lifecycle event whose authenticity was proven.
type Event struct {
	SubscriptionID string
	// Kind is one of the three events above. Others are ignored.
	Kind string
}

// maxPending bounds the subscriptions with events not yet looked at: an organization cannot have more.
const maxPending = 10_000

// pendingEvents are the events of one subscription, of which any number are as good as one.
type pendingEvents struct{ reauthorize, removed, missed bool }

// inbox takes events in until the loop gets to them.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex
	pending map[string]pendingEvents // by subscription id
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
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// drain empties the inbox.
func (i *inbox) drain() map[string]pendingEvents {
	i.mu.Lock()
	defer i.mu.Unlock()
	pending := i.pending
	i.pending = map[string]pendingEvents{}
	return pending
}

const (
	// deliveryGracePeriod is how long Graph is taken to deliver after it asked for a reauthorization. It says that delivery
	// pauses after a while, and that what happens then is lost, not after which:
	// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
	deliveryGracePeriod = 15 * time.Minute
	// adoptionSpacing is the time between the renewals of subscriptions that are adopted together.
	adoptionSpacing = 200 * time.Millisecond
)

// requestReauthorization notes that Graph waits for a reauthorization.
func (m *Manager) requestReauthorization(r *resourceState, at time.Time) {
	if !r.reauthorize {
		r.reauthorize, r.reauthorizationRequestedAt = true, at
	}
	if _, noted := m.reauthorizationRequestedAt[r.sub.ID]; !noted {
		m.reauthorizationRequestedAt[r.sub.ID] = r.reauthorizationRequestedAt
		m.knownChanged = true
	}
}

// clearReauthorization notes that Graph has it.
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

// resumeReauthorization asks for what an earlier run may have left undone: what it knew of, or, where events may have gone by unheard,
// the renewal of whatever is adopted.
func (m *Manager) resumeReauthorization(r *resourceState, at time.Time) {
	if since, found := m.reauthorizationRequestedAt[r.sub.ID]; found {
		m.requestReauthorization(r, since)
	} else if m.settings.RenewOnAdopt {
		m.requestReauthorization(r, at)
		r.reauthorizedAt = at.Add(time.Duration(r.position)*adoptionSpacing - eventSpacing)
	}
}

// paused tells whether Graph may have stopped to deliver, since it waits for a reauthorization for too long.
func (r *resourceState) paused(now time.Time) bool {
	return r.active && r.reauthorize && now.Sub(r.reauthorizationRequestedAt) > deliveryGracePeriod
}

// interruptPaused opens an interruption where delivery may have paused.
func (m *Manager) interruptPaused(now time.Time) {
	for _, r := range m.resources {
		if r.paused(now) && r.interruption == "" {
			m.logWarning("graph may have stopped to deliver, since the subscription can't be renewed as it asked to", r)
			m.interrupt(r, ReasonPaused, r.reauthorizationRequestedAt)
		}
	}
}
