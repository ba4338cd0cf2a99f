package subscription

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// ConflictError means that a subscription with another notification URL occupies the slot of a wanted one. An application may
// have one subscription for the whole tenant, and one for each user:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
type ConflictError struct {
	// ID is the id of the other subscription, Host the host of its notification URL.
	ID, Host string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("subscription %s of the same application, which sends to %s, occupies the place of this receiver's subscription", e.ID, e.Host)
}

// Hint returns one sentence with a suggested fix.
func (*ConflictError) Hint() string {
	return "Delete that subscription, use another app registration, or set subscription.replace_foreign: true to replace it."
}

// KeyConflictError means that another receiver uses the same notification URL with a key that this receiver does not have, so
// that each of the two replaced the other's subscription: an application may have only one for each resource, and neither
// receiver can decrypt what is encrypted for the other.
type KeyConflictError struct {
	// ID is the subscription that the other receiver created last.
	ID string
	// CertificateID is the certificate it is encrypted for, "" if Graph does not name it.
	CertificateID string
}

func (e *KeyConflictError) Error() string {
	certificate := "a certificate that Graph does not name"
	if e.CertificateID != "" {
		certificate = "certificate " + e.CertificateID
	}
	return fmt.Sprintf("another receiver uses the same notification URL with another encryption key: it created subscription %s, encrypted for %s, in place of this receiver's subscription",
		e.ID, certificate)
}

// Hint returns one sentence with a suggested fix.
func (*KeyConflictError) Hint() string {
	return "Give all receivers at this URL the same encryption.certificates, or each an app registration and a notification_url of its own; until then they alternate, an hour each."
}

const (
	// keyConflictLimit is how many consecutive subscriptions with another key are replaced immediately.
	keyConflictLimit = 2
	// keyConflictWait is how long the replacement of a further one is deferred. Its receiver may be gone by then. If it is
	// not, the two receivers alternate, and each reads from the history what was delivered to the other.
	keyConflictWait = time.Hour
)

// keyConflict tracks another receiver that creates subscriptions with its own key in one slot of Graph's quota.
type keyConflict struct {
	// count is the number of consecutive subscriptions that had another key or were replaced by one that has. The first may be
	// a leftover of an earlier run of this receiver whose key was lost; any that follow come from a running receiver.
	count int
	// latest is the most recent one; firstSeen and lastSeen are when the list showed it.
	latest              graph.Subscription
	firstSeen, lastSeen time.Time
}

// confirmed reports whether another receiver is certain.
func (c keyConflict) confirmed() bool { return c.count > 1 }

// deferred reports whether the replacement of the latest subscription with the other key has to wait.
func (c keyConflict) deferred(now time.Time) bool {
	return c.count > keyConflictLimit && now.Before(c.deferredUntil())
}

func (c keyConflict) deferredUntil() time.Time { return c.firstSeen.Add(keyConflictWait) }

// observe returns the conflict updated with a list that shows s, a subscription with the other key. ownWasActive means that
// this receiver had a subscription in that slot, so that the other one must have been created after it.
func (c keyConflict) observe(s graph.Subscription, ownWasActive bool, now time.Time) keyConflict {
	if c.count == 0 && ownWasActive {
		c.count = 1
	}
	if s.ID != c.latest.ID {
		c.count++
		c.latest, c.firstSeen = s, now
	}
	c.lastSeen = now
	return c
}

// updateKeyConflicts updates the conflicts with other receivers from the current list.
func (m *Manager) updateKeyConflicts(have []graph.Subscription, at time.Time) {
	f := m.facts()
	own := m.settings.wanted("")
	for _, h := range have {
		if !expired(h, at) && f.otherKey(h, own) {
			m.keyConflicts[path(h.Resource)] = m.keyConflicts[path(h.Resource)].observe(h, m.wasActive(path(h.Resource)), at)
		}
	}
	// A running receiver would have created another subscription by then.
	endsAfter := keyConflictWait + 2*m.settings.CheckInterval + maxBackoff
	maps.DeleteFunc(m.keyConflicts, func(_ string, c keyConflict) bool { return at.Sub(c.lastSeen) > endsAfter })
	m.reportKeyConflict(at, endsAfter)
}

// reportKeyConflict records a confirmed conflict as a failure, one for all resources.
func (m *Manager) reportKeyConflict(at time.Time, endsAfter time.Duration) {
	for _, slot := range slices.Sorted(maps.Keys(m.keyConflicts)) {
		c := m.keyConflicts[slot]
		if !c.confirmed() {
			continue
		}
		m.keyConflict.operation = opReplace
		m.keyConflict.err = &KeyConflictError{ID: c.latest.ID, CertificateID: c.latest.EncryptionCertificateID}
		m.keyConflict.retryAt = c.lastSeen.Add(endsAfter)
		if c.deferred(at) {
			m.keyConflict.retryAt = c.deferredUntil()
		}
		return
	}
	m.keyConflict.succeed()
}

// wasActive reports whether this process has had a subscription in that slot.
func (m *Manager) wasActive(slot string) bool {
	return slices.ContainsFunc(m.resources, func(r *resourceState) bool { return r.wasActive && path(r.resource) == slot })
}
