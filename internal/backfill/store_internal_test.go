package backfill

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fullGapStore returns a gapStore with a value in each field.
func fullGapStore() *gapStore {
	at := noon()
	late1 := failedUser{user{1, 2, 3}, at.Add(-3 * time.Hour), at}
	return &gapStore{
		maxGap: time.Hour,
		intervals: []interval{
			{kind: kindFull, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{Startup: 2, Poll: 0}, due: at},
			{kind: kindSecondPass, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{Startup: 1}, due: at, notBefore: at},
			{kind: kindUnknownUsers, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{UsersUnknown: 1}, notBefore: at},
			{kind: kindFailedUsers, from: at.Add(-3 * time.Hour), to: at, reasons: reasonCounts{Poll: 0}, due: at, users: []failedUser{late1}, attempts: 3},
		},
		pass: &pass{id: 1<<63 + 5, began: at, newUsersOnly: true, intervals: []interval{
			{kind: kindUnknownUsers, from: at.Add(-time.Hour), to: at, reasons: reasonCounts{UsersUnknown: 1}},
		}},
		polled: at, itemsRead: at.Add(-time.Minute),
	}
}

func TestGapStore_RoundTrips(t *testing.T) {
	t.Parallel()
	value, err := fullGapStore().encode()
	require.NoError(t, err)
	read := &gapStore{maxGap: time.Hour}
	require.NoError(t, read.decode(value))
	assert.Equal(t, fullGapStore(), read)
}

func TestGapStore_RejectsInvalidValue(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(gs *gapStore){
		"an inverted interval":         func(gs *gapStore) { gs.intervals[0].to = gs.intervals[0].from.Add(-1) },
		"an invalid time":              func(gs *gapStore) { gs.intervals[0].from = time.Unix(1, 0).UTC() },
		"an unknown kind":              func(gs *gapStore) { gs.intervals[0].kind = 9 },
		"no reason":                    func(gs *gapStore) { gs.intervals[0].reasons = nil },
		"an empty reason":              func(gs *gapStore) { gs.intervals[0].reasons = reasonCounts{"": 1} },
		"a negative count":             func(gs *gapStore) { gs.intervals[0].reasons = reasonCounts{Startup: -1} },
		"negative attempts":            func(gs *gapStore) { gs.intervals[3].attempts = -1 },
		"a second pass without a time": func(gs *gapStore) { gs.intervals[1].due = time.Time{} },
		"no users where there must be": func(gs *gapStore) { gs.intervals[3].users = nil },
		"users where there are none":   func(gs *gapStore) { gs.intervals[0].users = gs.intervals[3].users },
		"an inverted user":             func(gs *gapStore) { gs.intervals[3].users[0].to = noon().Add(-30 * time.Hour) },
		"a pass of nothing":            func(gs *gapStore) { gs.pass.intervals = nil },
		"a pass without a start":       func(gs *gapStore) { gs.pass.began = time.Time{} },
		"a pass with an unknown kind":  func(gs *gapStore) { gs.pass.intervals[0].kind = 77 },
		"polls in another century":     func(gs *gapStore) { gs.polled = time.Unix(1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := fullGapStore()
			spoil(bad)
			value, err := bad.encode()
			require.NoError(t, err)
			read := gapStore{}
			require.ErrorIs(t, read.decode(value), errShape)
			assert.Equal(t, gapStore{}, read, "and nothing of it is")
		})
	}
}

func FuzzGapStore(f *testing.F) {
	value, err := fullGapStore().encode()
	require.NoError(f, err)
	f.Add(value)
	f.Add([]byte{formatVersion, '{', '}'})
	f.Fuzz(func(t *testing.T, value []byte) {
		gs := &gapStore{maxGap: 168 * time.Hour}
		if gs.decode(value) != nil {
			return
		}
		written, err := gs.encode()
		require.NoError(t, err)
		same := &gapStore{maxGap: gs.maxGap}
		require.NoError(t, same.decode(written))
		require.Len(t, same.intervals, len(gs.intervals))
		var c change
		now := noon()
		gs.pass = nil
		for range 20 {
			gs.expire(now, &c)
			_ = gs.missing(now)
			if gs.begin(now, now, false, &c) {
				from, to := gs.pass.bounds()
				require.True(t, from.Before(to))
				gs.finish(passResult{}, now, &c)
			}
			now = now.Add(time.Hour)
		}
	})
}

func FuzzChunkAndShard(f *testing.F) {
	f.Add(encodeChunk(7, []user{{1}, {2}}), 0)
	f.Add([]byte{formatVersion, 1}, 63)
	f.Fuzz(func(t *testing.T, value []byte, b int) {
		if id, users, err := decodeChunk(value); err == nil {
			require.Equal(t, value, encodeChunk(id, users))
			require.LessOrEqual(t, len(users), chunkUsers)
		}
		if times, err := decodeShard(value, b); err == nil {
			for u := range times {
				require.Equal(t, b, shardOf(u))
			}
		}
	})
}

func TestParseGUID_RoundTrips(t *testing.T) {
	t.Parallel()
	u, ok := parseGUID("B2A7C9E4-5d31-4f0c-8e62-7a1b3c5d9f00")
	require.True(t, ok)
	assert.Equal(t, "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", u.String())
	for _, bad := range []string{"", "b2a7c9e4", "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f0", "b2a7c9e4-5d31-4f0c-8e62+7a1b3c5d9f00", "g2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"} {
		_, ok := parseGUID(bad)
		assert.False(t, ok, bad)
	}
}

// memoryStore is a store whose calls can be observed and made to fail.
type memoryStore struct {
	values map[string][]byte
	before func(op, key string) error
}

func (m *memoryStore) call(op, key string) error {
	if m.before == nil {
		return nil
	}
	return m.before(op, key)
}

func (m *memoryStore) Get(_ context.Context, key string) ([]byte, error) {
	return m.values[key], m.call("get", key)
}

func (m *memoryStore) Set(_ context.Context, key string, value []byte) error {
	if err := m.call("set", key); err != nil {
		return err
	}
	m.values[key] = value
	return nil
}

func (m *memoryStore) Delete(_ context.Context, key string) error {
	if err := m.call("delete", key); err != nil {
		return err
	}
	delete(m.values, key)
	return nil
}

func userNumber(n int) user { return user{byte(n >> 16), byte(n >> 8), byte(n)} }

func TestProgress_RoundTrips(t *testing.T) {
	t.Parallel()
	store := &memoryStore{values: map[string][]byte{}}
	p := &progress{}
	p.start(5)
	for i := range 3000 {
		p.add(userNumber(i))
		if i%100 == 0 {
			require.NoError(t, p.flush(t.Context(), store))
		}
	}
	require.NoError(t, p.flush(t.Context(), store))
	assert.Len(t, store.values, 3)

	read, damage, err := loadProgress(t.Context(), store, &pass{id: 5})
	require.NoError(t, err)
	require.NoError(t, damage)
	assert.Equal(t, p.sorted(), read.sorted())

	other, _, err := loadProgress(t.Context(), store, &pass{id: 6})
	require.NoError(t, err)
	assert.Empty(t, other.sorted(), "users of another pass count as not done")
	require.NoError(t, other.flush(t.Context(), store))
	assert.Empty(t, store.values, "and is deleted")
}

func TestProgress_StoresPassThatStartsDuringFlush(t *testing.T) {
	t.Parallel()
	store := &memoryStore{values: map[string][]byte{}}
	p := &progress{}
	p.start(1)
	for i := range 1500 {
		p.add(userNumber(i))
	}
	begun := false
	store.before = func(string, string) error {
		if !begun {
			begun = true
			p.start(2)
			p.add(userNumber(9))
		}
		return nil
	}
	require.NoError(t, p.flush(t.Context(), store))
	require.NoError(t, p.flush(t.Context(), store))
	read, _, err := loadProgress(t.Context(), store, &pass{id: 2})
	require.NoError(t, err)
	assert.Equal(t, []user{userNumber(9)}, read.sorted())
	assert.Len(t, store.values, 1)
}

func TestProgress_StoresAfterFailure(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk full")
	for _, failing := range []string{"set", "delete"} {
		store := &memoryStore{values: map[string][]byte{}}
		p := &progress{}
		p.start(1)
		p.add(userNumber(1))
		if failing == "delete" {
			require.NoError(t, p.flush(t.Context(), store))
			p.start(0)
		}
		store.before = func(op, _ string) error {
			if op == failing {
				return broken
			}
			return nil
		}
		require.ErrorIs(t, p.flush(t.Context(), store), broken)
		store.before = nil
		require.NoError(t, p.flush(t.Context(), store))
		assert.Equal(t, failing == "set", len(store.values) == 1)
	}
}

func TestUserTimes_RoundTrips(t *testing.T) {
	t.Parallel()
	store := &memoryStore{values: map[string][]byte{}}
	s := newUserTimes(seenKey)
	for i := range 1000 {
		require.True(t, s.put(userNumber(i*16000), noon().Add(time.Duration(i)*time.Second), time.Time{}))
	}
	require.NoError(t, s.flush(t.Context(), store))
	assert.False(t, s.changed())
	read := newUserTimes(seenKey)
	damage, err := read.load(t.Context(), store)
	require.NoError(t, err)
	require.NoError(t, damage)
	assert.ElementsMatch(t, s.users(), read.users())
	at, found := read.at(userNumber(16000))
	require.True(t, found)
	assert.Equal(t, noon().Add(time.Second), at)

	writes := 0
	store.before = func(string, string) error { writes++; return nil }
	read.put(userNumber(7), noon(), time.Time{})
	require.NoError(t, read.flush(t.Context(), store))
	assert.Equal(t, 1, writes, "one more user rewrites a small part")
	store.before = func(string, string) error { return errors.New("disk full") }
	read.put(userNumber(8), noon(), time.Time{})
	require.Error(t, read.flush(t.Context(), store))
	assert.True(t, read.changed())
	_, err = newUserTimes(seenKey).load(t.Context(), store)
	assert.Error(t, err)
}

func TestUserTimes_IsBounded(t *testing.T) {
	t.Parallel()
	s := newUserTimes(unlicensedKey)
	for i := range maxUsers {
		require.True(t, s.put(userNumber(i), noon().Add(time.Duration(i%2)*time.Hour), time.Time{}))
	}
	assert.False(t, s.put(user{255}, noon(), noon()), "nothing is older")
	assert.True(t, s.put(userNumber(3), noon(), noon()), "a user who is present stays")
	assert.True(t, s.put(user{255}, noon(), noon().Add(time.Minute)))
	assert.Len(t, s.users(), maxUsers/2, "stale times were removed")
}

func TestLoad_FailsWhenStoreFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("closed")
	for _, key := range []string{gapsKey, doneKey + "0", seenKey + strconv.Itoa(63), unlicensedKey + "0"} {
		b := New(Settings{Store: &memoryStore{before: func(_, k string) error {
			if k == key {
				return broken
			}
			return nil
		}}})
		require.ErrorIs(t, b.Load(t.Context()), broken, key)
	}
}
