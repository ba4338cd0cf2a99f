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
	ring := r.rooms.ring
	if len(ring) == 0 {
		var err error
		if ring, err = r.rooms.keys.generated(ctx); err != nil {
			r.status.fatal(err)
			return
		}
		if r.settings.Storage == nil {
			r.set.Logger.Warn("made an encryption key that is kept in memory alone: after a restart the subscription is replaced, and notifications still under way can't be read; name a storage extension in storage, or configure encryption.certificates",
				zap.String("certificate_id", ring[0].CertificateID()))
		}
	}
	for ctx.Err() == nil {
		if r.rooms.keys.missing(ctx, ring) {
			r.rooms.continuity.removedKey(ctx, time.Now())
		}
		r.rooms.keys.accept(ctx, ring)
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
		Webhook:            subscription.Webhook{Path: r.settings.WebhookPath, Address: r.rooms.server.Addr().String()},
		Lifetime:           r.settings.Lifetime,
		CheckInterval:      r.settings.CheckInterval,
		ReplaceForeign:     r.settings.ReplaceForeign,
		Certificate:        subscription.Certificate{ID: ring[0].CertificateID(), DER: ring[0].CertificateDER()},
		HeldCertificateIDs: certificateIDs(ring),
		Known:              r.rooms.continuity.known(ctx),
		Unheard:            !r.rooms.continuity.recent(time.Now()),
		ClientState:        func(resource string) string { return states[resource] },
		Graph:              r.rooms.clients.graph,
		Observer:           r.rooms.continuity,
		Telemetry:          r.telemetry,
		Logger:             r.set.Logger,
		Status:             r.status.part("subscription"),
	})
	r.rooms.gate.open(notification.NewOpener(notification.Settings{
		TenantID:  r.settings.TenantID,
		ClientID:  r.settings.ClientID,
		Audiences: r.settings.Audiences,
		Issuers:   r.settings.Issuers,
		Resources: r.settings.Resources,
		Ring:      ring,
		Keys:      r.rooms.signingKeys,
		Seen:      known{intake: r.rooms.intake, refused: r.rooms.refused},
		Telemetry: r.telemetry,
	}), keeper)

	r.rooms.continuity.unwatched()

	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keeper.Run(running)
	}()
	young, changed := r.rooms.keys.changed(ctx)
	stop()
	<-ended
	if !changed {
		return ring
	}
	r.set.Logger.Info("the encryption certificates changed", zap.Strings("certificate_ids", certificateIDs(young)))
	return young
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
