package backfill_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// fakeStore is a store that can be broken.
type fakeStore struct {
	mu     sync.Mutex
	values map[string][]byte
	broken bool
	writes int
}

var errStore = errors.New("disk full")

func (s *fakeStore) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil, errStore
	}
	return s.values[key], nil
}

func (s *fakeStore) Set(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errStore
	}
	s.writes++
	s.values[key] = slices.Clone(value)
	return nil
}

func (s *fakeStore) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errStore
	}
	delete(s.values, key)
	return nil
}

// copy is what a killed process leaves behind.
func (s *fakeStore) copy() *fakeStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &fakeStore{values: maps.Clone(s.values), writes: s.writes}
}

func (s *fakeStore) setBroken(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// pass lets time pass, and everything happen that is due by then.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
