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

// memoryStore is a store whose calls can be watched and fail.
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
	assert.Empty(t, other.sorted(), "what is of another reading counts as not done")
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
	assert.True(t, s.put(userNumber(3), noon(), noon()), "who is there already stays")
	assert.True(t, s.put(user{255}, noon(), noon().Add(time.Minute)))
	assert.Len(t, s.users(), maxUsers/2, "what is stale made room")
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
