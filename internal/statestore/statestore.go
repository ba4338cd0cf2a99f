// Package statestore keeps typed values in a storage client of the Collector. Each value has a version and a checksum, so
// that a value which is damaged or of another version is told apart from a storage that fails.
package statestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Timeout is how long one call to the storage may take. Only a storage that hangs takes longer; a slow disk does not.
const Timeout = 5 * time.Second

// Store reads and writes values. Calls are made one at a time, and a call that was given up after Timeout still excludes
// others until it returns, so it can't overwrite what a later call wrote. It is safe for concurrent use.
type Store struct {
	client storage.Client
	// calling is a semaphore: it holds a value during a call.
	calling chan struct{}
	// hangs is true while a call that was given up has not returned.
	hangs atomic.Bool
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
		s.hangs.Store(false)
	}()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil { // The cause says more than the client's error, which is that of ctx.
			return context.Cause(ctx)
		}
		return err
	case <-ctx.Done():
		s.hangs.Store(true)
		if len(done) > 0 { // it has returned at this moment
			s.hangs.Store(false)
		}
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

// Write writes values, in one transaction where the storage has transactions, else in this order.
func (s *Store) Write(ctx context.Context, sets ...Set) error {
	if len(sets) == 0 {
		return nil
	}
	operations := make([]*storage.Operation, 0, len(sets))
	for _, one := range sets {
		operations = append(operations, one.operation())
	}
	err := s.call(ctx, func(ctx context.Context) error { return s.client.Batch(ctx, operations...) })
	if err != nil {
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

// Read returns the payload of a value, nil if there is none. The error is a *DamagedError if the value can't be used; any
// other error is one of the storage.
func (s *Store) Read(ctx context.Context, key string, version byte) ([]byte, error) {
	var value []byte
	err := s.call(ctx, func(ctx context.Context) (err error) {
		value, err = s.client.Get(ctx, key)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", key, err)
	case value == nil:
		return nil, nil
	}
	payload, err := unframe(version, value)
	if err != nil {
		return nil, &DamagedError{Key: key, Err: err}
	}
	return payload, nil
}

// Close waits for a call in flight, at most Timeout, and closes the client. Where a call was given up and has not returned yet, the
// client hangs, and stays open.
func (s *Store) Close(ctx context.Context) error {
	err := errHangs
	if !s.hangs.Load() {
		err = s.call(ctx, s.client.Close)
	}
	if err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}

// DamagedError says that a value is there and can't be used: it is damaged, or was written by another version. Its owner
// reports it and replaces it.
type DamagedError struct {
	Key string
	Err error
}

func (e *DamagedError) Error() string { return "value " + e.Key + " in storage: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// Damaged reports whether an error of Read is about the value, as opposed to the storage.
func Damaged(err error) bool {
	_, ok := errors.AsType[*DamagedError](err)
	return ok
}

// The stored form of a value: version (1 byte), CRC-32C of the payload (4, big-endian), payload.
const headerSize = 1 + 4

var (
	errVersion  = errors.New("written in another format")
	errChecksum = errors.New("damaged")
)

func checksum(payload []byte) uint32 {
	return crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))
}

func frame(version byte, payload []byte) []byte {
	value := append(make([]byte, 0, headerSize+len(payload)), version)
	return append(binary.BigEndian.AppendUint32(value, checksum(payload)), payload...)
}

func unframe(version byte, value []byte) ([]byte, error) {
	if len(value) < headerSize {
		return nil, errChecksum
	}
	if value[0] != version {
		return nil, errVersion
	}
	payload := value[headerSize:]
	if binary.BigEndian.Uint32(value[1:]) != checksum(payload) {
		return nil, errChecksum
	}
	return payload, nil
}
