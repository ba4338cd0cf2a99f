package receiver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	generatedCertificateKey = "key/certificate"
	generatedPrivateKey     = "key/private"
	acceptedKey             = "key/accepted"

	// keyCheckInterval is how often the files of the configured keys are checked for changes.
	keyCheckInterval = 30 * time.Second
)

// keys loads the encryption keys: those of the configured files, or else a generated one.
type keys struct {
	certificates []Certificate
	store        storage.Client
	logger       *zap.Logger

	// digest is the fileDigest of the files when they were read last.
	digest []byte
	// accepted are the certificate ids that this run accepted last, since the storage may keep nothing.
	accepted []string
}

// configured reads the configured keys. Without any the ring is empty, and a key is generated later, since that takes too
// long for Start. A change during the call is detected by the next check.
func (k *keys) configured() (notification.Ring, error) {
	digest := k.fileDigest()
	ring := make(notification.Ring, 0, len(k.certificates))
	for i, certificate := range k.certificates {
		key, err := notification.LoadKey(certificate.ID, certificate.CertFile, certificate.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("encryption.certificates[%d]: %w", i, err)
		}
		ring = append(ring, key)
	}
	k.digest = digest
	return ring, nil
}

// generated returns the key of an earlier run, or else a new one, which is stored for the next run. The private half is
// written only to a storage that the user named. If the storage fails, this run works, but the next one generates another
// key.
func (k *keys) generated(ctx context.Context) (notification.Ring, error) {
	stored, readable := k.loadGenerated(ctx)
	if stored != nil {
		return notification.Ring{stored}, nil
	}
	key, err := notification.GenerateKey(notification.DefaultKeyID)
	if err != nil {
		return nil, fmt.Errorf("generate an encryption key: %w", err)
	}
	if readable { // a stored key that can't be read now may be readable at the next start
		if err := k.storeGenerated(ctx, key); err != nil {
			k.logger.Warn("the generated encryption key can't be stored: the next start generates another", zap.Error(err))
		}
	}
	return notification.Ring{key}, nil
}

// loadGenerated returns the key in storage, nil for none, and whether storage could be read.
func (k *keys) loadGenerated(ctx context.Context) (key *notification.Key, readable bool) {
	certificate, private := storage.GetOperation(generatedCertificateKey), storage.GetOperation(generatedPrivateKey)
	if err := k.store.Batch(ctx, certificate, private); err != nil {
		k.logger.Warn("the generated encryption key can't be read from storage, another is used until the next start", zap.Error(err))
		return nil, false
	}
	if certificate.Value == nil || private.Value == nil {
		return nil, true
	}
	key, err := notification.ParseKey(notification.DefaultKeyID, certificate.Value, private.Value)
	if err != nil {
		k.logger.Warn("the generated encryption key in storage is damaged and is replaced", zap.Error(err))
		return nil, true
	}
	return key, true
}

func (k *keys) storeGenerated(ctx context.Context, key *notification.Key) error {
	certificate, private, err := key.MarshalPEM()
	if err != nil {
		return fmt.Errorf("encode the generated encryption key: %w", err)
	}
	err = k.store.Batch(ctx,
		storage.SetOperation(generatedCertificateKey, certificate), storage.SetOperation(generatedPrivateKey, private))
	if err != nil {
		return fmt.Errorf("store the generated encryption key: %w", err)
	}
	return nil
}

// missing reports whether a key that was accepted before, maybe in an earlier run, is not in the ring. It also returns true
// if the list of accepted keys can't be read: the list is replaced afterwards, so this is the last chance to assume it.
func (k *keys) missing(ctx context.Context, ring notification.Ring) bool {
	earlier := slices.Clone(k.accepted)
	var stored []string
	value, err := k.store.Get(ctx, acceptedKey)
	if err == nil && value != nil {
		err = json.Unmarshal(value, &stored)
	}
	if err != nil && ctx.Err() == nil {
		k.logger.Warn("the list of accepted encryption keys can't be read and is replaced, the last 5 hours are read from the history in case one was removed",
			zap.Error(err))
		return true
	}
	earlier, now := append(earlier, stored...), certificateIDs(ring)
	return slices.ContainsFunc(earlier, func(id string) bool { return !slices.Contains(now, id) })
}

// accept stores the keys of the ring as those that are accepted from now on. The gap of a missing key must be stored first.
func (k *keys) accept(ctx context.Context, ring notification.Ring) {
	k.accepted = certificateIDs(ring)
	value, err := json.Marshal(k.accepted)
	if err == nil {
		err = k.store.Set(ctx, acceptedKey, value)
	}
	if err != nil {
		k.logger.Warn("the list of accepted encryption keys can't be stored", zap.Error(err))
	}
}

// changed waits until the files hold other keys than when they were read last, and returns those; false when ctx ends.
// Files that can't be read, as in the middle of a change, are logged once and tried again.
func (k *keys) changed(ctx context.Context) (notification.Ring, bool) {
	if len(k.certificates) == 0 {
		<-ctx.Done()
		return nil, false
	}
	ticker := time.NewTicker(keyCheckInterval)
	defer ticker.Stop()
	var failure health.Reminder
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-ticker.C:
		}
		if bytes.Equal(k.fileDigest(), k.digest) {
			failure.Recovered()
			continue
		}
		ring, err := k.configured()
		if err == nil {
			return ring, true
		}
		if failure.Failed() {
			k.logger.Warn("the encryption certificates changed and can't be read, the old ones stay in use", zap.Error(err))
		}
	}
}

// fileDigest returns a digest of the contents of all files, by which a change is detected.
func (k *keys) fileDigest() []byte {
	sum := sha256.New()
	for _, certificate := range k.certificates {
		for _, file := range []string{certificate.CertFile, certificate.KeyFile} {
			content, err := os.ReadFile(file) //nolint:gosec // the operator chooses the file
			sum.Write(fmt.Appendf(content, "%d %v\n", len(content), err))
		}
	}
	return sum.Sum(nil)
}

func certificateIDs(ring notification.Ring) []string {
	ids := make([]string, len(ring))
	for i, key := range ring {
		ids[i] = key.CertificateID()
	}
	return ids
}
