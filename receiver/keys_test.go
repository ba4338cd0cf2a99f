package receiver

import (
	"context"
	"errors"
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

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func TestKeys_KeepsGeneratedKeyAcrossRestarts(t *testing.T) {
	t.Parallel()
	k := &keys{store: newStore(t), logger: zap.NewNop()}
	first, err := k.generated(t.Context())
	require.NoError(t, err)
	second, err := k.generated(t.Context())
	require.NoError(t, err)
	assert.Equal(t, certificateIDs(first), certificateIDs(second))
}

func TestKeys_ReplacesDamagedGeneratedKey(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zap.WarnLevel)
	k := &keys{store: newStore(t), logger: zap.New(core)}
	first, err := k.generated(t.Context())
	require.NoError(t, err)
	require.NoError(t, k.store.Set(t.Context(), generatedPrivateKey, []byte("damaged")))
	second, err := k.generated(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, certificateIDs(first), certificateIDs(second))
	assert.Equal(t, 1, lines.Len())
	third, err := k.generated(t.Context())
	require.NoError(t, err)
	assert.Equal(t, certificateIDs(second), certificateIDs(third))
}

// failingStore is a storage whose calls fail.
type failingStore struct{ storage.Client }

var errStorage = errors.New("the disk is on fire")

func (failingStore) Get(context.Context, string) ([]byte, error)        { return nil, errStorage }
func (failingStore) Set(context.Context, string, []byte) error          { return errStorage }
func (failingStore) Batch(context.Context, ...*storage.Operation) error { return errStorage }

// A storage failure costs the next run its key, but does not stop this one.
func TestKeys_GeneratesKeyWithoutWorkingStorage(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zap.WarnLevel)
	k := &keys{store: failingStore{newStore(t)}, logger: zap.New(core)}
	ring, err := k.generated(t.Context())
	require.NoError(t, err)
	assert.Len(t, ring, 1)
	assert.Equal(t, 1, lines.Len())
}

// A list of accepted keys that can't be read may have contained a removed key.
func TestKeys_AssumesRemovedKeyForUnreadableList(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	old, err := notification.GenerateKey("old")
	require.NoError(t, err)
	renewed, err := notification.GenerateKey("renewed")
	require.NoError(t, err)
	(&keys{store: store, logger: zap.NewNop()}).accept(t.Context(), notification.Ring{old})

	failing := &keys{store: failingStore{store}, logger: zap.NewNop()}
	assert.True(t, failing.missing(t.Context(), notification.Ring{renewed}), "it is unknown once the list is replaced")
	ended, end := context.WithCancel(t.Context())
	end()
	assert.False(t, failing.missing(ended, notification.Ring{renewed}), "a shutdown replaces nothing")

	require.NoError(t, store.Set(t.Context(), acceptedKey, []byte("{")))
	assert.True(t, (&keys{store: store, logger: zap.NewNop()}).missing(t.Context(), notification.Ring{renewed}), "a damaged list counts as unreadable")
}

func TestKeys_DetectsRemovedKey(t *testing.T) {
	t.Parallel()
	k := &keys{store: newStore(t), logger: zap.NewNop()}
	old, err := notification.GenerateKey("old")
	require.NoError(t, err)
	renewed, err := notification.GenerateKey("renewed")
	require.NoError(t, err)
	for _, step := range []struct {
		ring    notification.Ring
		missing bool
	}{
		{notification.Ring{old}, false},
		{notification.Ring{old}, false},
		{notification.Ring{renewed, old}, false},
		{notification.Ring{renewed}, true},
		{notification.Ring{renewed}, false},
	} {
		assert.Equal(t, step.missing, k.missing(t.Context(), step.ring))
		k.accept(t.Context(), step.ring)
	}
}

func TestKeys_DetectsRemovedKeyWithoutStorage(t *testing.T) {
	t.Parallel()
	k := &keys{store: storage.NewNopClient(), logger: zap.NewNop()}
	old, err := notification.GenerateKey("old")
	require.NoError(t, err)
	renewed, err := notification.GenerateKey("renewed")
	require.NoError(t, err)
	assert.False(t, k.missing(t.Context(), notification.Ring{old}))
	k.accept(t.Context(), notification.Ring{old})
	assert.False(t, k.missing(t.Context(), notification.Ring{renewed, old}))
	assert.True(t, k.missing(t.Context(), notification.Ring{renewed}))
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

func TestKeys_ReloadsChangedFiles(t *testing.T) {
	t.Parallel()
	certificate, write := newKeyFiles(t)
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.WarnLevel)
		k := &keys{certificates: []Certificate{certificate}, logger: zap.New(core)}
		earlier, err := k.configured()
		require.NoError(t, err)
		var (
			after   notification.Ring
			changed bool
			done    = make(chan struct{})
		)
		go func() {
			defer close(done)
			after, changed = k.changed(t.Context())
		}()
		synctest.Wait()
		require.NoError(t, os.WriteFile(certificate.KeyFile, []byte("half of a"), 0o600))
		time.Sleep(3 * keyCheckInterval)
		synctest.Wait()
		assert.Equal(t, 1, lines.Len(), "a change in the middle is reported once")
		write()
		<-done
		assert.True(t, changed)
		assert.NotEqual(t, certificateIDs(earlier), certificateIDs(after))
	})
}

func TestKeys_DetectsChangeBeforeFirstCheck(t *testing.T) {
	t.Parallel()
	certificate, write := newKeyFiles(t)
	synctest.Test(t, func(t *testing.T) {
		k := &keys{certificates: []Certificate{certificate}, logger: zap.NewNop()}
		earlier, err := k.configured()
		require.NoError(t, err)
		write()
		began := time.Now()
		after, changed := k.changed(t.Context())
		assert.True(t, changed)
		assert.Equal(t, keyCheckInterval, time.Since(began))
		assert.NotEqual(t, certificateIDs(earlier), certificateIDs(after))
	})
}

func TestKeys_ErrorNamesConfigPathAndFile(t *testing.T) {
	t.Parallel()
	k := &keys{certificates: []Certificate{{CertFile: "/no/such.crt", KeyFile: "/no/such.key"}}}
	_, err := k.configured()
	require.ErrorContains(t, err, "encryption.certificates[0]")
	assert.ErrorContains(t, err, "/no/such.crt")
}
