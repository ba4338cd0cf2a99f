// Package webhook is the HTTP listener that Microsoft Graph calls with handshakes, change notifications and lifecycle
// notifications. It is the only package that knows the HTTP status codes of the answers.
package webhook

import (
	"context"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// Decrypter verifies that the items of a collection are authentic and decrypts them.
type Decrypter interface {
	// ClientStates returns a function that reports whether a clientState, empty for none, is that of one of our
	// subscriptions; its argument is only valid during the call.
	ClientStates() (ours func(clientState []byte) bool)
	// Decrypt fails only if the collection cannot be decided now; the sender is then asked to retry.
	Decrypt(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error)
}

// Intake delivers interactions to the pipelines.
type Intake interface {
	// Take returns once the pipeline accepted or refused everything; nil means that it accepted everything. It must return
	// when its context ends. Its error may be a tree: the sender is told not to retry only if every leaf is permanent
	// (consumererror.IsPermanent).
	Take(ctx context.Context, received []interaction.Received) error
}

// Lifecycle handles authentic lifecycle notifications.
type Lifecycle interface {
	// Wake must not block.
	Wake(event notification.Lifecycle)
}

// Rejections handles the items that were dropped, whatever the answer to the sender.
type Rejections interface {
	// Reject must return soon: the sender is answered only after it returned or, during a delivery, after
	// Settings.AckTimeout.
	Reject(ctx context.Context, rejections []notification.Rejection)
}

// Telemetry receives measurements of the webhook. Its methods must not block.
type Telemetry interface {
	// Notifications counts the outcomes of notifications: items, or requests for the outcomes that say so. Rejected items are
	// not counted here but passed to Rejections.
	Notifications(ctx context.Context, outcome Outcome, count int)
	// Acknowledged reports the answer to any request but a handshake, with the time from the arrival of the request's headers
	// until the answer was written.
	Acknowledged(ctx context.Context, status int, duration time.Duration)
	// Handshake reports the answer to a handshake: 200, or 400 for a token that cannot be echoed.
	Handshake(ctx context.Context, status int)
}

// Outcome is the result of a notification.
type Outcome string

// The outcomes that count items. An item of an answered request is counted once as Delivered, Refused, Failed, TimedOut or
// LifecycleEvent. DeliveredLate additionally counts those of TimedOut that were delivered later.
const (
	// Delivered: the pipeline accepted it, and the sender was told so.
	Delivered Outcome = "delivered"
	// DeliveredLate: the pipeline accepted it after the sender had been told to retry.
	DeliveredLate Outcome = "delivered_late"
	// Refused: the pipeline refused it permanently, so the sender was told not to retry.
	Refused Outcome = "refused"
	// Failed: it could not be decrypted or delivered now, and the sender was told to retry.
	Failed Outcome = "failed"
	// TimedOut: the pipeline had not returned within the acknowledgment timeout, and the sender was told to retry.
	TimedOut Outcome = "timed_out"
	// LifecycleEvent: it was a lifecycle notification and was passed to Lifecycle.
	LifecycleEvent Outcome = "lifecycle"
)

// The outcomes that count requests, because their items are unknown.
const (
	// Overloaded: too many bytes were in flight, and the sender was told to retry.
	Overloaded Outcome = "overloaded"
	// Stopping: the receiver was shutting down, and the sender was told to retry.
	Stopping Outcome = "stopping"
	// TooLarge: the body exceeded the limit. Microsoft Graph retries such a notification for four hours and then drops it.
	TooLarge Outcome = "too_large"
	// Malformed: the body was compressed, not JSON, or not a collection of notifications.
	Malformed Outcome = "malformed"
	// Interrupted: the body did not arrive completely.
	Interrupted Outcome = "interrupted"
)
