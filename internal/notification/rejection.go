package notification

import (
	"crypto/sha256"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Opened is what a collection turned out to hold. Each list is in the order of the items.
type Opened struct {
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

// Rejection is an item that did not become an interaction.
type Rejection struct {
	Reason Reason
	// Gap is empty when nothing is missing: the item was forged, or it was a lifecycle event.
	Gap GapReason
	// ItemID is the id of the interaction, its time of creation in epoch milliseconds; empty where unknown or forged.
	ItemID string
	// Signature is that of its content, as in interaction.Received; zero where there is none, and where nothing is missing.
	Signature [sha256.Size]byte
	// Err says what happened and what mends it. It holds neither content nor tokens.
	Err error
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
	// ReasonPlaintext: decrypted, and no interaction.
	ReasonPlaintext Reason = "plaintext"
)
