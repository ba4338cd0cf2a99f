package notification

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Decrypted is the result of decrypting a collection. Each list is in the order of the items.
type Decrypted struct {
	// Received holds the authentic interactions.
	Received []interaction.Received
	// Lifecycle holds the authentic lifecycle events.
	Lifecycle []Lifecycle
	// Rejected holds everything else.
	Rejected []Rejection
}

// Lifecycle is an authentic lifecycle notification:
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
type Lifecycle struct {
	SubscriptionID string
	// Event is one of the constants below, or another event that Graph sent.
	Event string
	// Expiration is when the subscription expires, in UTC; zero if missing or invalid.
	Expiration time.Time
}

// The lifecycle events that Graph documents.
const (
	ReauthorizationRequired = "reauthorizationRequired"
	SubscriptionRemoved     = "subscriptionRemoved"
	Missed                  = "missed"
)

// Rejection is an item that did not become an interaction, or several such items that differ in nothing else.
type Rejection struct {
	Reason Reason
	// Count is the number of items; 0 means one.
	Count int
	// Gap is empty if no interaction is missing: the item was forged, or was a lifecycle event.
	Gap GapReason
	// ItemID is the id of the interaction, which is its creation time in epoch milliseconds; empty if unknown or forged.
	ItemID string
	// ContentDigest identifies the content, as in interaction.Received; zero if there is none or if Gap is empty.
	ContentDigest [sha256.Size]byte
	// Err says what happened and what an operator can do. It contains neither content nor tokens.
	Err error
}

// ForeignItems returns a Rejection of count items whose clientState is not that of one of our subscriptions.
func ForeignItems(count int) Rejection {
	return Rejection{Reason: ReasonClientState, Count: count, Err: ErrClientState}
}

// LimitError is returned for a body that exceeds a limit of this receiver and that Graph may have sent, since at least one
// item has a clientState of ours.
type LimitError struct {
	// Limit is ErrTooDeep or ErrTooMany.
	Limit error
	// Rejected holds a Rejection for each minute in which interactions of the body were created, one for all interactions
	// whose id is not a time, and one for all lifecycle events.
	Rejected []Rejection
}

func (e *LimitError) Error() string { return e.Limit.Error() }

func (e *LimitError) Unwrap() error { return e.Limit }

func newLimitError(limit error, own [][]byte) *LimitError {
	reason := fmt.Errorf("%w: the body has a client state of ours, so its interactions are fetched from the history; "+
		"Graph is not known to send such bodies, please report this", limit)
	type group struct {
		minute int64
		gap    bool
	}
	refused, index := &LimitError{Limit: limit}, map[group]int{}
	for _, text := range own {
		var wire wireItem
		_ = json.Unmarshal(text, &wire) // see Decode
		item := wire.item()
		key := group{gap: item.LifecycleEvent == ""}
		if at, ok := (&interaction.Interaction{ID: item.ResourceID}).CreatedAt(); ok && key.gap {
			key.minute = at.Unix() / 60
		}
		i, found := index[key]
		if !found {
			i = len(refused.Rejected)
			index[key] = i
			refused.Rejected = append(refused.Rejected, *item.unverified(ReasonLimit, reason))
		}
		refused.Rejected[i].Count++
	}
	return refused
}

// GapReason says why an interaction that exists is missing.
type GapReason string

// The reasons of gaps that are caused by an item.
const (
	GapUnverified    GapReason = "unverified"
	GapUndecryptable GapReason = "undecryptable"
	GapEmpty         GapReason = "empty"
)

// Reason says why an item was rejected. The set is closed, so it can be a metric attribute.
type Reason string

// The reasons of rejections.
const (
	// ReasonClientState: the clientState is not ours, so the item counts as forged.
	ReasonClientState Reason = "client_state"
	// ReasonTenant: the item names no tenant or another tenant.
	ReasonTenant Reason = "tenant"

	// Reasons of a missing or invalid validation token, or of too many of them.
	ReasonTokenMissing     Reason = "token_missing"
	ReasonTokenCount       Reason = "token_count"
	ReasonTokenMalformed   Reason = "token_malformed"
	ReasonTokenAlgorithm   Reason = "token_algorithm" //nolint:gosec // a reason, not a token
	ReasonTokenKey         Reason = "token_key"
	ReasonTokenSignature   Reason = "token_signature"
	ReasonTokenExpired     Reason = "token_expired"
	ReasonTokenNotYetValid Reason = "token_not_yet_valid" //nolint:gosec // a reason, not a token
	ReasonTokenAudience    Reason = "token_audience"
	ReasonTokenVersion     Reason = "token_version"
	ReasonTokenPublisher   Reason = "token_publisher"
	ReasonTokenIssuer      Reason = "token_issuer"
	ReasonTokenTenant      Reason = "token_tenant"

	// ReasonChangeType: neither created, updated nor deleted, so it is unknown what happened to the interaction.
	ReasonChangeType Reason = "change_type"
	// ReasonContentMissing: an item without content, other than a deletion with an id.
	ReasonContentMissing Reason = "content_missing"
	// ReasonCertificate: encrypted for a certificate that is not configured.
	ReasonCertificate Reason = "certificate"
	// ReasonOAEP: the private key cannot decrypt the content key.
	ReasonOAEP Reason = "oaep"
	// ReasonHMAC: the content does not match its signature.
	ReasonHMAC             Reason = "hmac"
	ReasonSignatureMissing Reason = "signature_missing"
	ReasonMalformed        Reason = "malformed"
	// ReasonLimit: in a body that has more items or deeper nesting than this receiver accepts.
	ReasonLimit Reason = "limit"
	// ReasonPlaintext: the decrypted content is not an interaction.
	ReasonPlaintext Reason = "plaintext"
)
