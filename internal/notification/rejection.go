package notification

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Decrypted is what a collection turned out to hold. Each list is in the order of the items.
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
	// Event is one of the constants below, or whatever else Graph sent.
	Event string
	// Expiration is when the subscription ends, in UTC; zero where Graph did not say it readably.
	Expiration time.Time
}

// The lifecycle events that Graph documents.
const (
	ReauthorizationRequired = "reauthorizationRequired"
	SubscriptionRemoved     = "subscriptionRemoved"
	Missed                  = "missed"
)

// Rejection is an item that did not become an interaction, or several with the same reason and nothing else to tell apart.
type Rejection struct {
	Reason Reason
	// Count is the number of items; 0 means one.
	Count int
	// Gap is empty when nothing is missing: the item was forged, or it was a lifecycle event.
	Gap GapReason
	// ItemID is the id of the interaction, its time of creation in epoch milliseconds; empty where unknown or forged.
	ItemID string
	// ContentDigest is that of its content, as in interaction.Received; zero where there is none, and where nothing is missing.
	ContentDigest [sha256.Size]byte
	// Err says what happened and what mends it. It holds neither content nor tokens.
	Err error
}

// ForeignItems are items without a clientState of ours.
func ForeignItems(count int) Rejection {
	return Rejection{Reason: ReasonClientState, Count: count, Err: ErrClientState}
}

// LimitError is a body that is only refused because it is larger or deeper than this receiver accepts, and that Graph may
// have sent, since a clientState in it is ours.
type LimitError struct {
	// Limit is ErrTooDeep or ErrTooMany.
	Limit error
	// Rejected holds a Rejection for each minute in which interactions of the body were created, and one for those whose
	// ids name no time, and for lifecycle events.
	Rejected []Rejection
}

func (e *LimitError) Error() string { return e.Limit.Error() }

func (e *LimitError) Unwrap() error { return e.Limit }

func newLimitError(limit error, own [][]byte) *LimitError {
	reason := fmt.Errorf("%w: the body has a client state of ours, so its interactions are fetched from the history; "+
		"Graph is not known to send such bodies, report it", limit)
	type group struct {
		minute int64
		gap    bool
	}
	refused, known := &LimitError{Limit: limit}, map[group]int{}
	for _, text := range own {
		var wire wireItem
		_ = json.Unmarshal(text, &wire) // see Decode
		item := wire.item()
		of := group{gap: item.LifecycleEvent == ""}
		if at, told := (&interaction.Interaction{ID: item.ResourceID}).CreatedAt(); told && of.gap {
			of.minute = at.Unix() / 60
		}
		i, found := known[of]
		if !found {
			i = len(refused.Rejected)
			known[of] = i
			refused.Rejected = append(refused.Rejected, *item.unverified(ReasonLimit, reason))
		}
		refused.Rejected[i].Count++
	}
	return refused
}

// GapReason says why an interaction that exists is missing.
type GapReason string

// The reasons of gaps that start with an item.
const (
	GapUnverified    GapReason = "unverified"
	GapUndecryptable GapReason = "undecryptable"
	GapEmpty         GapReason = "empty"
)

// Reason says why an item was rejected. The set is closed, so it can be an attribute of a metric.
type Reason string

// The reasons of rejections.
const (
	// ReasonClientState: forged, as far as anybody can tell.
	ReasonClientState Reason = "client_state"
	// ReasonTenant: the item names another tenant than ours.
	ReasonTenant Reason = "tenant"

	// What is wrong with a validation token, or with their number.
	ReasonTokenMissing     Reason = "token_missing"
	ReasonTokenCount       Reason = "token_count"
	ReasonTokenMalformed   Reason = "token_malformed"
	ReasonTokenAlgorithm   Reason = "token_algorithm" //nolint:gosec // a reason, no token
	ReasonTokenKey         Reason = "token_key"
	ReasonTokenSignature   Reason = "token_signature"
	ReasonTokenExpired     Reason = "token_expired"
	ReasonTokenNotYetValid Reason = "token_not_yet_valid" //nolint:gosec // a reason, no token
	ReasonTokenAudience    Reason = "token_audience"
	ReasonTokenVersion     Reason = "token_version"
	ReasonTokenPublisher   Reason = "token_publisher"
	ReasonTokenIssuer      Reason = "token_issuer"
	ReasonTokenTenant      Reason = "token_tenant"

	// ReasonChangeType: neither created nor updated nor deleted, so nobody can say what happened to the interaction.
	ReasonChangeType Reason = "change_type"
	// ReasonContentMissing: an item without content that is not the deletion of a known id.
	ReasonContentMissing Reason = "content_missing"
	// ReasonCertificate: encrypted for a certificate that is not configured.
	ReasonCertificate Reason = "certificate"
	// ReasonOAEP: the private key does not open the content's key.
	ReasonOAEP Reason = "oaep"
	// ReasonHMAC: the content is not what its signature was made for.
	ReasonHMAC             Reason = "hmac"
	ReasonSignatureMissing Reason = "signature_missing"
	ReasonMalformed        Reason = "malformed"
	// ReasonLimit: in a body with more items, or nested deeper, than this receiver accepts.
	ReasonLimit Reason = "limit"
	// ReasonPlaintext: decrypted, and no interaction.
	ReasonPlaintext Reason = "plaintext"
)
