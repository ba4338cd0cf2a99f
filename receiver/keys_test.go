// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// newTestKeys returns the keys of a start with this storage, and its log.
func newTestKeys(client storage.Client, certificates ...Certificate) (*keys, *observer.ObservedLogs) {
	core, lines := observer.New(zap.InfoLevel)
	noStatus := func(string) func(error) { return nil }
	return newKeys(certificates, statestore.New(client), false, zap.New(core), noStatus), lines
}

// startKeys does what a start does with the keys, and returns their ids, and whether one may have been removed.
func startKeys(t *testing.T, k *keys) (ids []string, removed bool) {
	t.Helper()
	require.NoError(t, k.load(t.Context()))
	ring, err := k.read()
	require.NoError(t, err)
	removed = k.missing(ring)
	k.accept(t.Context(), ring)
	return ring.CertificateIDs(), removed
}

func TestKeys_KeepsGeneratedKeyAcrossRestarts(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	k, _ := newTestKeys(store)
	first, removed := startKeys(t, k)
	assert.False(t, removed)
	k, _ = newTestKeys(store)
	second, removed := startKeys(t, k)
	assert.False(t, removed)
	assert.Equal(t, first, second)
}

// A damaged value may have named a key that is gone.
func TestKeys_ReplacesDamagedValue(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*testing.T, storage.Client){
		"of another format": func(t *testing.T, store storage.Client) {
			t.Helper()
			require.NoError(t, store.Set(t.Context(), keysKey, []byte("damaged")))
		},
		"with a damaged key pair": func(t *testing.T, store storage.Client) {
			t.Helper()
			k, _ := newTestKeys(store)
			require.NoError(t, k.load(t.Context()))
			k.stored.PrivateKey = k.stored.PrivateKey[:100]
			k.value.Changed()
			k.save(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			k, _ := newTestKeys(store)
			first, _ := startKeys(t, k)
			damage(t, store)

			k, lines := newTestKeys(store)
			second, removed := startKeys(t, k)
			assert.NotEqual(t, first, second)
			assert.True(t, removed)
			assert.Equal(t, 1, lines.FilterMessageSnippet("damaged and").Len())
			k, lines = newTestKeys(store)
			third, removed := startKeys(t, k)
			assert.Equal(t, second, third)
			assert.False(t, removed)
			assert.Zero(t, lines.Len())
		})
	}
}

// With configured certificates no private key is kept in storage.
func TestKeys_DropsGeneratedKeyOnceCertificatesAreConfigured(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	k, _ := newTestKeys(store)
	generated, _ := startKeys(t, k)
	assert.Contains(t, string(storedValue(t, store, keysKey)), "private_key")

	certificate, _ := newKeyFiles(t)
	k, _ = newTestKeys(store, certificate)
	configured, removed := startKeys(t, k)
	assert.NotEqual(t, generated, configured)
	assert.True(t, removed)
	assert.NotContains(t, string(storedValue(t, store, keysKey)), "private_key")
}

func TestKeys_LoadFailsIfStorageCanNotBeRead(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	store.fail = failsAlways
	k, _ := newTestKeys(store)
	require.ErrorIs(t, k.load(t.Context()), errStorage)
}

// What a storage that can be read and not written lacks is written later.
func TestKeys_StoresLaterWhatFails(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	store.fail = failsToWrite
	k, lines := newTestKeys(store)
	first, _ := startKeys(t, k)
	k.save(t.Context())
	assert.Equal(t, 1, lines.FilterMessage("the encryption keys can't be stored").Len(), "once while it lasts")
	assert.Nil(t, storedValue(t, store, keysKey))

	store.fail = func(*storage.Operation) error { return nil }
	k.save(t.Context())
	assert.Equal(t, 1, lines.FilterMessage("the encryption keys are stored again").Len())
	k, _ = newTestKeys(store)
	second, _ := startKeys(t, k)
	assert.Equal(t, first, second)
}

func TestReceiver_StoresKeyAtShutdown(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	store.fail = failsToWrite
	_, c := newTestReceiver(t, stored(store))
	store.fail = func(*storage.Operation) error { return nil }
	require.NoError(t, c.save(t.Context()))
	_, next := newTestReceiver(t, stored(store))
	assert.Equal(t, c.keys.ring.CertificateIDs(), next.keys.ring.CertificateIDs())
}

func TestKeys_DetectsRemovedKey(t *testing.T) {
	t.Parallel()
	old, _ := newKeyFiles(t)
	renewed, _ := newKeyFiles(t)
	steps := []struct {
		certificates []Certificate
		removed      bool
	}{
		{[]Certificate{old}, false},
		{[]Certificate{old}, false},
		{[]Certificate{renewed, old}, false},
		{[]Certificate{renewed}, true},
		{[]Certificate{renewed}, false},
	}
	t.Run("in the next start", func(t *testing.T) {
		t.Parallel()
		store := newStore(t)
		for _, step := range steps {
			k, _ := newTestKeys(store, step.certificates...)
			_, removed := startKeys(t, k)
			assert.Equal(t, step.removed, removed)
		}
	})
	t.Run("in the same run without storage", func(t *testing.T) {
		t.Parallel()
		k, _ := newTestKeys(storage.NewNopClient(), old)
		startKeys(t, k)
		for _, step := range steps {
			k.certificates = step.certificates
			ring, err := k.read()
			require.NoError(t, err)
			assert.Equal(t, step.removed, k.missing(ring))
			k.accept(t.Context(), ring)
		}
	})
}

// newKeyFiles writes a new key pair to files, and returns a function that replaces it with another.
func newKeyFiles(t *testing.T) (Certificate, func()) {
	t.Helper()
	c := Certificate{ID: "k", CertFile: filepath.Join(t.TempDir(), "crt"), KeyFile: filepath.Join(t.TempDir(), "key")}
	write := func() {
		pair, err := graphtest.EncryptionCertificate(2048, time.Hour)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(c.CertFile, pair.Certificate, 0o600))
		require.NoError(t, os.WriteFile(c.KeyFile, pair.Key, 0o600))
	}
	write()
	return c, write
}

// What Graph still sends for a key that is gone is read from the history.
func TestReceiver_StartsWithGapOfRemovedKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stored string
		gaps   []gap.Reason
	}{
		"a key was removed":     {`{"accepted":["gone"]}`, []gap.Reason{gap.RemovedKey}},
		"the value is damaged":  {`{"accepted":[`, []gap.Reason{gap.RemovedKey}},
		"no key was removed":    {`{"accepted":[]}`, nil},
		"there is no value yet": {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			if test.stored != "" {
				require.NoError(t, statestore.New(store).Write(t.Context(), statestore.Set{Key: keysKey, Version: keysVersion, Payload: []byte(test.stored)}))
			}
			_, c := newTestReceiver(t, stored(store))
			assert.Equal(t, test.gaps, missingReasons(c))
		})
	}
}

func TestReceiver_TakesChangedKeyFilesIntoUse(t *testing.T) {
	t.Parallel()
	certificate, write := newKeyFiles(t)
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t, with(certificate))
		core, lines := observer.New(zap.InfoLevel)
		c.keys.reloading.Logger = zap.New(core)
		accepts := func(key *notification.Key) bool {
			state := notification.ClientState(key, r.settings.TenantID, r.settings.ClientID, tenantWide)
			return r.pipeline.decrypter.OwnClientState([]byte(state))
		}
		old := c.keys.ring[0]
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.watchFiles(ctx)
		}()
		time.Sleep(3 * keyCheckInterval)
		assert.Zero(t, lines.Len(), "nothing has changed")

		require.NoError(t, os.WriteFile(certificate.KeyFile, []byte("half of a"), 0o600))
		time.Sleep(3 * keyCheckInterval)
		synctest.Wait()
		assert.Equal(t, 1, lines.FilterMessageSnippet("can't be used").Len(), "a change in the middle is reported once")
		assert.True(t, accepts(old))
		assert.Empty(t, missing(c))

		write()
		time.Sleep(keyCheckInterval)
		synctest.Wait()
		assert.Equal(t, 1, lines.FilterMessageSnippet("can be used again").Len())
		assert.NotEqual(t, old.CertificateID(), c.keys.ring[0].CertificateID())
		assert.True(t, accepts(c.keys.ring[0]))
		assert.False(t, accepts(old))
		assert.Equal(t, []gap.Reason{gap.RemovedKey}, missingReasons(c), "what Graph still sends for the old key is missing")
		cancel()
		<-done
	})
}

func TestReceiver_ChecksKeyFilesHalfAMinuteAfterStart(t *testing.T) {
	t.Parallel()
	certificate, write := newKeyFiles(t)
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t, with(certificate))
		old := c.keys.ring[0]
		write()
		ctx, cancel := context.WithTimeout(t.Context(), keyCheckInterval+time.Second)
		defer cancel()
		r.watchFiles(ctx)
		assert.NotEqual(t, old.CertificateID(), c.keys.ring[0].CertificateID())
	})
}

func TestKeys_ErrorNamesConfigPathAndFile(t *testing.T) {
	t.Parallel()
	k, _ := newTestKeys(newStore(t), Certificate{CertFile: "/no/such.crt", KeyFile: "/no/such.key"})
	_, err := k.read()
	require.ErrorContains(t, err, "encryption.certificates[0]")
	assert.ErrorContains(t, err, "/no/such.crt")
}
