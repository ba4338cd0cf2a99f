// SPDX-License-Identifier: Apache-2.0

package notification

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// Rejection is an item that did not become an interaction, or several such items that differ in nothing else.
type Rejection struct {
	Reason Reason
	Count  int // of items
	// Gap is gap.Unverified, gap.Undecryptable or gap.Empty, or empty if no interaction is missing: the item was forged, or was a
	// lifecycle event.
	Gap gap.Reason
	// ItemID is the id of the interaction, which is its creation time in epoch milliseconds; empty if unknown or if Gap is empty.
	ItemID string
	// ContentDigest identifies the item, as in interaction.Received; zero if Gap is empty.
	ContentDigest [sha256.Size]byte
	// Err says what happened. It contains neither content nor tokens, and has a failure.
	Err error
}

// ForeignItems returns a Rejection of count items whose clientState is not that of one of our subscriptions.
func ForeignItems(count int) Rejection {
	return Rejection{Reason: ReasonClientState, Count: count, Err: errForeign}
}

// TooManyItems returns a Rejection of count items of ours, whose body never fits into the bytes in flight.
func TooManyItems(count int) Rejection {
	err := errorf(ReasonLimit, "%d items in one notification, which needs more than webhook.max_in_flight_bytes", count)
	return Rejection{Reason: ReasonLimit, Count: count, Gap: gap.Unverified, Err: err}
}

var errForeign = errorf(ReasonClientState, "client state is not ours, dropped")

// Error says why an item or a validation token was rejected. It contains neither content nor tokens.
type Error struct {
	Reason  Reason
	message string
}

// errorf formats with verbs of package fmt. What comes from outside is formatted with %.128q, so that it cannot fill the log.
func errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.message }

// Failure returns the failure of the reason.
func (e *Error) Failure() failure.Failure {
	return failure.New(consequences[e.Reason].code)
}

// reject returns the rejection of an item because of an *Error, or of a panic.
func (i *Item) reject(err error) Rejection {
	known, ok := errors.AsType[*Error](err)
	if !ok {
		known = errorf(ReasonPlaintext, "decrypt an item: %v", err)
	}
	rejection := Rejection{Reason: known.Reason, Count: 1, Err: known}
	// No interaction is missing because of a lifecycle event.
	if missing := consequences[known.Reason].missing; missing != "" && i.LifecycleEvent == "" {
		rejection.Gap, rejection.ItemID, rejection.ContentDigest = missing, i.ResourceID, i.ContentDigest()
	}
	return rejection
}

// Reason says why an item was rejected. The set is closed, so it can be a metric attribute.
type Reason string

// The reasons of rejections.
const (
	// ReasonClientState: the clientState is not ours, so the item counts as forged.
	ReasonClientState Reason = "client_state"
	// ReasonTenant: the item names no tenant or another tenant.
	ReasonTenant Reason = "tenant"
	// ReasonLimit: one body has more items than can be decoded.
	ReasonLimit Reason = "limit"

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
	// ReasonOAEP: the private key cannot decrypt the content key, so it does not belong to the certificate that was used.
	ReasonOAEP Reason = "oaep"
	// ReasonHMAC: the content does not match its signature.
	ReasonHMAC             Reason = "hmac"
	ReasonSignatureMissing Reason = "signature_missing"
	// ReasonMalformed: base64, a length or the padding of the content is wrong.
	ReasonMalformed Reason = "malformed"
	// ReasonPlaintext: the decrypted content is not an interaction, or cannot be read.
	ReasonPlaintext Reason = "plaintext"
)

// consequences holds for each reason which gap an item leaves that is rejected for it, and what the operator is told.
var consequences = map[Reason]struct {
	missing gap.Reason
	code    failure.Code
}{
	ReasonClientState:      {"", failure.ForeignClientState},
	ReasonTenant:           {gap.Unverified, failure.OtherTenant},
	ReasonLimit:            {gap.Unverified, failure.TooManyItems},
	ReasonTokenMissing:     {gap.Unverified, failure.TokensMissing},
	ReasonTokenCount:       {gap.Unverified, failure.NotificationUnsupported},
	ReasonTokenMalformed:   {gap.Unverified, failure.NotificationAltered},
	ReasonTokenAlgorithm:   {gap.Unverified, failure.NotificationUnsupported},
	ReasonTokenKey:         {gap.Unverified, failure.TokenIssuer},
	ReasonTokenSignature:   {gap.Unverified, failure.NotificationAltered},
	ReasonTokenExpired:     {gap.Unverified, failure.ClockWrong},
	ReasonTokenNotYetValid: {gap.Unverified, failure.ClockWrong},
	ReasonTokenAudience:    {gap.Unverified, failure.TokenAudience},
	ReasonTokenVersion:     {gap.Unverified, failure.NotificationUnsupported},
	ReasonTokenPublisher:   {gap.Unverified, failure.TokenPublisher},
	ReasonTokenIssuer:      {gap.Unverified, failure.TokenIssuer},
	ReasonTokenTenant:      {gap.Unverified, failure.OtherTenant},
	ReasonChangeType:       {gap.Unverified, failure.NotificationUnsupported},
	ReasonContentMissing:   {gap.Empty, failure.ContentMissing},
	ReasonCertificate:      {gap.Undecryptable, failure.CertificateMissing},
	ReasonOAEP:             {gap.Undecryptable, failure.CertificateMissing},
	ReasonHMAC:             {gap.Undecryptable, failure.NotificationAltered},
	ReasonSignatureMissing: {gap.Undecryptable, failure.NotificationAltered},
	ReasonMalformed:        {gap.Undecryptable, failure.NotificationAltered},
	ReasonPlaintext:        {gap.Undecryptable, failure.NotificationUnsupported},
}
