package backfill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

const (
	// shardCount is how many values a shelf is stored in: one more user rewrites one of them.
	shardCount   = 64
	userTimeSize = len(user{}) + 8
	// mostUsers bounds a shelf.
	mostUsers = 100_000
)

// userTimes keeps a time for each of a bounded number of users, over restarts.
type userTimes struct {
	key string

	mu     sync.Mutex // guards what follows
	shards [shardCount]map[user]int64
	dirty  [shardCount]bool
	size   int
}

func newUserTimes(key string) *userTimes { return &userTimes{key: key} }

func shardOf(u user) int { return int(u[0]) * shardCount / 256 }

// put notes the time of a user, rounded up to seconds. Where there is no room, what is older than stale goes; false means that none was made.
func (s *userTimes) put(u user, at, stale time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := shardOf(u)
	if _, found := s.shards[b][u]; !found {
		if s.size >= mostUsers {
			s.drop(stale)
		}
		if s.size >= mostUsers {
			return false
		}
		s.size++
	}
	if s.shards[b] == nil {
		s.shards[b] = map[user]int64{}
	}
	s.shards[b][u] = at.Add(time.Second - 1).Unix()
	s.dirty[b] = true
	return true
}

// take forgets a user and returns the time.
func (s *userTimes) take(u user) (at time.Time, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := shardOf(u)
	seconds, found := s.shards[b][u]
	if found {
		delete(s.shards[b], u)
		s.dirty[b] = true
		s.size--
	}
	return time.Unix(seconds, 0).UTC(), found
}

func (s *userTimes) drop(before time.Time) {
	for b := range s.shards {
		for u, at := range s.shards[b] {
			if at < before.Unix() {
				delete(s.shards[b], u)
				s.dirty[b] = true
				s.size--
			}
		}
	}
}

// at returns the time of a user.
func (s *userTimes) at(u user) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.shards[shardOf(u)][u]
	return time.Unix(at, 0).UTC(), found
}

// users returns all users, in no order.
func (s *userTimes) users() []user {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]user, 0, s.size)
	for b := range s.shards {
		for u := range s.shards[b] {
			all = append(all, u)
		}
	}
	return all
}

// changed tells whether something is not stored yet.
func (s *userTimes) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dirty := range s.dirty {
		if dirty {
			return true
		}
	}
	return false
}

// flush stores what changed. One flush runs at a time.
func (s *userTimes) flush(ctx context.Context, store Store) error {
	for b := range shardCount {
		s.mu.Lock()
		dirty := s.dirty[b]
		s.dirty[b] = false
		value := []byte{formatVersion}
		if dirty {
			for u, at := range s.shards[b] {
				value = append(value, u[:]...)
				value = binary.BigEndian.AppendUint64(value, uint64(at)) //nolint:gosec // G115: read back the same way.
			}
		}
		s.mu.Unlock()
		if !dirty {
			continue
		}
		if err := store.Set(ctx, s.key+strconv.Itoa(b), value); err != nil {
			s.mu.Lock()
			s.dirty[b] = true
			s.mu.Unlock()
			return fmt.Errorf("store users: %w", err)
		}
	}
	return nil
}

// load reads what is stored, beside what is there. A value that can't be read is replaced with the next flush.
func (s *userTimes) load(ctx context.Context, store Store) (damage, err error) {
	for b := range shardCount {
		value, err := store.Get(ctx, s.key+strconv.Itoa(b))
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		times, bad := decodeShard(value, b)
		s.mu.Lock()
		if bad != nil {
			damage = errors.Join(damage, bad)
			s.dirty[b] = true
		}
		s.takeIn(b, times)
		s.mu.Unlock()
	}
	return damage, nil
}

// takeIn is called with mu held. A time from the store is the older one, and stays.
func (s *userTimes) takeIn(b int, times map[user]int64) {
	if s.shards[b] == nil {
		s.shards[b] = map[user]int64{}
	}
	for u, at := range times {
		if _, found := s.shards[b][u]; !found {
			if s.size >= mostUsers {
				continue
			}
			s.size++
		}
		s.shards[b][u] = at
	}
}

func decodeShard(value []byte, b int) (map[user]int64, error) {
	body, err := unversioned(value)
	if err != nil {
		return nil, err
	}
	if len(body)%userTimeSize != 0 || len(body) > mostUsers*userTimeSize {
		return nil, errShape
	}
	times := make(map[user]int64, len(body)/userTimeSize)
	for ; len(body) > 0; body = body[userTimeSize:] {
		u := user(body[:len(user{})])
		at := int64(binary.BigEndian.Uint64(body[len(user{}):])) //nolint:gosec // G115: written the same way.
		if shardOf(u) != b || !plausible(time.Unix(at, 0).UTC()) {
			return nil, errShape
		}
		times[u] = at
	}
	return times, nil
}

// since tells whether a user has this time or a later one.
func (s *userTimes) since(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.shards {
		for _, at := range s.shards[b] {
			if !time.Unix(at, 0).Before(t) {
				return true
			}
		}
	}
	return false
}
