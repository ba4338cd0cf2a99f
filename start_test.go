package m365copilotreceiver

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// fakeStorage is a storage extension, and its client, that keeps values in memory and can fail.
type fakeStorage struct {
	component.StartFunc
	component.ShutdownFunc

	mu     sync.Mutex // guards what follows
	values map[string][]byte
	// fail is called with each operation, and its error returned in place of a result.
	fail func(ctx context.Context, operation *storage.Operation) error
}

func (s *fakeStorage) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return s, nil
}

func (s *fakeStorage) Get(ctx context.Context, key string) ([]byte, error) {
	operation := storage.GetOperation(key)
	err := s.Batch(ctx, operation)
	return operation.Value, err
}

func (s *fakeStorage) Set(ctx context.Context, key string, value []byte) error {
	return s.Batch(ctx, storage.SetOperation(key, value))
}

func (s *fakeStorage) Delete(ctx context.Context, key string) error {
	return s.Batch(ctx, storage.DeleteOperation(key))
}

func (s *fakeStorage) Batch(ctx context.Context, operations ...*storage.Operation) error {
	for _, operation := range operations {
		if err := s.do(ctx, operation); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeStorage) do(ctx context.Context, operation *storage.Operation) error {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if err := fail(ctx, operation); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch operation.Type {
	case storage.Get:
		operation.Value = s.values[operation.Key]
	case storage.Set:
		s.values[operation.Key] = slices.Clone(operation.Value)
	case storage.Delete:
		delete(s.values, operation.Key)
	}
	return nil
}

func (s *fakeStorage) Close(context.Context) error { return nil }

// failWith sets fail, nil for none.
func (s *fakeStorage) failWith(fail func(ctx context.Context, operation *storage.Operation) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *fakeStorage) snapshot() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

// withFakeStorage gives the receiver a storage that survives its restarts.
func (h *harness) withFakeStorage() *fakeStorage {
	extension, id := &fakeStorage{values: map[string][]byte{}}, component.MustNewID("fake_storage")
	h.config.Storage = &id
	h.host.extensions = map[component.ID]component.Component{id: extension}
	return extension
}

// startError starts the receiver, which must fail, and shuts it down.
func (h *harness) startError(t *testing.T) error {
	t.Helper()
	h.create(t, h.settings())
	err := h.signals[0].Start(t.Context(), h.host)
	h.stop(t)
	require.Error(t, err)
	return err
}

var errStorage = errors.New("the disk is on fire")

// A receiver that does not know what earlier runs left to do does not start, and writes nothing over what it could not read.
func TestStart_FailsIfStorageCanNotBeRead(t *testing.T) {
	t.Parallel()
	hangs := func(ctx context.Context, _ *storage.Operation) error { <-ctx.Done(); return ctx.Err() }
	fails := func(context.Context, *storage.Operation) error { return errStorage }
	for name, test := range map[string]struct {
		fail   func(context.Context, *storage.Operation) error
		poll   bool
		want   string
		atMost time.Duration
	}{
		"since it hangs":                         {fail: hangs, want: "did not answer", atMost: 5 * time.Second},
		"since it fails":                         {fail: fails, want: "the disk is on fire"},
		"since it hangs, without a subscription": {fail: hangs, poll: true, want: "did not answer", atMost: 5 * time.Second},
		"since it fails, without a subscription": {fail: fails, poll: true, want: "the disk is on fire"},
		"since only the gaps can't be read":      {fail: failsForKey("gaps"), want: "the disk is on fire"},
		"since only the keys can't be read":      {fail: failsForKey("keys"), want: "the disk is on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			extension := h.withFakeStorage()
			h.run(t)
			h.deliver(t, newTurns(3)...)
			h.stop(t)
			held := extension.snapshot()
			require.Contains(t, held, "keys")
			if test.poll {
				h.config.Subscription.NotificationURL = ""
				h.config.History.PollInterval = time.Minute
			}
			extension.failWith(test.fail)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := h.startError(t)
				assert.LessOrEqual(t, time.Since(began), test.atMost)
				for _, want := range []string{test.want, `storage: "fake_storage" can't be read`, "start again"} {
					require.ErrorContains(t, err, want)
				}
			})
			assert.Equal(t, held, extension.snapshot())

			extension.failWith(nil)
			h.start(t)
			assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1, "the key is the same")
		})
	}
}

func failsForKey(key string) func(context.Context, *storage.Operation) error {
	return func(_ context.Context, operation *storage.Operation) error {
		if operation.Key == key {
			return errStorage
		}
		return nil
	}
}

func TestStart_ReplacesDamagedKeys(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	extension := h.withFakeStorage()
	first := h.run(t)
	h.stop(t)
	extension.values["keys"] = []byte("damaged")
	h.start(t)
	assert.Equal(t, 1, h.lines.FilterMessageSnippet("encryption keys in storage are damaged").Len())
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpCreate, 2))
	second := h.subscribed(t)
	assert.NotEqual(t, first.EncryptionCertificateID, second.EncryptionCertificateID)
	require.Eventually(t, func() bool {
		return h.lines.FilterMessage("subscription recreated").FilterField(zap.String("reason", "removed_key")).Len() == 1
	}, waitTimeout, 10*time.Millisecond)

	h.restart(t)
	assert.Zero(t, h.lines.FilterMessageSnippet("damaged").Len())
	assert.Equal(t, second.ID, h.subscribed(t).ID)
}

// Whatever arrives as soon as Start has returned can be decrypted, and is not delivered twice.
func TestStart_ListensOnceItCanDecrypt(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withFakeStorage()
	h.run(t)
	in := newPrompts(t, 10)
	before, err := h.emulator.Collection(in[:5]...)
	require.NoError(t, err)
	all, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	_, err = h.emulator.Post(t.Context(), before)
	require.NoError(t, err)
	h.stop(t)
	h.emulator.Fail(graphtest.OpList, graphtest.Fault{Reset: true})
	h.start(t)
	status, err := h.emulator.Post(t.Context(), all)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
}
