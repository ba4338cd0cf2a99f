package subscription

import "time"

const (
	// deliveryGoesOn is how long Graph is taken to deliver after it asked for a reauthorization. It says that delivery
	// pauses after a while, and that what happens then is lost, not after which:
	// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
	deliveryGoesOn = 15 * time.Minute
	// adoptionSpacing is the time between the renewals of subscriptions that are adopted together.
	adoptionSpacing = 200 * time.Millisecond
)

// ask notes that Graph waits for a reauthorization.
func (k *Keeper) ask(w *watch, at time.Time) {
	if !w.reauthorize {
		w.reauthorize, w.askedAt = true, at
	}
	if _, noted := k.unanswered[w.sub.ID]; !noted {
		k.unanswered[w.sub.ID] = w.askedAt
		k.knownChanged = true
	}
}

// answer notes that Graph has it.
func (k *Keeper) answer(w *watch, at time.Time) {
	if !w.reauthorize {
		return
	}
	w.reauthorize, w.eventAt = false, at
	if _, noted := k.unanswered[w.sub.ID]; noted {
		delete(k.unanswered, w.sub.ID)
		k.knownChanged = true
	}
}

// askAgain asks for what an earlier run may have left undone: what it knew of, or, where events may have gone by unheard,
// the renewal of whatever is adopted.
func (k *Keeper) askAgain(w *watch, at time.Time) {
	if since, found := k.unanswered[w.sub.ID]; found {
		k.ask(w, since)
	} else if k.s.Unheard {
		k.ask(w, at)
		w.eventAt = at.Add(time.Duration(w.position)*adoptionSpacing - eventSpacing)
	}
}

// paused tells whether Graph may have stopped to deliver, since it waits for a reauthorization for too long.
func (w *watch) paused(now time.Time) bool {
	return w.active && w.reauthorize && now.Sub(w.askedAt) > deliveryGoesOn
}

// pause opens an interruption where delivery may have paused.
func (k *Keeper) pause(now time.Time) {
	for _, w := range k.watches {
		if w.paused(now) && w.interruption == "" {
			k.warn("graph may have stopped to deliver, since the subscription can't be renewed as it asked to", w)
			k.interrupt(w, ReasonPaused, w.askedAt)
		}
	}
}
