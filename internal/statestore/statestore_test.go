// SPDX-License-Identifier: Apache-2.0

package statestore_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	key     = "checkpoint"
	version = 3
)

func set(payload string) statestore.Set {
	return statestore.Set{Key: key, Version: version, Payload: []byte(payload)}
}

func read(t *testing.T, store *statestore.Store) string {
	t.Helper()
	payload, err := store.Read(t.Context(), key, version)
	require.NoError(t, err)
	return string(payload)
}

func TestStore_ReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string][]byte{
		"text":        []byte("twelve"),
		"every byte":  bytes.Repeat([]byte{0, 255, 10, 128}, 1000),
		"empty value": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := statestore.New(newMemory())
			require.NoError(t, store.Write(t.Context(), statestore.Set{Key: key, Version: version, Payload: payload}))
			got, err := store.Read(t.Context(), key, version)
			require.NoError(t, err)
			assert.Equal(t, payload, got, "an empty value is not an absent one")
		})
	}
}

func TestStore_AbsentValueIsNil(t *testing.T) {
	t.Parallel()
	payload, err := statestore.New(newMemory()).Read(t.Context(), key, version)
	require.NoError(t, err)
	assert.Nil(t, payload)
}

func TestStore_NilPayloadDeletes(t *testing.T) {
	t.Parallel()
	client := newMemory()
	store := statestore.New(client)
	require.NoError(t, store.Write(t.Context(), set("one")))
	require.NoError(t, store.Write(t.Context(), statestore.Set{Key: key, Version: version}))
	assert.Empty(t, client.values)
}

func TestStore_WritesTogetherAndInOrder(t *testing.T) {
	t.Parallel()
	client := newMemory()
	store := statestore.New(client)
	require.NoError(t, store.Write(t.Context(),
		statestore.Set{Key: "segment", Payload: []byte("b")},
		statestore.Set{Key: "index", Payload: []byte("a")},
		statestore.Set{Key: "old segment"}))
	assert.Equal(t, []string{"set segment", "set index", "delete old segment"}, client.order)
	assert.Equal(t, 1, client.countCalls(), "one transaction, where the storage has transactions")
}

func TestStore_OwnerMayReuseThePayload(t *testing.T) {
	t.Parallel()
	store := statestore.New(newMemory())
	payload := []byte("one")
	require.NoError(t, store.Write(t.Context(), statestore.Set{Key: key, Version: version, Payload: payload}))
	copy(payload, "two")
	assert.Equal(t, "one", read(t, store))
}

func TestStore_DamagedValueIsToldFromFailure(t *testing.T) {
	t.Parallel()
	written := func(t *testing.T) []byte {
		t.Helper()
		client := newMemory()
		require.NoError(t, statestore.New(client).Write(t.Context(), set("twelve bytes")))
		return client.values[key]
	}
	for name, test := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"a bit of the payload flipped":  {func(value []byte) []byte { value[9] ^= 1; return value }, "damaged"},
		"a bit of the checksum flipped": {func(value []byte) []byte { value[2] ^= 1; return value }, "damaged"},
		"the end is missing":            {func(value []byte) []byte { return value[:len(value)-1] }, "damaged"},
		"all but the version is":        {func(value []byte) []byte { return value[:1] }, "damaged"},
		"it is empty":                   {func([]byte) []byte { return []byte{} }, "damaged"},
		"zeros follow":                  {func(value []byte) []byte { return append(value, 0, 0) }, "damaged"},
		"it is all zeros":               {func(value []byte) []byte { return make([]byte, len(value)) }, "another format"},
		"another version wrote it":      {func(value []byte) []byte { value[0]++; return value }, "another format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newMemory()
			client.values[key] = test.change(written(t))
			store := statestore.New(client)
			payload, err := store.Read(t.Context(), key, version)
			assert.Nil(t, payload)
			require.ErrorIs(t, err, statestore.ErrDamaged)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, key, "the line that reports it names the value")

			require.NoError(t, store.Write(t.Context(), set("replaced")))
			assert.Equal(t, "replaced", read(t, store))
		})
	}
}

func TestStore_FailureIsNotDamage(t *testing.T) {
	t.Parallel()
	client := newMemory()
	broken := errors.New("disk is broken")
	client.before = func(context.Context) error { return broken }
	store := statestore.New(client)
	_, err := store.Read(t.Context(), key, version)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "read checkpoint: ")
	require.NotErrorIs(t, err, statestore.ErrDamaged)
	err = store.Write(t.Context(), set("one"))
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "write checkpoint: ")
	err = store.Close(t.Context())
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "close storage: ")
}

// TestStore_FastResultIsNeverLost has calls that end before their caller waits for them.
func TestStore_FastResultIsNeverLost(t *testing.T) {
	t.Parallel()
	store := statestore.New(newMemory())
	for n := range 5000 {
		require.NoError(t, store.Write(t.Context(), set(strconv.Itoa(n))))
		require.Equal(t, strconv.Itoa(n), read(t, store))
	}
}

func TestStore_HangingCallFailsAfterTimeout(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*statestore.Store, context.Context) error{
		"read":  func(s *statestore.Store, ctx context.Context) error { _, err := s.Read(ctx, key, version); return err },
		"write": func(s *statestore.Store, ctx context.Context) error { return s.Write(ctx, set("one")) },
		"close": func(s *statestore.Store, ctx context.Context) error { return s.Close(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := newMemory()
				release := client.hang()
				defer release()
				began := time.Now()
				err := call(statestore.New(client), t.Context())
				require.ErrorContains(t, err, "did not answer within 5s")
				require.NotErrorIs(t, err, statestore.ErrDamaged)
				assert.Equal(t, statestore.Timeout, time.Since(began))
			})
		})
	}
}

// TestStore_ClientThatObeysItsContextFailsAlike has the same message, whoever notices first that the time is over.
func TestStore_ClientThatObeysItsContextFailsAlike(t *testing.T) {
	t.Parallel()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			client := newMemory()
			client.before = func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}
			_, err := statestore.New(client).Read(t.Context(), key, version)
			require.ErrorContains(t, err, "did not answer within 5s")
		})
	}
}

func TestStore_EndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		release := client.hang()
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := statestore.New(client).Read(ctx, key, version)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotContains(t, err.Error(), "did not answer", "the caller was in a hurry")
		assert.Equal(t, time.Second, time.Since(began))
	})
}

// TestStore_LateWriteCannotOverwriteNewer gives up a write that takes effect much later.
func TestStore_LateWriteCannotOverwriteNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		release := client.hang()
		defer release()
		store := statestore.New(client)
		require.Error(t, store.Write(t.Context(), set("old")))
		require.ErrorContains(t, store.Write(t.Context(), set("newer")), "did not answer", "the first write still excludes others")
		assert.Equal(t, 1, client.countCalls())

		written := make(chan error)
		go func() { written <- store.Write(t.Context(), set("newest")) }()
		time.Sleep(time.Second)
		release()
		require.NoError(t, <-written)
		assert.Equal(t, "newest", read(t, store))
		assert.Equal(t, 3, client.countCalls(), "the second write was never begun")
	})
}

func TestStore_CallsAreMadeOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		var mu sync.Mutex
		running, most := 0, 0
		client.before = func(context.Context) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}
		store := statestore.New(client)
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() { assert.NoError(t, store.Write(t.Context(), set("one"))) })
			callers.Go(func() {
				_, err := store.Read(t.Context(), key, version)
				assert.NoError(t, err)
			})
		}
		callers.Wait()
		assert.Equal(t, 1, most)
		assert.Equal(t, 10, client.countCalls())
	})
}

func TestStore_CloseWaitsForCallInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		store := statestore.New(client)
		client.before = func(context.Context) error { time.Sleep(2 * time.Second); return nil }
		var writing sync.WaitGroup
		writing.Go(func() { assert.NoError(t, store.Write(t.Context(), set("last"))) })
		synctest.Wait()
		require.NoError(t, store.Close(t.Context()))
		assert.True(t, client.closed)
		assert.NotEmpty(t, client.values, "closed after the write")
		writing.Wait()
	})
}

func TestStore_CloseGivesUpOnHangingCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		release := client.hang()
		defer release()
		store := statestore.New(client)
		require.Error(t, store.Write(t.Context(), set("one")))
		began := time.Now()
		require.ErrorContains(t, store.Close(t.Context()), "close storage: storage did not answer within 5s")
		assert.Equal(t, statestore.Timeout, time.Since(began))
		assert.False(t, client.closed, "a client is not closed under a call")
	})
}
