// SPDX-License-Identifier: Apache-2.0

package endtoend_test

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
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// memoryStorage is a storage extension, and its client, in memory. It stays when it is closed, and its operations can fail or hang.
type memoryStorage struct {
	component.StartFunc
	component.ShutdownFunc

	mu     sync.Mutex // guards what follows
	values map[string][]byte
	writes int
	// before, unless nil, is called before each operation; its error is that of the operation.
	before func(ctx context.Context, operation *storage.Operation) error
}

// withMemoryStorage gives the receiver a storage that survives its restarts and can fail.
func (h *harness) withMemoryStorage() *memoryStorage {
	id := storagetest.NewStorageID("copilot")
	s := &memoryStorage{values: map[string][]byte{}}
	h.config.Storage = &id
	h.host.extensions = map[component.ID]component.Component{id: s}
	return s
}

// intercept sets before.
func (s *memoryStorage) intercept(before func(context.Context, *storage.Operation) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// fail makes operations fail, those of one key or all; nil ends it.
func (s *memoryStorage) fail(err error, key ...string) {
	s.intercept(func(_ context.Context, operation *storage.Operation) error {
		if len(key) > 0 && !slices.Contains(key, operation.Key) {
			return nil
		}
		return err
	})
}

// hang makes operations hang until the returned function is called. They ignore their contexts, as those of a dead network disk do.
func (s *memoryStorage) hang() (release func()) {
	hanging := make(chan struct{})
	s.intercept(func(context.Context, *storage.Operation) error {
		<-hanging
		return nil
	})
	return func() {
		s.intercept(nil)
		close(hanging)
	}
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

// GetClient returns the one client, which all components share.
func (s *memoryStorage) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return s, nil
}

func (s *memoryStorage) Get(ctx context.Context, key string) ([]byte, error) {
	get := storage.GetOperation(key)
	err := s.Batch(ctx, get)
	return get.Value, err
}

func (s *memoryStorage) Set(ctx context.Context, key string, value []byte) error {
	return s.Batch(ctx, storage.SetOperation(key, value))
}

func (s *memoryStorage) Delete(ctx context.Context, key string) error {
	return s.Batch(ctx, storage.DeleteOperation(key))
}

func (s *memoryStorage) Batch(ctx context.Context, operations ...*storage.Operation) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		for _, o := range operations {
			if err := before(ctx, o); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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

func (*memoryStorage) Close(context.Context) error { return nil }

// A storage that fails while the collector runs is reported, answers go on, and what it lacks is written once it works again.
func TestStorage_FailingWhileRunningIsReportedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.History.Users = []string{testUser}
	stored := h.withMemoryStorage()
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
	event := h.host.await(t, componentstatus.StatusRecoverableError)
	require.ErrorContains(t, event.Err(), "no space left on device (COP001: ")
	stored.fail(nil)
	h.host.await(t, componentstatus.StatusOK)
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
	stored := h.withMemoryStorage()
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
