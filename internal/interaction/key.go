package interaction

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Key tells one version of one interaction from all others, whichever way it came. It is comparable.
//
// Ids are unique only inside a session, and the same message comes again when it changes, with another etag.
// A deletion is a thing of its own. One that Graph sent without content names no session; then the subscription
// takes its place, and the key matches redeliveries of the same notification only; and another user's deletion of the same
// id, since nothing in Graph's payload parts the two:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/change-notifications/aiinteraction-changenotifications
type Key struct {
	// Tenant is in lower case.
	Tenant string
	// Session is empty without content.
	Session string
	// Subscription is in lower case; it is empty unless without content.
	Subscription string
	ID           string
	// ETag is the id where Graph sent none. It is empty without content.
	ETag string
	// Deleted parts a deletion from the version that it deletes.
	Deleted        bool
	WithoutContent bool
}

// Key is what duplicates are known by.
func (r *Received) Key() Key {
	k := Key{
		Tenant:         strings.ToLower(r.TenantID),
		ID:             r.ID,
		Deleted:        r.Change == Deleted,
		WithoutContent: r.WithoutContent,
	}
	if r.WithoutContent {
		k.Subscription = strings.ToLower(r.SubscriptionID)
		return k
	}
	k.Session = r.SessionID
	k.ETag = cmp.Or(r.ETag, r.ID)
	return k
}

// Text is the key in one string, equal only for equal keys.
func (k Key) Text() string {
	deleted := "0"
	if k.Deleted {
		deleted = "1"
	}
	if k.WithoutContent {
		return strings.Join([]string{"tombstone", k.Tenant, k.Subscription, k.ID, deleted}, separator)
	}
	return strings.Join([]string{"interaction", k.Tenant, k.Session, k.ID, k.ETag, deleted}, separator)
}

const separator = "\x1f"

// UID is a log record's unique id: the same for the same change of the same interaction, on every replica and after every
// restart, whichever way it came. It is the first 32 hex digits of the SHA-256 of these parts, in UTF-8, joined by the
// byte 0x1F.
//
//	interaction, tenant, session, id, change, for an update also the etag (the id where there is none)
//	tombstone, tenant, subscription, id, change       (without content)
//
// Tenant and subscription are in lower case. The first part keeps the two forms from ever being equal.
func (r *Received) UID() string {
	k := r.Key()
	parts := []string{"interaction", k.Tenant, k.Session, k.ID, string(r.Change)}
	switch {
	case k.WithoutContent:
		parts = []string{"tombstone", k.Tenant, k.Subscription, k.ID, string(r.Change)}
	case r.Change == Updated:
		parts = append(parts, k.ETag)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, separator)))
	return hex.EncodeToString(sum[:16])
}
