package receiver

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// subscribe keeps the subscriptions until ctx ends, with other keys once the files of the keys change.
func (r *Receiver) subscribe(ctx context.Context) {
	ring := r.components.ring
	if len(ring) == 0 {
		var err error
		if ring, err = r.components.keys.generated(ctx); err != nil {
			r.status.fatal(err)
			return
		}
		if r.settings.Storage == nil {
			r.set.Logger.Warn("made an encryption key that is kept in memory alone: after a restart the subscription is replaced, and notifications still under way can't be read; name a storage extension in storage, or configure encryption.certificates",
				zap.String("certificate_id", ring[0].CertificateID()))
		}
	}
	for ctx.Err() == nil {
		if r.components.keys.missing(ctx, ring) {
			r.components.gapTracker.removedKey(ctx, time.Now())
		}
		r.components.keys.accept(ctx, ring)
		ring = r.subscribeWith(ctx, ring)
	}
}

// subscribeWith keeps the subscriptions with the keys of the ring until ctx ends or the keys change, and returns the
// keys to go on with.
func (r *Receiver) subscribeWith(ctx context.Context, ring notification.Ring) notification.Ring {
	states, err := r.clientStates(ring[0])
	if err != nil {
		r.status.fatal(err)
		<-ctx.Done()
		return ring
	}
	keeper := subscription.New(subscription.Settings{
		Resources:          r.settings.Resources,
		ChangeTypes:        r.settings.ChangeTypes,
		NotificationURL:    r.settings.NotificationURL,
		Webhook:            subscription.Webhook{Path: r.settings.WebhookPath, Address: r.components.server.Addr().String()},
		Lifetime:           r.settings.Lifetime,
		CheckInterval:      r.settings.CheckInterval,
		ReplaceForeign:     r.settings.ReplaceForeign,
		Certificate:        subscription.Certificate{ID: ring[0].CertificateID(), DER: ring[0].CertificateDER()},
		HeldCertificateIDs: certificateIDs(ring),
		Known:              r.components.gapTracker.known(ctx),
		RenewOnAdopt:       !r.components.gapTracker.recent(time.Now()),
		ClientState:        func(resource string) string { return states[resource] },
		Graph:              r.components.clients.graph,
		Observer:           r.components.gapTracker,
		Telemetry:          r.telemetry,
		Logger:             r.set.Logger,
		Status:             r.status.part("subscription"),
	})
	r.components.session.set(notification.NewDecrypter(notification.Settings{
		TenantID:  r.settings.TenantID,
		ClientID:  r.settings.ClientID,
		Audiences: r.settings.Audiences,
		Issuers:   r.settings.Issuers,
		Resources: r.settings.Resources,
		Ring:      ring,
		Keys:      r.components.signingKeys,
		Seen:      deliveredCheck{intake: r.components.intake, undelivered: r.components.undelivered},
		Telemetry: r.telemetry,
	}), keeper)

	r.components.gapTracker.unwatched()

	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keeper.Run(running)
	}()
	newKeys, changed := r.components.keys.changed(ctx)
	stop()
	<-ended
	if !changed {
		return ring
	}
	r.set.Logger.Info("the encryption certificates changed", zap.Strings("certificate_ids", certificateIDs(newKeys)))
	return newKeys
}

// clientStates maps each resource to the secret that Graph has to show.
func (r *Receiver) clientStates(key *notification.Key) (map[string]string, error) {
	states := make(map[string]string, len(r.settings.Resources))
	for _, resource := range r.settings.Resources {
		state, err := notification.ClientState(key, r.settings.TenantID, r.settings.ClientID, resource)
		if err != nil {
			return nil, fmt.Errorf("derive the client state: %w", err)
		}
		states[resource] = state
	}
	return states, nil
}
