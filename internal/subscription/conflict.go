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

// proven tells whether there is another receiver.
func (c keyConflict) proven() bool { return c.count > 1 }

// waits tells whether the latest subscription of the other key is to be left alone for now.
func (c keyConflict) waits(now time.Time) bool {
	return c.count > keyConflictLimit && now.Before(c.waitsUntil())
}

func (c keyConflict) waitsUntil() time.Time { return c.firstSeen.Add(keyConflictWait) }

// seen returns the conflict after a list that shows a subscription of the other key. ownLived says that this receiver had a
// subscription in that place: then the other one must have been made after it.
func (c keyConflict) seen(s graph.Subscription, ownLived bool, now time.Time) keyConflict {
	if c.count == 0 && ownLived {
		c.count = 1
	}
	if s.ID != c.latest.ID {
		c.count++
		c.latest, c.firstSeen = s, now
	}
	c.lastSeen = now
	return c
}

// noteKeyConflicts brings up to date what is known of other receivers, from the list as it is now.
func (k *Manager) noteKeyConflicts(have []graph.Subscription, at time.Time) {
	f := k.facts()
	own := k.s.wanted("")
	for _, h := range have {
		if !expired(h, at) && f.otherKey(h, own) {
			k.keyConflicts[path(h.Resource)] = k.keyConflicts[path(h.Resource)].seen(h, k.lived(path(h.Resource)), at)
		}
	}
	// A receiver that is alive would have taken the place by then.
	over := keyConflictWait + 2*k.s.CheckInterval + longestBackoff
	maps.DeleteFunc(k.keyConflicts, func(_ string, c keyConflict) bool { return at.Sub(c.lastSeen) > over })
	k.reportKeyConflict(at, over)
}

// reportKeyConflict makes a failure of it, one for all resources.
func (k *Manager) reportKeyConflict(at time.Time, over time.Duration) {
	for _, place := range slices.Sorted(maps.Keys(k.keyConflicts)) {
		c := k.keyConflicts[place]
		if !c.proven() {
			continue
		}
		k.keyConflict.operation = opReplace
		k.keyConflict.err = &KeyConflictError{ID: c.latest.ID, CertificateID: c.latest.EncryptionCertificateID}
		k.keyConflict.retryAt = c.lastSeen.Add(over)
		if c.waits(at) {
			k.keyConflict.retryAt = c.waitsUntil()
		}
		return
	}
	k.keyConflict.succeed()
}

// lived tells whether this process has had a subscription in that place.
func (k *Manager) lived(place string) bool {
	return slices.ContainsFunc(k.resources, func(w *resourceState) bool { return w.lived && path(w.resource) == place })
}
