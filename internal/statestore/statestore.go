// SPDX-License-Identifier: Apache-2.0

// Package statestore keeps typed values in a storage client of the Collector. Each value has a version and a checksum, so
// that a value which is damaged or of another version is told apart from a storage that fails.
package statestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Timeout is how long one call to the storage may take. Only a storage that hangs takes longer; a slow disk does not.
const Timeout = 5 * time.Second

// ErrDamaged says that a value is there and can't be used: it is damaged, or was written by another version. Its owner reports it
// and replaces it.
var ErrDamaged = errors.New("damaged")

// Store reads and writes values. Calls are made one at a time, and a call that was given up after Timeout still excludes
// others until it returns, so it can't overwrite what a later call wrote. It is safe for concurrent use.
type Store struct {
	client  storage.Client
	calling chan struct{} // a semaphore, which holds a value during a call
}

// New returns a Store for a client, which it owns.
func New(client storage.Client) *Store {
	return &Store{client: client, calling: make(chan struct{}, 1)}
}

// call makes one call. It returns when the call, Timeout or ctx ends.
func (s *Store) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, errHangs)
	defer cancel()
	select {
	case s.calling <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	// Not every client returns when its context ends.
	go func() {
		defer func() { <-s.calling }()
		done <- f(ctx)
	}()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil { // The cause says more than the client's error, which is that of ctx.
			return context.Cause(ctx)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errHangs = fmt.Errorf("storage did not answer within %s", Timeout)

// Set is one value to write, or to delete if Payload is nil.
type Set struct {
	Key     string
	Version byte
	Payload []byte
}

// Write writes values, at least one, in one transaction where the storage has transactions, else in this order.
func (s *Store) Write(ctx context.Context, sets ...Set) error {
	operations := make([]*storage.Operation, 0, len(sets))
	for _, one := range sets {
		operations = append(operations, one.operation())
	}
	if err := s.call(ctx, func(ctx context.Context) error { return s.client.Batch(ctx, operations...) }); err != nil {
		return fmt.Errorf("write %s: %w", sets[0].Key, err)
	}
	return nil
}

func (s Set) operation() *storage.Operation {
	if s.Payload == nil {
		return storage.DeleteOperation(s.Key)
	}
	return storage.SetOperation(s.Key, frame(s.Version, s.Payload))
}

// Read returns the payload of a value, nil if there is none. The error is ErrDamaged if the value can't be used; any other error is
// one of the storage.
func (s *Store) Read(ctx context.Context, key string, version byte) ([]byte, error) {
	var value []byte
	err := s.call(ctx, func(ctx context.Context) (err error) {
		value, err = s.client.Get(ctx, key)
		return err
	})
	if err == nil && value != nil {
		value, err = unframe(version, value)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return value, nil
}

// Close waits for a call in flight, at most Timeout, and closes the client. A client whose call does not return stays open.
func (s *Store) Close(ctx context.Context) error {
	if err := s.call(ctx, s.client.Close); err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}

// The stored form of a value: version (1 byte), CRC-32C of the payload (4, big-endian), payload.
const headerSize = 1 + 4

func checksum(payload []byte) uint32 {
	return crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))
}

func frame(version byte, payload []byte) []byte {
	value := append(make([]byte, 0, headerSize+len(payload)), version)
	return append(binary.BigEndian.AppendUint32(value, checksum(payload)), payload...)
}

func unframe(version byte, value []byte) ([]byte, error) {
	switch {
	case len(value) < headerSize:
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(value))
	case value[0] != version:
		return nil, fmt.Errorf("%w: written in another format", ErrDamaged)
	case binary.BigEndian.Uint32(value[1:]) != checksum(value[headerSize:]):
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return value[headerSize:], nil
}
