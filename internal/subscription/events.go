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

// take empties the inbox.
func (i *inbox) take() map[string]pendingEvents {
	i.mu.Lock()
	defer i.mu.Unlock()
	taken := i.pending
	i.pending = map[string]pendingEvents{}
	return taken
}

const (
	// deliveryGoesOn is how long Graph is taken to deliver after it asked for a reauthorization. It says that delivery
	// pauses after a while, and that what happens then is lost, not after which:
	// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
	deliveryGoesOn = 15 * time.Minute
	// adoptionSpacing is the time between the renewals of subscriptions that are adopted together.
	adoptionSpacing = 200 * time.Millisecond
)

// requestReauthorization notes that Graph waits for a reauthorization.
func (k *Manager) requestReauthorization(w *resourceState, at time.Time) {
	if !w.reauthorize {
		w.reauthorize, w.reauthorizationRequestedAt = true, at
	}
	if _, noted := k.reauthorizationRequestedAt[w.sub.ID]; !noted {
		k.reauthorizationRequestedAt[w.sub.ID] = w.reauthorizationRequestedAt
		k.knownChanged = true
	}
}

// clearReauthorization notes that Graph has it.
func (k *Manager) clearReauthorization(w *resourceState, at time.Time) {
	if !w.reauthorize {
		return
	}
	w.reauthorize, w.eventAt = false, at
	if _, noted := k.reauthorizationRequestedAt[w.sub.ID]; noted {
		delete(k.reauthorizationRequestedAt, w.sub.ID)
		k.knownChanged = true
	}
}

// resumeReauthorization asks for what an earlier run may have left undone: what it knew of, or, where events may have gone by unheard,
// the renewal of whatever is adopted.
func (k *Manager) resumeReauthorization(w *resourceState, at time.Time) {
	if since, found := k.reauthorizationRequestedAt[w.sub.ID]; found {
		k.requestReauthorization(w, since)
	} else if k.s.RenewOnAdopt {
		k.requestReauthorization(w, at)
		w.eventAt = at.Add(time.Duration(w.position)*adoptionSpacing - eventSpacing)
	}
}

// paused tells whether Graph may have stopped to deliver, since it waits for a reauthorization for too long.
func (w *resourceState) paused(now time.Time) bool {
	return w.active && w.reauthorize && now.Sub(w.reauthorizationRequestedAt) > deliveryGoesOn
}

// pause opens an interruption where delivery may have paused.
func (k *Manager) pause(now time.Time) {
	for _, w := range k.resources {
		if w.paused(now) && w.interruption == "" {
			k.warn("graph may have stopped to deliver, since the subscription can't be renewed as it asked to", w)
			k.interrupt(w, ReasonPaused, w.reauthorizationRequestedAt)
		}
	}
}
