// SPDX-License-Identifier: Apache-2.0

package statestore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

type document struct {
	At    time.Time      `json:"at"`
	Users map[string]int `json:"users,omitempty"`
}

// value is a Value with what it logs.
type value[T any] struct {
	*statestore.Value[T]
	logs     *observer.ObservedLogs
	statuses []error
}

func newValue[T any](client *memory, version byte) *value[T] {
	core, logs := observer.New(zap.DebugLevel)
	v := &value[T]{logs: logs}
	v.Value = statestore.NewValue[T](statestore.ValueSettings{
		Store: statestore.New(client), Key: key, Version: version, Name: "checkpoints", Logger: zap.New(core),
		Status: func(err error) { v.statuses = append(v.statuses, err) },
	})
	return v
}

// save changes the value, and saves it.
func (v *value[T]) save(ctx context.Context, changed T) error {
	v.Changed()
	return v.Save(ctx, func() T { return changed })
}

func TestValue_LoadsWhatWasSaved(t *testing.T) {
	t.Parallel()
	v := newValue[document](newMemory(), version)
	got, damaged, err := v.Load(t.Context())
	require.NoError(t, err)
	assert.False(t, damaged)
	assert.Zero(t, got, "there is none")

	want := document{At: time.Date(2026, 11, 1, 12, 0, 0, 5, time.UTC), Users: map[string]int{"a": 1}}
	require.NoError(t, v.save(t.Context(), want))
	got, damaged, err = v.Load(t.Context())
	require.NoError(t, err)
	assert.False(t, damaged)
	assert.Equal(t, want, got)
	assert.Zero(t, v.logs.Len())
}

func TestValue_UsesBinaryFormOfType(t *testing.T) {
	t.Parallel()
	client := newMemory()
	v := newValue[time.Time](client, version)
	want := time.Date(2026, 11, 1, 12, 0, 0, 5, time.UTC)
	require.NoError(t, v.save(t.Context(), want))
	binary, err := want.MarshalBinary()
	require.NoError(t, err)
	assert.Equal(t, string(binary), read(t, statestore.New(client)))
	got, _, err := v.Load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func TestValue_IsSavedOnlyIfChanged(t *testing.T) {
	t.Parallel()
	client := newMemory()
	v := newValue[int](client, version)
	snapshot := func() int { return 1 }
	require.NoError(t, v.Save(t.Context(), snapshot))
	assert.Zero(t, client.countCalls())
	require.NoError(t, v.save(t.Context(), 1))
	require.NoError(t, v.Save(t.Context(), snapshot))
	assert.Equal(t, 1, client.countCalls())
	require.NoError(t, v.save(t.Context(), 1))
	assert.Equal(t, 2, client.countCalls())
}

// What was changed before a write began is part of it, and is not written again.
func TestValue_SnapshotIsTakenWhenStorageIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		release := client.hang()
		defer release()
		v := newValue[int](client, version)
		var saved []error
		done := make(chan error)
		for n := range 3 {
			go func() { done <- v.save(context.Background(), n) }()
			synctest.Wait()
		}
		release()
		for range 3 {
			saved = append(saved, <-done)
		}
		assert.Equal(t, []error{nil, nil, nil}, saved)
		assert.Equal(t, 2, client.countCalls(), "the first, and one for the others")
	})
}

func TestValue_DamagedIsLoggedAndReplaced(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"nothing": "", "cut off": "{", "another type": `{"users":[]}`, "another type within": `{"users":{"a":1,"b":"x"}}`, "two values": `{} {}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newMemory()
			require.NoError(t, statestore.New(client).Write(t.Context(), set(payload)))
			v := newValue[document](client, version)
			got, damaged, err := v.Load(t.Context())
			require.NoError(t, err)
			assert.True(t, damaged)
			assert.Zero(t, got, "no part of a value that is damaged is used")
			lines := v.logs.FilterMessage("checkpoints in storage are damaged and are replaced").All()
			require.Len(t, lines, 1)
			assert.Equal(t, string(failure.StorageDamaged), lines[0].ContextMap()["code"])

			require.NoError(t, v.Save(t.Context(), func() document { return document{} }))
			_, damaged, err = v.Load(t.Context())
			require.NoError(t, err)
			assert.False(t, damaged)
		})
	}
}

func TestValue_OtherVersionIsDamage(t *testing.T) {
	t.Parallel()
	client := newMemory()
	require.NoError(t, newValue[document](client, version).save(t.Context(), document{}))
	_, damaged, err := newValue[document](client, version+1).Load(t.Context())
	require.NoError(t, err)
	assert.True(t, damaged)
}

func TestValue_UnencodableIsNotWritten(t *testing.T) {
	t.Parallel()
	client := newMemory()
	require.ErrorContains(t, newValue[chan int](client, version).save(t.Context(), nil), "store checkpoints: ")
	assert.Zero(t, client.countCalls())
}

func TestValue_FailureIsReportedAndSavedLater(t *testing.T) {
	t.Parallel()
	client := newMemory()
	broken := errors.New("disk is broken")
	client.before = func(context.Context) error { return broken }
	v := newValue[int](client, version)
	_, damaged, err := v.Load(t.Context())
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "load checkpoints: ")
	assert.False(t, damaged)
	assert.Zero(t, v.logs.Len(), "it is returned")

	for range 2 {
		err = v.save(t.Context(), 2)
		require.ErrorIs(t, err, broken)
		assert.Equal(t, failure.StorageFailing, failure.Of(err).Code)
	}
	client.before = nil
	require.NoError(t, v.Save(t.Context(), func() int { return 2 }))
	var lines []string
	for _, entry := range v.logs.All() {
		lines = append(lines, entry.Message)
	}
	assert.Equal(t, []string{"checkpoints can't be stored", "checkpoints are stored again"}, lines)
	assert.Len(t, v.statuses, 2)
	got, _, err := v.Load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, got)
}

func TestValue_EndOfContextIsNoFailure(t *testing.T) {
	t.Parallel()
	v := newValue[int](newMemory(), version)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The call may win.
	if err := v.save(ctx, 1); err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.Zero(t, v.logs.Len())
}

func TestValue_RunSavesAfterChangesAndUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newMemory()
		var broken atomic.Bool
		client.before = func(context.Context) error {
			if broken.Load() {
				return errors.New("disk is broken")
			}
			return nil
		}
		v := newValue[int](client, version)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			v.Run(ctx, time.Second, func() int { return 1 })
		}()
		time.Sleep(time.Minute)
		assert.Zero(t, client.countCalls(), "nothing has changed")
		v.Changed()
		v.Changed()
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, 1, client.countCalls())

		broken.Store(true)
		v.Changed()
		time.Sleep(3500 * time.Millisecond)
		assert.Equal(t, 1+3, client.countCalls())
		broken.Store(false)
		time.Sleep(time.Minute)
		assert.Equal(t, 1+3+1, client.countCalls())
		cancel()
		<-done
	})
}
