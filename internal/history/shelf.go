package history

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
	// shelfBoards is how many values a shelf is stored in: one more user rewrites one of them.
	shelfBoards = 64
	shelfRecord = len(user{}) + 8
	// mostUsers bounds a shelf.
	mostUsers = 100_000
)

// shelf keeps a time for each of a bounded number of users, over restarts.
type shelf struct {
	key string

	mu     sync.Mutex // guards what follows
	boards [shelfBoards]map[user]int64
	dirty  [shelfBoards]bool
	size   int
}

func newShelf(key string) *shelf { return &shelf{key: key} }

func boardOf(u user) int { return int(u[0]) * shelfBoards / 256 }

// put notes the time of a user, rounded up to seconds. Where there is no room, what is older than stale goes; false means that none was made.
func (s *shelf) put(u user, at, stale time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := boardOf(u)
	if _, found := s.boards[b][u]; !found {
		if s.size >= mostUsers {
			s.drop(stale)
		}
		if s.size >= mostUsers {
			return false
		}
		s.size++
	}
	if s.boards[b] == nil {
		s.boards[b] = map[user]int64{}
	}
	s.boards[b][u] = at.Add(time.Second - 1).Unix()
	s.dirty[b] = true
	return true
}

// take forgets a user and returns the time.
func (s *shelf) take(u user) (at time.Time, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := boardOf(u)
	seconds, found := s.boards[b][u]
	if found {
		delete(s.boards[b], u)
		s.dirty[b] = true
		s.size--
	}
	return time.Unix(seconds, 0).UTC(), found
}

func (s *shelf) drop(before time.Time) {
	for b := range s.boards {
		for u, at := range s.boards[b] {
			if at < before.Unix() {
				delete(s.boards[b], u)
				s.dirty[b] = true
				s.size--
			}
		}
	}
}

// at returns the time of a user.
func (s *shelf) at(u user) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.boards[boardOf(u)][u]
	return time.Unix(at, 0).UTC(), found
}

// users returns all users, in no order.
func (s *shelf) users() []user {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]user, 0, s.size)
	for b := range s.boards {
		for u := range s.boards[b] {
			all = append(all, u)
		}
	}
	return all
}

// changed tells whether something is not stored yet.
func (s *shelf) changed() bool {
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
func (s *shelf) flush(ctx context.Context, store Store) error {
	for b := range shelfBoards {
		s.mu.Lock()
		dirty := s.dirty[b]
		s.dirty[b] = false
		value := []byte{formatVersion}
		if dirty {
			for u, at := range s.boards[b] {
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
func (s *shelf) load(ctx context.Context, store Store) (damage, err error) {
	for b := range shelfBoards {
		value, err := store.Get(ctx, s.key+strconv.Itoa(b))
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		times, bad := decodeBoard(value, b)
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
func (s *shelf) takeIn(b int, times map[user]int64) {
	if s.boards[b] == nil {
		s.boards[b] = map[user]int64{}
	}
	for u, at := range times {
		if _, found := s.boards[b][u]; !found {
			if s.size >= mostUsers {
				continue
			}
			s.size++
		}
		s.boards[b][u] = at
	}
}

func decodeBoard(value []byte, b int) (map[user]int64, error) {
	body, err := unversioned(value)
	if err != nil {
		return nil, err
	}
	if len(body)%shelfRecord != 0 || len(body) > mostUsers*shelfRecord {
		return nil, errShape
	}
	times := make(map[user]int64, len(body)/shelfRecord)
	for ; len(body) > 0; body = body[shelfRecord:] {
		u := user(body[:len(user{})])
		at := int64(binary.BigEndian.Uint64(body[len(user{}):])) //nolint:gosec // G115: written the same way.
		if boardOf(u) != b || !plausible(time.Unix(at, 0).UTC()) {
			return nil, errShape
		}
		times[u] = at
	}
	return times, nil
}

// since tells whether a user has this time or a later one.
func (s *shelf) since(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.boards {
		for _, at := range s.boards[b] {
			if !time.Unix(at, 0).Before(t) {
				return true
			}
		}
	}
	return false
}
