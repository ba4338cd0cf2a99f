// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// Settings configures a Manager. All but those of the webhook and the booleans are required.
type Settings struct {
	// Resources are the distinct resources to subscribe to, without a leading slash: the whole tenant, or one path for each
	// user. Log lines and errors name a user by the index in this list, such as users[0], since a user id is personal data.
	Resources []string
	// ChangeTypes are created, updated and deleted, in any order.
	ChangeTypes []string
	// NotificationURL receives both changes and lifecycle events. Its scheme is https or EventHub.
	NotificationURL string
	// WebhookPath is the URL path of the listener that NotificationURL should lead to, and WebhookAddress its host:port. Without
	// them the hint for a failed validation is general.
	WebhookPath, WebhookAddress string
	// Lifetime is requested at each creation and renewal. Graph accepts at most 72 h:
	// https://learn.microsoft.com/graph/api/resources/subscription#subscription-lifetime
	Lifetime time.Duration
	// CheckInterval is the time between two reads of Graph's list while nothing fails.
	CheckInterval time.Duration
	// ReplaceForeign lets the Manager delete a conflicting subscription with another notification URL. It does so once for
	// each resource and process, so that two collectors do not replace each other's subscriptions forever.
	ReplaceForeign bool
	// Keys are the encryption keys until SetKeys is called.
	Keys Keys
	// RenewOnAdopt renews adopted subscriptions immediately. It is set if lifecycle events may have been missed while the
	// listener was down.
	RenewOnAdopt bool

	// Graph makes the calls.
	Graph Graph
	// Store keeps this collector's subscriptions for the next run.
	Store *statestore.Store
	// Observer is notified of interruptions and their ends.
	Observer Observer
	// Telemetry counts creations and renewals.
	Telemetry Telemetry
	// Logger gets one line for each event.
	Logger *zap.Logger
	// Status is called whenever the set of failures changes: with an error that joins them, or with nil once there are none.
	// It is called from Run and must not block.
	Status func(error)
}

// Keys are what a Manager knows of the encryption keys.
type Keys struct {
	// CertificateID is the encryptionCertificateId of new subscriptions, at most 128 characters, and Certificate the X.509
	// certificate that they are encrypted for, in DER.
	CertificateID string
	Certificate   []byte
	// HeldCertificateIDs are the ids of all certificates whose private key is available. CertificateID is always included.
	HeldCertificateIDs []string
	// ClientState returns the secret of a new subscription for a resource: the same on every call, at most 128 characters.
	ClientState func(resource string) string
}

// Known is a subscription that this collector created or adopted. It is stored, since Graph's list may not show whose it is.
type Known struct {
	// ID is the subscription's.
	ID string
	// CertificateID is the certificate it was created with, since Graph's list may omit it. Empty means unknown.
	CertificateID string
	// ReauthorizationRequestedAt is when Graph asked for a reauthorization that is still pending; zero if there is none.
	ReauthorizationRequestedAt time.Time `json:",omitzero"`
}

// Graph is the part of Microsoft Graph that a Manager uses. *graph.Client implements it. Creation and renewal return the
// expiration that was granted.
type Graph interface {
	ListSubscriptions(ctx context.Context) ([]graph.Subscription, error)
	CreateSubscription(ctx context.Context, wanted graph.Subscription) (graph.Subscription, error)
	RenewSubscription(ctx context.Context, id string, expiration time.Time) (graph.Subscription, error)
	DeleteSubscription(ctx context.Context, id string) error
}

// Observer is notified when a subscription is interrupted and when it is restored, so that the changes missed meanwhile can be
// read from the history. It is called from Run, one call at a time. It must not block.
//
// For each resource, calls of Interrupted and Restored alternate, beginning with Interrupted.
type Observer interface {
	// Checked reports that Graph's list confirmed every wanted subscription that has no open interruption, AllInterrupted that the
	// list was read while all of them have one. While delivery may have paused, though no interruption is open, neither is called.
	Checked()
	AllInterrupted()
	// Adopted reports that a subscription was found that was there before this process. It precedes Checked.
	Adopted()
	// Interrupted reports that changes of the resource may be lost from since on, which is when its subscription was last
	// confirmed. It is zero if this process never confirmed one; then only an earlier run can know the time.
	Interrupted(resource string, reason Reason, since time.Time)
	// Restored reports that the resource has an active subscription, a new one or the previous one.
	Restored(resource string)
}

// Telemetry counts the requests that change subscriptions. The error is nil if the request succeeded.
type Telemetry interface {
	// Renewal reports one PATCH.
	Renewal(ctx context.Context, err error)
	// Created reports one POST, with the reason of the interruption that it ends.
	Created(ctx context.Context, reason Reason, err error)
}

// Reason is the cause of an interruption and of the creation that ends it.
type Reason string

const (
	// ReasonAbsent means that the first list showed no subscription for the resource.
	ReasonAbsent Reason = "absent"
	// ReasonLost means that the subscription no longer exists in Graph.
	ReasonLost Reason = "lost"
	// ReasonExpired means that the subscription could not be renewed in time.
	ReasonExpired Reason = "expired"
	// ReasonRemoved means that Graph sent subscriptionRemoved.
	ReasonRemoved Reason = "removed"
	// ReasonMissed means that Graph sent missed. The subscription itself is active.
	ReasonMissed Reason = "missed"
	// ReasonReplaced means that the subscription no longer matched the configuration, as after a new first certificate.
	ReasonReplaced Reason = "replaced"
	// ReasonRemovedKey means that the subscription was encrypted for a certificate whose key is not available.
	ReasonRemovedKey Reason = "removed_key"
	// ReasonPaused means that Graph asked for a reauthorization and did not get it, so it may have paused delivery.
	ReasonPaused Reason = "paused"
	// ReasonConflict means that another subscription occupies, or occupied, the only slot for the resource.
	ReasonConflict Reason = "foreign"
)
