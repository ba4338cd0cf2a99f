// SPDX-License-Identifier: Apache-2.0

// Package webhook is the HTTP listener that Microsoft Graph calls with handshakes, change notifications and lifecycle
// notifications. It is the only package that knows the HTTP status codes of the answers.
package webhook

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// Settings configure a Server. All functions, Telemetry and Logger are required.
type Settings struct {
	// Config is the configuration of the listener. It is not modified. A MaxRequestBodySize of 0 or less means 20 MiB.
	Config confighttp.ServerConfig
	// Path is the decoded path of the notification URL. Other paths are answered 404.
	Path string
	// AckTimeout is the time from the arrival of a request after which it is answered, whatever the pipeline does. Microsoft
	// Graph expects an answer within 3 s.
	AckTimeout time.Duration
	// MaxInFlightBytes limits the bytes of all bodies and of what is decoded from them, from their arrival until their
	// delivery ended; each counts at least 4 KiB. MinInFlightBytes returns what a body of the largest size needs.
	MaxInFlightBytes int64

	// OwnClientState reports whether a clientState, empty for none, is that of one of our subscriptions. Its argument is only
	// valid during the call.
	OwnClientState func(clientState []byte) bool
	// Decrypt verifies that the items of a collection are authentic and decrypts them. It fails only if the collection cannot
	// be decided now; the sender is then asked to retry.
	Decrypt func(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error)
	// Wake handles an authentic lifecycle notification. It must not block.
	Wake func(event notification.Lifecycle)
	// Reject handles the items that were dropped, whatever the answer to the sender. It must return soon: the sender is
	// answered only after it returned or, during a delivery, after AckTimeout.
	Reject func(ctx context.Context, rejections []notification.Rejection)
	// Deliver passes interactions to the pipelines. It returns once they accepted or refused everything; nil means that they
	// accepted everything. It must return when its context ends. The sender is told not to retry after a failure.Permanent error.
	Deliver func(ctx context.Context, received []interaction.Received) error

	Telemetry Telemetry
	// Fatal is called at most once, if the listener fails before Shutdown. It must not call Shutdown.
	Fatal  func(error)
	Logger *zap.Logger
}

// Telemetry receives measurements of the webhook. Its methods must not block.
type Telemetry interface {
	// Notifications counts the outcomes of notifications: items, or requests for the outcomes that say so. Rejected items are
	// not counted here but passed to Settings.Reject.
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
	// LifecycleEvent: it was a lifecycle notification and was passed to Settings.Wake.
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
