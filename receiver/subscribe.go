package receiver

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// subscribe opens the gate and keeps the subscriptions until ctx ends.
func (r *Receiver) subscribe(ctx context.Context, ring notification.Ring, clients clients) {
	if len(ring) == 0 {
		key, err := notification.GenerateKey(notification.DefaultKeyID)
		if err != nil {
			r.status.fatal(fmt.Errorf("make an encryption key: %w", err))
			return
		}
		ring = notification.Ring{key}
		r.set.Logger.Warn("made an encryption key that is kept in memory alone: after a restart the subscription is replaced, and notifications still under way can't be read; configure encryption.certificates",
			zap.String("certificate_id", key.CertificateID()))
	}
	states, err := r.clientStates(ring[0])
	if err != nil {
		r.status.fatal(err)
		return
	}
	keeper := subscription.New(subscription.Settings{
		Resources:          r.settings.Resources,
		ChangeTypes:        r.settings.ChangeTypes,
		NotificationURL:    r.settings.NotificationURL,
		Lifetime:           r.settings.Lifetime,
		CheckInterval:      r.settings.CheckInterval,
		ReplaceForeign:     r.settings.ReplaceForeign,
		Certificate:        subscription.Certificate{ID: ring[0].CertificateID(), DER: ring[0].CertificateDER()},
		HeldCertificateIDs: certificateIDs(ring),
		ClientState:        func(resource string) string { return states[resource] },
		Graph:              clients.graph,
		Telemetry:          r.telemetry,
		Logger:             r.set.Logger,
		Status:             r.status.recoverable,
	})
	r.gate.open(notification.NewOpener(notification.Settings{
		TenantID:  r.settings.TenantID,
		ClientID:  r.settings.ClientID,
		Audiences: r.settings.Audiences,
		Issuers:   r.settings.Issuers,
		Resources: r.settings.Resources,
		Ring:      ring,
		Keys:      r.keys,
		Telemetry: r.telemetry,
	}), keeper)
	keeper.Run(ctx)
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

func certificateIDs(ring notification.Ring) []string {
	ids := make([]string, len(ring))
	for i, key := range ring {
		ids[i] = key.CertificateID()
	}
	return ids
}
