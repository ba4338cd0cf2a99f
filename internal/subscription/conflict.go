package subscription

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// ConflictError says that a subscription with another notification URL has the place of a wanted one. An application may
// have one for the whole tenant, and one for each user:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
type ConflictError struct {
	// ID is the other subscription's, Host where it sends to.
	ID, Host string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("subscription %s of the same application, which sends to %s, takes the place of ours", e.ID, e.Host)
}

// Hint says in one sentence what to do about it.
func (*ConflictError) Hint() string {
	return "Delete that subscription, use another app registration, or set subscription.replace_foreign: true to take its place."
}

// KeyConflictError says that another receiver uses our notification URL with an encryption key that we don't have, so that
// the two took each other's subscription away: an application may have one for each resource, and what is encrypted for one
// of them the other one can't read.
type KeyConflictError struct {
	// ID is the subscription that the other receiver made last.
	ID string
	// CertificateID is what that is encrypted for, "" where Graph does not say.
	CertificateID string
}

func (e *KeyConflictError) Error() string {
	certificate := "a certificate that Graph does not name"
	if e.CertificateID != "" {
		certificate = "certificate " + e.CertificateID
	}
	return fmt.Sprintf("another receiver uses the same notification URL with another encryption key: it made subscription %s, encrypted for %s, in place of ours",
		e.ID, certificate)
}

// Hint says in one sentence what to do about it.
func (*KeyConflictError) Hint() string {
	return "Give all receivers at this URL the same encryption.certificates, or each an app registration and a notification_url of its own; until then they take turns, an hour each."
}

const (
	// keyConflictLimit is how many subscriptions of another key in a row are replaced at once.
	keyConflictLimit = 2
	// keyConflictWait is how long a further one is left alone. Its receiver may be gone, and if it is not, then each of the
	// two has the subscription for a while, after which it reads from the history what went to the other one.
	keyConflictWait = time.Hour
)

// keyConflict is about one place in Graph's quota, and a receiver with another key that makes subscriptions there.
type keyConflict struct {
	// count is the number of subscriptions in a row that one of the other key followed on, or was: the first may be a
	// leftover of an earlier run of this receiver whose key was lost, while what follows on it was made by somebody alive.
	count int
	// latest is the last one, firstSeen and lastSeen when the list showed it.
	latest              graph.Subscription
	firstSeen, lastSeen time.Time
}

// confirmed tells whether there is another receiver.
func (c keyConflict) confirmed() bool { return c.count > 1 }

// deferred tells whether the latest subscription of the other key is to be left alone for now.
func (c keyConflict) deferred(now time.Time) bool {
	return c.count > keyConflictLimit && now.Before(c.deferredUntil())
}

func (c keyConflict) deferredUntil() time.Time { return c.firstSeen.Add(keyConflictWait) }

// observe returns the conflict after a list that shows a subscription of the other key. ownLived says that this receiver had a
// subscription in that place: then the other one must have been made after it.
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

// updateKeyConflicts brings up to date what is known of other receivers, from the list as it is now.
func (m *Manager) updateKeyConflicts(have []graph.Subscription, at time.Time) {
	f := m.facts()
	own := m.settings.wanted("")
	for _, h := range have {
		if !expired(h, at) && f.otherKey(h, own) {
			m.keyConflicts[path(h.Resource)] = m.keyConflicts[path(h.Resource)].observe(h, m.wasActive(path(h.Resource)), at)
		}
	}
	// A receiver that is alive would have taken the place by then.
	over := keyConflictWait + 2*m.settings.CheckInterval + maxBackoff
	maps.DeleteFunc(m.keyConflicts, func(_ string, c keyConflict) bool { return at.Sub(c.lastSeen) > over })
	m.reportKeyConflict(at, over)
}

// reportKeyConflict makes a failure of it, one for all resources.
func (m *Manager) reportKeyConflict(at time.Time, over time.Duration) {
	for _, slot := range slices.Sorted(maps.Keys(m.keyConflicts)) {
		c := m.keyConflicts[slot]
		if !c.confirmed() {
			continue
		}
		m.keyConflict.operation = opReplace
		m.keyConflict.err = &KeyConflictError{ID: c.latest.ID, CertificateID: c.latest.EncryptionCertificateID}
		m.keyConflict.retryAt = c.lastSeen.Add(over)
		if c.deferred(at) {
			m.keyConflict.retryAt = c.deferredUntil()
		}
		return
	}
	m.keyConflict.succeed()
}

// wasActive tells whether this process has had a subscription in that place.
func (m *Manager) wasActive(slot string) bool {
	return slices.ContainsFunc(m.resources, func(r *resourceState) bool { return r.wasActive && path(r.resource) == slot })
}
