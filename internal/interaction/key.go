// SPDX-License-Identifier: Apache-2.0

package interaction

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Key identifies one interaction in all its versions, whether it came from a notification or from the history. It is
// comparable.
//
// Ids are unique only within a session. A deletion without content names no session, so the subscription is used instead.
// Such a key matches only redeliveries of the same notification, and another user's deletion of the same id, because
// Graph's payload does not distinguish the two:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/change-notifications/aiinteraction-changenotifications
type Key struct {
	// Tenant is in lower case.
	Tenant string
	// Session is empty without content.
	Session string
	// Subscription is in lower case. It is set only without content.
	Subscription string
	ID           string
	// WithoutContent is true for a deletion of which Graph sent only the id.
	WithoutContent bool
}

// Key returns the key by which the versions of an interaction are recognized.
func (r *Received) Key() Key {
	k := Key{Tenant: r.TenantID, ID: r.ID, WithoutContent: r.WithoutContent}
	if r.WithoutContent {
		k.Subscription = strings.ToLower(r.SubscriptionID)
	} else {
		k.Session = r.SessionID
	}
	return k
}

// Text returns the key as one string. Different keys have different strings.
func (k Key) Text() string { return strings.Join(k.parts(), separator) }

// parts begins with the kind of the key, so that the two kinds never collide.
func (k Key) parts() []string {
	if k.WithoutContent {
		return []string{"tombstone", k.Tenant, k.Subscription, k.ID}
	}
	return []string{"interaction", k.Tenant, k.Session, k.ID}
}

const separator = "\x1f"

// UID returns the unique id of the log record: the same for the same change of the same interaction, on every replica,
// after every restart, and from every source. It is the first 32 hex digits of the SHA-256 of these parts, in UTF-8,
// joined by the byte 0x1F:
//
//	interaction, tenant, session, id, change, and for an update the etag (the id if there is none)
//	tombstone, tenant, subscription, id, change       (without content)
//
// Tenant and subscription are in lower case, as in Key. The first part ensures that the two forms never collide.
func (r *Received) UID() string {
	parts := append(r.Key().parts(), string(r.Change))
	if r.Change == Updated && !r.WithoutContent {
		parts = append(parts, cmp.Or(r.ETag, r.ID))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, separator)))
	return hex.EncodeToString(sum[:16])
}

// turnIDLabel separates this derivation of an id from other ones, and from later versions of itself.
const turnIDLabel = "m365_copilot trace v1"

// TurnID returns the id of the turn, which is also its trace id: 32 hex digits, the first 16 bytes of the SHA-256 of label, tenant,
// session and turn, joined by the byte 0x1F. A prompt and its responses have the same id on every replica. It is empty if the
// turn is unknown.
func (r *Received) TurnID() string {
	if r.SessionID == "" || r.Turn == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{turnIDLabel, r.TenantID, r.SessionID, r.Turn}, separator)))
	return hex.EncodeToString(sum[:16])
}
