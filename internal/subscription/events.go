package subscription

import "sync"

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

// take empties the inbox.
func (i *inbox) take() map[string]pendingEvents {
	i.mu.Lock()
	defer i.mu.Unlock()
	taken := i.pending
	i.pending = map[string]pendingEvents{}
	return taken
}
