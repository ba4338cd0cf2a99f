package subscription

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Settings is what a Keeper needs. Graph, Resources, ChangeTypes, NotificationURL, Certificate and ClientState are required.
type Settings struct {
	// Resources are what is subscribed to, without a leading slash: the whole tenant, or one path for each user. Log lines
	// and errors name a user by its place in this list, users[0] being the first, since a user id is personal data.
	Resources []string
	// ChangeTypes are created, updated and deleted, in any order.
	ChangeTypes []string
	// NotificationURL is where Graph sends changes and lifecycle events to.
	NotificationURL string
	// Webhook is what NotificationURL should lead to. Without it the advice on a failed validation is a general one.
	Webhook Webhook
	// Lifetime is what is asked for at each creation and renewal: 71 h unless set, and Graph takes at most 72 h:
	// https://learn.microsoft.com/graph/api/resources/subscription#subscription-lifetime
	Lifetime time.Duration
	// CheckInterval is the time between two looks at Graph's list while all is well: 5 min unless set.
	CheckInterval time.Duration
	// ReplaceForeign lets the keeper delete a subscription with another notification URL that stands in the way,
	// once for each resource while the process lives, so that two collectors do not evict each other for ever.
	ReplaceForeign bool
	// Certificate is what new subscriptions are encrypted for.
	Certificate Certificate
	// HeldCertificateIDs are the ids of all certificates whose private key is at hand. Certificate.ID always counts.
	HeldCertificateIDs []string
	// Known are the subscriptions that an earlier run of this collector reported to Observer.Known.
	Known []Known
	// RenewOnAdopt says that lifecycle events may have come while nobody listened, so that what is adopted is renewed at once.
	RenewOnAdopt bool
	// ClientState returns the secret for a resource: the same at every call, at most 128 characters.
	ClientState func(resource string) string

	// Graph makes the calls.
	Graph Graph
	// Observer hears what lived and what did not. Nil is allowed.
	Observer Observer
	// Telemetry counts. Nil is allowed.
	Telemetry Telemetry
	// Logger gets one line for each event. Nil is allowed.
	Logger *zap.Logger
	// Status is called when the health changes, and only then: with what fails, or with nil when all is well again.
	// It is called from Run and must not block. Nil is allowed.
	Status func(error)
}

// Certificate is the public half of an encryption key pair.
type Certificate struct {
	// ID is the encryptionCertificateId, at most 128 characters.
	ID string
	// DER is the X.509 certificate.
	DER []byte
}

// Known is a subscription that this collector created or adopted.
type Known struct {
	// ID is the subscription's.
	ID string
	// CertificateID is what it was created with, since Graph's list may not say it. Empty means not known.
	CertificateID string
	// ReauthorizationRequestedAt is since when Graph waits for a renewal that it asked for; zero if it does not.
	ReauthorizationRequestedAt time.Time `json:",omitzero"`
}

// Graph is the part of Microsoft Graph that a keeper uses. *graph.Client has it. Creation and renewal return the expiration
// that was granted.
type Graph interface {
	ListSubscriptions(ctx context.Context) ([]graph.Subscription, error)
	CreateSubscription(ctx context.Context, wanted graph.Subscription) (graph.Subscription, error)
	RenewSubscription(ctx context.Context, id string, expiration time.Time) (graph.Subscription, error)
	DeleteSubscription(ctx context.Context, id string) error
}

// Observer hears when subscriptions lived and when they did not, so that what was missed meanwhile can be fetched
// otherwise. It is called from Run, and Known from Delete too, one call at a time, and must not block.
//
// For each resource Interrupted and Restored take turns, beginning with Interrupted.
type Observer interface {
	// Checked says that Graph's list was read at that time, and that every wanted subscription without an open
	// interruption lived then. It is not called while there is none of those.
	Checked(at time.Time)
	// Interrupted says that changes of the resource may be lost from since on: the last time at which its subscription
	// was seen alive. It is zero where this process never saw it alive; then only an earlier run can know.
	Interrupted(resource string, reason Reason, since time.Time)
	// Restored says that a subscription of the resource lives at that time, a new one or the old one.
	Restored(resource string, at time.Time)
	// Known hands over the subscriptions to give to the next run as Settings.Known, whenever they change.
	Known(known []Known)
}

// Telemetry counts what is done to subscriptions. An error is nil where it succeeded.
type Telemetry interface {
	// Renewal is one PATCH.
	Renewal(ctx context.Context, err error)
	// Created is one POST where there was no subscription before.
	Created(ctx context.Context, err error)
	// Recreated is one POST in place of a subscription that was there.
	Recreated(ctx context.Context, reason Reason, err error)
}

// Reason is why there was an interruption, and why a subscription is created.
type Reason string

const (
	// ReasonAbsent means: the first look found no subscription for the resource.
	ReasonAbsent Reason = "absent"
	// ReasonLost means: Graph does not know the subscription any more.
	ReasonLost Reason = "lost"
	// ReasonExpired means: it could not be renewed in time.
	ReasonExpired Reason = "expired"
	// ReasonRemoved means: Graph said subscriptionRemoved.
	ReasonRemoved Reason = "removed"
	// ReasonMissed means: Graph said missed. The subscription itself lives.
	ReasonMissed Reason = "missed"
	// ReasonReplaced means: it did not fit the configuration any more, as after a new first certificate.
	ReasonReplaced Reason = "replaced"
	// ReasonRemovedKey means: it was encrypted for a certificate that is not at hand, so its changes could not be read.
	ReasonRemovedKey Reason = "removed_key"
	// ReasonPaused means: Graph asked for a reauthorization and did not get it, so it may have stopped to deliver. The
	// subscription itself lives.
	ReasonPaused Reason = "paused"
	// ReasonConflict means: another subscription is, or was, in the way.
	ReasonConflict Reason = "foreign"
)

type noopTelemetry struct{}

func (noopTelemetry) Checked(time.Time)                        {}
func (noopTelemetry) Interrupted(string, Reason, time.Time)    {}
func (noopTelemetry) Restored(string, time.Time)               {}
func (noopTelemetry) Known([]Known)                            {}
func (noopTelemetry) Renewal(context.Context, error)           {}
func (noopTelemetry) Created(context.Context, error)           {}
func (noopTelemetry) Recreated(context.Context, Reason, error) {}

func (s Settings) withDefaults() Settings {
	if s.Lifetime <= 0 {
		s.Lifetime = 71 * time.Hour
	}
	if s.CheckInterval <= 0 {
		s.CheckInterval = 5 * time.Minute
	}
	if s.Observer == nil {
		s.Observer = noopTelemetry{}
	}
	if s.Telemetry == nil {
		s.Telemetry = noopTelemetry{}
	}
	if s.Logger == nil {
		s.Logger = zap.NewNop()
	}
	if s.Status == nil {
		s.Status = func(error) {}
	}
	return s
}

// wanted returns the subscription to have for a resource, without its expiration and its secret.
func (s Settings) wanted(resource string) graph.Subscription {
	return graph.Subscription{
		Resource:                 resource,
		ChangeTypes:              s.ChangeTypes,
		NotificationURL:          s.NotificationURL,
		LifecycleNotificationURL: s.NotificationURL,
		EncryptionCertificate:    s.Certificate.DER,
		EncryptionCertificateID:  s.Certificate.ID,
	}
}
