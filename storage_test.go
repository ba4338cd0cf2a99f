package m365copilotreceiver

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// memoryStorage is a storage extension in memory whose calls can fail or hang.
type memoryStorage struct {
	component.StartFunc
	component.ShutdownFunc

	mu     sync.Mutex // guards what follows
	values map[string][]byte
	writes int
	// failure is returned by every call.
	failure error
	// hanging, unless nil, is closed to let calls go on. They ignore their contexts, as those of a dead network disk do.
	hanging chan struct{}
}

// withMemoryStorage gives the receiver a storage that survives its restarts and can fail.
func (h *harness) withMemoryStorage(t *testing.T) *memoryStorage {
	t.Helper()
	id := storagetest.NewStorageID("copilot")
	s := &memoryStorage{values: map[string][]byte{}}
	h.config.Storage = &id
	h.host.extensions = map[component.ID]component.Component{id: s}
	return s
}

// hang makes calls hang until the returned function is called. It may be called twice.
func (s *memoryStorage) hang() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hanging := make(chan struct{})
	s.hanging = hanging
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hanging = nil
		close(hanging)
	})
}

func (s *memoryStorage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

// damage changes a byte of each value whose key contains a text, and returns how many there are.
func (s *memoryStorage) damage(part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for key, value := range s.values {
		if strings.Contains(key, part) {
			value = slices.Clone(value)
			value[len(value)-1] ^= 0x55
			s.values[key] = value
			n++
		}
	}
	return n
}

// snapshot returns all values, and how many writes there were.
func (s *memoryStorage) snapshot() (values map[string][]byte, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values), s.writes
}

// GetClient returns a client of this storage, which all components share.
func (s *memoryStorage) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return memoryClient{s}, nil
}

type memoryClient struct{ storage *memoryStorage }

func (c memoryClient) Get(ctx context.Context, key string) ([]byte, error) {
	get := storage.GetOperation(key)
	err := c.Batch(ctx, get)
	return get.Value, err
}

func (c memoryClient) Set(ctx context.Context, key string, value []byte) error {
	return c.Batch(ctx, storage.SetOperation(key, value))
}

func (c memoryClient) Delete(ctx context.Context, key string) error {
	return c.Batch(ctx, storage.DeleteOperation(key))
}

func (c memoryClient) Batch(_ context.Context, operations ...*storage.Operation) error {
	s := c.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	if hanging := s.hanging; hanging != nil {
		s.mu.Unlock()
		<-hanging
		s.mu.Lock()
	}
	if s.failure != nil {
		return s.failure
	}
	for _, o := range operations {
		switch o.Type {
		case storage.Get:
			o.Value = bytes.Clone(s.values[o.Key])
		case storage.Set:
			s.values[o.Key] = bytes.Clone(o.Value)
			s.writes++
		case storage.Delete:
			delete(s.values, o.Key)
			s.writes++
		}
	}
	return nil
}

func (memoryClient) Close(context.Context) error { return nil }

// A storage that can't be read when the collector starts fails the start, which says so, and nothing is written over what
// could not be read: the next start with a storage that works goes on as if nothing had happened.
func TestStorage_UnreadableAtStartFailsStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fail func(*memoryStorage) (heal func())
		want string
	}{
		"it hangs": {func(s *memoryStorage) func() { return s.hang() }, "5s"},
		"it returns errors": {func(s *memoryStorage) func() {
			s.fail(errors.New("input/output error"))
			return func() { s.fail(nil) }
		}, "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.config.History.Users = []string{testUser}
			stored := h.withMemoryStorage(t)
			h.run(t)
			in := newPrompts(t, 10)
			sent, err := h.emulator.Collection(in...)
			require.NoError(t, err)
			_, err = h.emulator.Post(t.Context(), sent)
			require.NoError(t, err)
			h.confirmed(t)
			h.stop(t)
			before, writes := stored.snapshot()
			require.NotEmpty(t, before)

			heal := test.fail(stored)
			t.Cleanup(heal)
			h.create(t, h.settings())
			begun := time.Now()
			err = h.signals[0].Start(t.Context(), h.host)
			require.ErrorContains(t, err, "storage")
			require.ErrorContains(t, err, test.want)
			assert.Less(t, time.Since(begun), 6*time.Second)
			h.stop(t)
			heal()
			require.Never(t, func() bool { _, now := stored.snapshot(); return now != writes }, time.Second, 20*time.Millisecond)
			after, _ := stored.snapshot()
			assert.Equal(t, before, after)

			h.start(t)
			h.confirmed(t)
			status, err := h.emulator.Post(t.Context(), sent)
			require.NoError(t, err)
			assert.Equal(t, 202, status)
			assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs(), "what was delivered before is known")
			assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1, "the key, and so the subscription, is the same")
			assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "nothing is missing")
		})
	}
}

// A storage that fails while the collector runs is reported, answers go on, and what it lacks is written once it works again.
func TestStorage_FailingWhileRunningIsReportedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.History.Users = []string{testUser}
	stored := h.withMemoryStorage(t)
	h.run(t)
	h.confirmed(t)
	stored.fail(errors.New("no space left on device"))
	in := newPrompts(t, 10)
	sent, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	status, err := h.emulator.Post(t.Context(), sent)
	require.NoError(t, err)
	assert.Equal(t, 202, status, "answers go on")
	require.Eventually(t, func() bool { return len(h.warnings()) > 0 }, waitTimeout, 20*time.Millisecond)
	h.confirmed(t)
	texts := map[string]int{}
	for _, line := range h.warnings() {
		texts[line.Message]++
		assert.Contains(t, lineText(t, line), "no space left on device")
	}
	for text, n := range texts {
		assert.Equal(t, 1, n, text)
	}
	stored.fail(nil)
	h.confirmed(t)
	h.restart(t)
	h.confirmed(t)
	status, err = h.emulator.Post(t.Context(), sent)
	require.NoError(t, err)
	assert.Equal(t, 202, status)
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs(), "what the storage lacked was written later")
}

// Without a usable checkpoint it is unknown what was missed, so as much is read as max_gap allows.
func TestStorage_DamagedCheckpointReadsMaxGap(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.History.Users = []string{testUser}
	stored := h.withMemoryStorage(t)
	h.run(t)
	h.confirmed(t)
	in := newPrompts(t, 5)
	h.deliver(t, in...)
	h.stop(t)
	require.Equal(t, 1, stored.damage("gaps"), "gaps and checkpoint are one value")
	found, tooOld := promptAt(t, time.Now().Add(-6*24*time.Hour), 0), promptAt(t, time.Now().Add(-8*24*time.Hour), 1)
	require.NoError(t, h.emulator.AddHistory(found, tooOld))
	h.start(t)
	h.awaitRecords(t, len(in)+1)
	require.Eventually(t, func() bool { return h.readReasons(t) != "" }, waitTimeout, 20*time.Millisecond)
	assert.Contains(t, h.readReasons(t), "startup")
	assert.Equal(t, interactionIDs(t, append(in, found)...), h.deliveredIDs(), "what was delivered before is known, and max_gap is 7 days")
	warnings := h.warnings()
	require.Len(t, warnings, 1)
	assert.Contains(t, lineText(t, warnings[0]), "damaged")
}
