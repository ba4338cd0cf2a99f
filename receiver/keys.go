// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	keysKey     = "keys"
	keysVersion = 1

	// keyCheckInterval is how often the files of keys and certificates are read in case they changed.
	keyCheckInterval = 30 * time.Second
)

// storedKeys is what storage holds of the encryption keys.
type storedKeys struct {
	// Certificate and PrivateKey are the generated key pair in PEM, empty with configured certificates.
	Certificate []byte `json:"certificate,omitempty"`
	PrivateKey  []byte `json:"private_key,omitempty"`
	// Accepted are the ids of all certificates that were in use last.
	Accepted []string `json:"accepted"`
}

// keys provides the encryption keys: those of the configured files, or else a generated one. It remembers in storage which
// were in use last.
type keys struct {
	certificates []Certificate
	value        *statestore.Value[storedKeys]
	// inMemory means that storage keeps nothing.
	inMemory bool
	logger   *zap.Logger
	// reloading reports failures to read changed files.
	reloading *health.Part

	// ring holds the keys in use.
	ring notification.Ring
	// damaged means that the stored value could not be used, so it is unknown which were in use last.
	damaged bool
	// stored is what storage is to hold.
	stored storedKeys
}

func newKeys(
	certificates []Certificate, store *statestore.Store, inMemory bool, logger *zap.Logger, status func(part string) func(error),
) *keys {
	return &keys{
		certificates: certificates, inMemory: inMemory, logger: logger,
		value: statestore.NewValue[storedKeys](statestore.ValueSettings{
			Store: store, Key: keysKey, Version: keysVersion, Name: "the encryption keys", Logger: logger, Status: status("stored keys"),
		}),
		reloading: &health.Part{
			Logger:    logger,
			Failing:   "the encryption certificates changed and can't be used, the old ones stay in use",
			Recovered: "the encryption certificates can be used again",
			Code:      failure.EncryptionKey,
			Status:    status("encryption"),
		},
	}
}

// load reads from storage what was in use last. It must be called first. The error is one of the storage.
func (k *keys) load(ctx context.Context) (err error) {
	k.stored, k.damaged, err = k.value.Load(ctx)
	return err
}

// read returns the keys of the configured files, or else the generated one.
func (k *keys) read() (notification.Ring, error) {
	if len(k.certificates) == 0 {
		return k.generated()
	}
	return ReadKeys(k.certificates)
}

// ReadKeys reads configured keys, in this order. Its error has the failure of the first that can't be used.
func ReadKeys(certificates []Certificate) (notification.Ring, error) {
	var ring notification.Ring
	for i, certificate := range certificates {
		key, err := notification.LoadKey(certificate.ID, certificate.CertFile, certificate.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("encryption.certificates[%d]: %w", i, err)
		}
		ring = append(ring, key)
	}
	return ring, nil
}

// generated returns the generated key of an earlier run, or else a new one.
func (k *keys) generated() (notification.Ring, error) {
	if len(k.stored.PrivateKey) > 0 {
		key, err := notification.ParseKey(notification.DefaultKeyID, k.stored.Certificate, k.stored.PrivateKey)
		if err == nil {
			return notification.Ring{key}, nil
		}
		k.logger.Warn("the generated encryption key in storage is damaged and is replaced",
			append(failure.New(failure.StorageDamaged).Fields(), zap.Error(err))...)
	}
	key, err := notification.GenerateKey(notification.DefaultKeyID)
	if err != nil {
		return nil, fmt.Errorf("generate an encryption key: %w", err)
	}
	if k.inMemory {
		k.logger.Warn("generated an encryption key that is kept in memory only",
			append(failure.New(failure.KeyInMemory).Fields(), zap.String("certificate_id", key.CertificateID()))...)
	}
	return notification.Ring{key}, nil
}

// missing reports whether a key that was in use last, maybe in an earlier run, is not in the ring, or may not be.
func (k *keys) missing(ring notification.Ring) bool {
	now := ring.CertificateIDs()
	return k.damaged || slices.ContainsFunc(k.stored.Accepted, func(id string) bool { return !slices.Contains(now, id) })
}

// accept notes that the keys of the ring are in use from now on, and stores that. The private half is stored only of a generated
// key, and only in a storage that the user named.
func (k *keys) accept(ctx context.Context, ring notification.Ring) {
	stored := storedKeys{Accepted: ring.CertificateIDs()}
	if len(k.certificates) == 0 {
		stored.Certificate, stored.PrivateKey = ring[0].MarshalPEM()
	}
	k.ring, k.damaged, k.stored = ring, false, stored
	k.value.Changed()
	k.save(ctx)
}

// save stores what is not stored yet.
func (k *keys) save(ctx context.Context) {
	stored := k.stored
	_ = k.value.Save(ctx, func() storedKeys { return stored }) // a failure is logged there
}

// checkKeys stores what could not be stored before, and takes the keys of changed files into use.
func (r *Receiver) checkKeys(ctx context.Context) {
	k := r.components.keys
	k.save(ctx)
	if len(k.certificates) > 0 {
		k.reloading.Report(r.reloadKeys(ctx))
	}
}

// reloadKeys takes the configured keys into use if their files changed. The gap of a removed key is stored before
// notifications for it are refused, and the decrypter has a new key before the first subscription is encrypted for it.
func (r *Receiver) reloadKeys(ctx context.Context) error {
	c := r.components
	ring, err := c.keys.read()
	same := func(a, b *notification.Key) bool {
		return a.CertificateID() == b.CertificateID() && a.Thumbprint() == b.Thumbprint()
	}
	if err != nil || slices.EqualFunc(ring, c.keys.ring, same) {
		return err
	}
	c.acceptKeys(ctx, ring)
	r.pipeline.decrypter.SetKeys(ring)
	c.manager.SetKeys(r.subscriptionKeys(ring))
	r.set.Logger.Info("the encryption certificates changed", zap.Strings("certificate_ids", ring.CertificateIDs()))
	return nil
}

// subscriptionKeys returns what the subscription manager needs to know of the keys.
func (r *Receiver) subscriptionKeys(ring notification.Ring) subscription.Keys {
	return SubscriptionKeys(ring, r.settings.TenantID, r.settings.ClientID)
}

// SubscriptionKeys returns what a subscription manager needs to know of keys, at least one.
func SubscriptionKeys(ring notification.Ring, tenantID, clientID string) subscription.Keys {
	return subscription.Keys{
		CertificateID:      ring[0].CertificateID(),
		Certificate:        ring[0].CertificateDER(),
		HeldCertificateIDs: ring.CertificateIDs(),
		ClientState: func(resource string) string {
			return notification.ClientState(ring[0], tenantID, clientID, resource)
		},
	}
}
