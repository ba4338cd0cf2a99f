// SPDX-License-Identifier: Apache-2.0

package statestore_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// memory is a storage client in memory. It calls before, where that is set, at the begin of each call.
type memory struct {
	before func(ctx context.Context) error

	mu     sync.Mutex
	values map[string][]byte
	// order lists the keys in the order in which they were set or deleted.
	order  []string
	calls  int
	closed bool
}

func newMemory() *memory { return &memory{values: map[string][]byte{}} }

func (m *memory) begin(ctx context.Context) error {
	m.mu.Lock()
	m.calls++
	m.mu.Unlock()
	if m.before == nil {
		return nil
	}
	return m.before(ctx)
}

func (m *memory) Get(ctx context.Context, key string) ([]byte, error) {
	op := storage.GetOperation(key)
	err := m.Batch(ctx, op)
	return op.Value, err
}

func (m *memory) Set(ctx context.Context, key string, value []byte) error {
	return m.Batch(ctx, storage.SetOperation(key, value))
}

func (m *memory) Delete(ctx context.Context, key string) error {
	return m.Batch(ctx, storage.DeleteOperation(key))
}

func (m *memory) Batch(ctx context.Context, ops ...*storage.Operation) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		switch op.Type {
		case storage.Get:
			op.Value = m.values[op.Key]
		case storage.Set:
			m.values[op.Key], m.order = op.Value, append(m.order, "set "+op.Key)
		case storage.Delete:
			delete(m.values, op.Key)
			m.order = append(m.order, "delete "+op.Key)
		default:
			return errors.New("unknown operation")
		}
	}
	return nil
}

func (m *memory) Close(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *memory) countCalls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// hang makes each call ignore its context and wait until the returned function is called.
func (m *memory) hang() (release func()) {
	released := make(chan struct{})
	m.before = func(context.Context) error {
		<-released
		return nil
	}
	return sync.OnceFunc(func() { close(released) })
}
