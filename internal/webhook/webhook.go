// Package webhook is the HTTP listener that Microsoft Graph calls: handshakes, change notifications and lifecycle
// notifications. HTTP codes live here and nowhere else.
package webhook

import (
	"context"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// Decrypter proves that the items of a collection are authentic and decrypts them.
type Decrypter interface {
	// ClientStates returns what tells whether a clientState, empty for none, is that of a subscription of ours; what it is
	// given is only valid during the call. It may wait until ctx ends, and fails only when that cannot be said now.
	ClientStates(ctx context.Context) (ours func(clientState []byte) bool, err error)
	// Decrypt fails only when it cannot be decided now; the sender is then asked to come again.
	Decrypt(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error)
}

// Intake is the way into the pipelines.
type Intake interface {
	// Take returns once the pipeline took or turned down everything; nil means that all was taken. It must return when
	// its context ends. Its error may be a tree: only where every leaf is permanent (consumererror.IsPermanent) is the
	// sender kept from coming again.
	Take(ctx context.Context, received []interaction.Received) error
}

// Lifecycle hears of authentic lifecycle notifications.
type Lifecycle interface {
	// Wake never blocks.
	Wake(event notification.Lifecycle)
}

// Rejections hears of the items that were dropped, whatever the sender was answered.
type Rejections interface {
	// Reject returns soon, and in any case: the sender waits for it, but no longer than Settings.AckTimeout.
	Reject(ctx context.Context, rejections []notification.Rejection)
}

// Telemetry is what the webhook reports of itself. Its methods never block.
type Telemetry interface {
	// Notifications counts what became of notifications: items, or requests for the outcomes that say so. Rejected
	// items are not among them, Rejections hears of those.
	Notifications(ctx context.Context, outcome Outcome, count int)
	// Acknowledged reports the answer to everything but a handshake, with the time from the arrival of the request's
	// headers until it was written.
	Acknowledged(ctx context.Context, status int, took time.Duration)
	// Handshake reports the answer to a handshake: 200, or 400 for a token that cannot be echoed.
	Handshake(ctx context.Context, status int)
}

// Outcome is what became of a notification.
type Outcome string

// The outcomes that count items. An item of an answered request is counted once under Delivered, Refused, Failed,
// TimedOut or Lifecycle; DeliveredLate counts again those of TimedOut that got through after all.
const (
	// Delivered: the pipeline took it, and the sender was told so.
	Delivered Outcome = "delivered"
	// DeliveredLate: the pipeline took it after the sender had been told to come again.
	DeliveredLate Outcome = "delivered_late"
	// Refused: the pipeline refused it for good, so the sender was told not to come again.
	Refused Outcome = "refused"
	// Failed: it could not be opened or delivered now, and the sender was told to come again. Where there is no encryption
	// key yet, it counts the request.
	Failed Outcome = "failed"
	// TimedOut: the pipeline had not returned within the acknowledgment timeout, and the sender was told to come again.
	TimedOut Outcome = "timed_out"
	// LifecycleEvent: it was a lifecycle notification, and was handed on.
	LifecycleEvent Outcome = "lifecycle"
)

// The outcomes that count requests, because their items were never seen.
const (
	// Overloaded: too much was under way, and the sender was told to come again.
	Overloaded Outcome = "overloaded"
	// Stopping: the receiver was shutting down, and the sender was told to come again.
	Stopping Outcome = "stopping"
	// TooLarge: the body was longer than the limit. Microsoft Graph gives such a notification up after four hours.
	TooLarge Outcome = "too_large"
	// Malformed: it was compressed, not JSON, or not a collection of notifications.
	Malformed Outcome = "malformed"
	// Interrupted: the body did not arrive in full.
	Interrupted Outcome = "interrupted"
)
