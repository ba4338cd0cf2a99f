// SPDX-License-Identifier: Apache-2.0

package statestore

import (
	"context"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

// ValueSettings configures a Value. All fields but Status are required.
type ValueSettings struct {
	Store   *Store
	Key     string
	Version byte
	Name    string // what log lines and errors call the value, a plural
	Logger  *zap.Logger
	Status  func(error) // as in health.Part
}

// Value is a value of one type, stored under one key in the binary form of its type, else as JSON. It is written if it has changed,
// and logs the failures of the storage. It is safe for concurrent use.
type Value[T any] struct {
	s       ValueSettings
	health  health.Part
	changes atomic.Uint64 // so far
	saved   atomic.Uint64 // how many of them are stored; set only in calls to the storage, which are made one at a time
}

// NewValue returns a Value that has not changed.
func NewValue[T any](s ValueSettings) *Value[T] {
	return &Value[T]{s: s, health: health.Part{
		Logger: s.Logger, Failing: s.Name + " can't be stored", Recovered: s.Name + " are stored again", Code: failure.StorageFailing, Status: s.Status,
	}}
}

// Load returns the stored value, the zero value if there is none. A damaged value is logged, and the next Save replaces it. The
// error is one of the storage.
func (v *Value[T]) Load(ctx context.Context) (value T, damaged bool, err error) {
	payload, err := v.s.Store.Read(ctx, v.s.Key, v.s.Version)
	if err == nil && payload != nil {
		if err = decode(payload, &value); err != nil {
			err = fmt.Errorf("read %s: %w: %w", v.s.Key, ErrDamaged, err)
		}
	}
	if err == nil {
		return value, false, nil
	}
	var none T
	if !errors.Is(err, ErrDamaged) {
		return none, false, failure.With(fmt.Errorf("load %s: %w", v.s.Name, err), failure.New(failure.StorageFailing))
	}
	v.s.Logger.Warn(v.s.Name+" in storage are damaged and are replaced",
		append(failure.New(failure.StorageDamaged).Fields(), zap.Error(err))...)
	v.Changed()
	return none, true, nil
}

// Changed notes that the value has changed.
func (v *Value[T]) Changed() { v.changes.Add(1) }

// Save writes the value unless everything that was changed before the call is stored. snapshot returns a copy of the value; it is
// called when the storage is free, so that no older copy is written after a newer one. It may still run after Save has returned an error,
// where ctx or the time for the call ended. A failure is logged, but not the end of ctx.
func (v *Value[T]) Save(ctx context.Context, snapshot func() T) error {
	wanted := v.changes.Load()
	if v.saved.Load() >= wanted {
		return nil
	}
	err := v.s.Store.call(ctx, func(ctx context.Context) error {
		if v.saved.Load() >= wanted {
			return nil
		}
		changes := v.changes.Load()
		payload, err := encode(snapshot())
		if err != nil {
			return err
		}
		if err := v.s.Store.client.Batch(ctx, Set{v.s.Key, v.s.Version, payload}.operation()); err != nil {
			return err
		}
		v.saved.Store(changes)
		return nil
	})
	if err != nil {
		err = failure.With(fmt.Errorf("store %s: %w", v.s.Name, err), failure.New(failure.StorageFailing))
	}
	if err == nil || ctx.Err() == nil {
		v.health.Report(err)
	}
	return err
}

// Records are values of a fixed size, stored one after the other in big-endian order.
type Records[T any] []T

// MarshalBinary implements encoding.BinaryMarshaler.
func (r Records[T]) MarshalBinary() ([]byte, error) {
	return binary.Append(nil, binary.BigEndian, []T(r))
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *Records[T]) UnmarshalBinary(payload []byte) error {
	*r = make([]T, len(payload)/binary.Size(*new(T)))
	n, err := binary.Decode(payload, binary.BigEndian, []T(*r))
	if err == nil && n != len(payload) {
		err = fmt.Errorf("%d bytes after %d records", len(payload)-n, len(*r))
	}
	return err
}

func encode(value any) ([]byte, error) {
	if own, ok := value.(encoding.BinaryMarshaler); ok {
		return own.MarshalBinary()
	}
	return json.Marshal(value)
}

func decode(payload []byte, value any) error {
	if own, ok := value.(encoding.BinaryUnmarshaler); ok {
		return own.UnmarshalBinary(payload)
	}
	return json.Unmarshal(payload, value)
}

// Run saves the value within an interval after each change, and again until that succeeds, until ctx ends.
func (v *Value[T]) Run(ctx context.Context, interval time.Duration, snapshot func() T) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = v.Save(ctx, snapshot) // a failure is logged there
		}
	}
}
