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

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	generatedCertificateKey = "key/certificate"
	generatedPrivateKey     = "key/private"
	acceptedKey             = "key/accepted"

	// watchKeys is how often the files of the configured keys are looked at.
	watchKeys = 30 * time.Second
)

// keys are the encryption keys: those of the configured files, else a generated one.
type keys struct {
	certificates []Certificate
	store        storage.Client
	logger       *zap.Logger
}

// configured reads the configured keys. Without any the ring is empty, and a key is generated later: that takes longer
// than a start may.
func (k *keys) configured() (notification.Ring, error) {
	ring := make(notification.Ring, 0, len(k.certificates))
	for i, certificate := range k.certificates {
		key, err := notification.LoadKey(certificate.ID, certificate.CertFile, certificate.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("encryption.certificates[%d]: %w", i, err)
		}
		ring = append(ring, key)
	}
	return ring, nil
}

// generated is the key of an earlier run, else a new one that is kept for the next. The private half is written only
// where the user named a storage. A storage that fails costs the next run its key, and this one nothing.
func (k *keys) generated(ctx context.Context) (notification.Ring, error) {
	kept, readable := k.kept(ctx)
	if kept != nil {
		return notification.Ring{kept}, nil
	}
	key, err := notification.GenerateKey(notification.DefaultKeyID)
	if err != nil {
		return nil, fmt.Errorf("make an encryption key: %w", err)
	}
	if readable { // what can't be read now may be the right one at the next start
		if err := k.keep(ctx, key); err != nil {
			k.logger.Warn("the generated encryption key can't be kept: the next start makes another", zap.Error(err))
		}
	}
	return notification.Ring{key}, nil
}

// kept is the key in storage, nil for none, and whether storage could be read.
func (k *keys) kept(ctx context.Context) (key *notification.Key, readable bool) {
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

func (k *keys) keep(ctx context.Context, key *notification.Key) error {
	certificate, private, err := key.MarshalPEM()
	if err != nil {
		return fmt.Errorf("encode the generated encryption key: %w", err)
	}
	err = k.store.Batch(ctx,
		storage.SetOperation(generatedCertificateKey, certificate), storage.SetOperation(generatedPrivateKey, private))
	if err != nil {
		return fmt.Errorf("keep the generated encryption key in storage: %w", err)
	}
	return nil
}

// accept makes the keys of the ring those that are accepted from now on. It tells whether one that was accepted before,
// maybe in an earlier run, is missing.
func (k *keys) accept(ctx context.Context, ring notification.Ring) (missing bool) {
	var before []string
	value, err := k.store.Get(ctx, acceptedKey)
	if err == nil && value != nil {
		err = json.Unmarshal(value, &before)
	}
	if err != nil {
		k.logger.Warn("the list of accepted encryption keys can't be read and is replaced", zap.Error(err))
	}
	now := certificateIDs(ring)
	value, err = json.Marshal(now)
	if err == nil {
		err = k.store.Set(ctx, acceptedKey, value)
	}
	if err != nil {
		k.logger.Warn("the list of accepted encryption keys can't be kept", zap.Error(err))
	}
	return slices.ContainsFunc(before, func(id string) bool { return !slices.Contains(now, id) })
}

// changed waits until the files hold other keys than the ring was read from, and returns those; false when ctx ends.
// Files that can't be read, as in the middle of a change, are reported once and looked at again.
func (k *keys) changed(ctx context.Context) (notification.Ring, bool) {
	if len(k.certificates) == 0 {
		<-ctx.Done()
		return nil, false
	}
	ticker := time.NewTicker(watchKeys)
	defer ticker.Stop()
	last, failing := k.digest(), false
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-ticker.C:
		}
		digest := k.digest()
		if bytes.Equal(digest, last) {
			continue
		}
		ring, err := k.configured()
		if err == nil {
			return ring, true
		}
		if !failing {
			k.logger.Warn("the encryption certificates changed and can't be read, the old ones stay in use", zap.Error(err))
		}
		failing = true
	}
}

// digest tells the contents of the files apart.
func (k *keys) digest() []byte {
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
