package subscription

import (
	"fmt"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// conflictError returns the error of a subscription with another notification URL that occupies the slot of a wanted one. An
// application may have one subscription for the whole tenant, and one for each user:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
func conflictError(other graph.Subscription) error {
	return failure.With(
		fmt.Errorf("subscription %s of the same application, which sends to %s, occupies the place of this receiver's subscription",
			other.ID, hostOf(other.NotificationURL)),
		failure.New(failure.SubscriptionConflict))
}

// keyConflictError returns the error of a subscription that a rival created last.
func keyConflictError(other graph.Subscription) error {
	return failure.With(
		fmt.Errorf("another receiver uses the same notification URL with another encryption key: it created subscription %s, "+
			"encrypted for certificate %q, in place of this receiver's subscription", other.ID, other.EncryptionCertificateID),
		failure.New(failure.SubscriptionKeyConflict))
}

const (
	// rivalLimit is how many consecutive subscriptions of a rival are replaced immediately.
	rivalLimit = 2
	// rivalWait is how long the replacement of a further one is deferred. Its receiver may be gone by then. If it is not, the
	// two receivers alternate, and each reads from the history what was delivered to the other.
	rivalWait = time.Hour
)

// rival is another receiver that uses the same notification URL with a key that this receiver does not have, so that each of
// the two replaces the other's subscription: an application may have only one for each resource, and neither receiver can
// decrypt what is encrypted for the other.
type rival struct {
	// count is the number of consecutive subscriptions that had another key or were replaced by one that has. The first may be
	// a leftover of an earlier run of this receiver whose key was lost; any that follow come from a running receiver.
	count int
	// latest is the most recent one, since when the list first showed it.
	latest graph.Subscription
	since  time.Time
}

// observe returns the rival updated with a list that shows s, a subscription with the other key. ownWasActive means that this
// receiver had a subscription in that slot, so that the other one must have been created after it.
func (r rival) observe(s graph.Subscription, ownWasActive bool, now time.Time) rival {
	if r.count == 0 && ownWasActive {
		r.count = 1
	}
	if s.ID != r.latest.ID {
		r.count++
		r.latest, r.since = s, now
	}
	return r
}

// confirmed reports whether another receiver is certain.
func (r rival) confirmed() bool { return r.count > 1 }

// deferred reports whether the replacement of the latest subscription has to wait.
func (r rival) deferred(now time.Time) bool {
	return r.count > rivalLimit && now.Before(r.since.Add(rivalWait))
}

// observeRivals updates the rivals from the current list, and notes a confirmed one as a failure, one for all resources.
func (m *Manager) observeRivals(have []graph.Subscription, at time.Time) {
	for _, h := range have {
		if slot := path(h.Resource); !expired(h, at) && m.otherKey(h, m.settings.NotificationURL) {
			ownWasActive := slices.ContainsFunc(m.resources, func(r *resourceState) bool { return r.own != nil && path(r.resource) == slot })
			m.rivals[slot] = m.rivals[slot].observe(h, ownWasActive, at)
		}
	}
	m.conflict.recovered()
	// A running receiver creates another subscription within an hour after its latest one was replaced.
	lasts := 2*rivalWait + 2*m.settings.CheckInterval + maxWait
	for slot, r := range m.rivals {
		switch {
		case at.Sub(r.since) > lasts:
			delete(m.rivals, slot)
		case r.confirmed():
			m.conflict.failed(at, opReplace, keyConflictError(r.latest), max(r.since.Add(rivalWait).Sub(at), minWait))
		}
	}
}
