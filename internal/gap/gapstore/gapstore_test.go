// SPDX-License-Identifier: Apache-2.0

package gapstore_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

var errBroken = errors.New("disk is broken")

// client is a storage client in memory that can fail, wait, and end as a crash does.
type client struct {
	mu     sync.Mutex
	values map[string][]byte
	err    error
	// writes counts calls that changed something; those after the first lives ones change nothing, if lives is set.
	writes, lives int
	wait          chan struct{} // a write waits for it, unless it is nil
}

func (c *client) Get(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values[key], c.err
}

func (c *client) Batch(_ context.Context, operations ...*storage.Operation) error {
	if c.wait != nil {
		<-c.wait
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.writes++; c.lives > 0 && c.writes > c.lives {
		return nil
	}
	for _, o := range operations {
		c.values[o.Key] = o.Value
	}
	return nil
}

func (c *client) Set(context.Context, string, []byte) error { return errBroken }
func (c *client) Delete(context.Context, string) error      { return errBroken }
func (c *client) Close(context.Context) error               { return nil }

func (c *client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *client) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

type telemetry struct {
	opened, closed []gap.Reason
	lost           time.Duration
}

func (t *telemetry) GapOpened(_ context.Context, reason gap.Reason) {
	t.opened = append(t.opened, reason)
}

func (t *telemetry) GapClosed(_ context.Context, reason gap.Reason) {
	t.closed = append(t.closed, reason)
}

func (t *telemetry) GapLost(_ context.Context, _ gap.Reason, lost time.Duration) { t.lost += lost }

// harness is a store on a client, as one run has it.
type harness struct {
	*gapstore.Store
	client    *client
	logs      *observer.ObservedLogs
	telemetry *telemetry
}

var rules = gap.Rules{Subscribed: true, CheckInterval: 5 * time.Minute, MaxGap: 7 * 24 * time.Hour}

func newClient() *client { return &client{values: map[string][]byte{}} }

// newRun returns a store that has not loaded yet.
func newRun(c *client) *harness {
	core, logs := observer.New(zap.DebugLevel)
	h := &harness{client: c, logs: logs, telemetry: &telemetry{}}
	h.Store = gapstore.New(gapstore.Settings{
		Rules: rules, Store: statestore.New(c), Now: time.Now, Logger: zap.New(core), Telemetry: h.telemetry,
	})
	return h
}

// nextRun returns a store that has loaded.
func nextRun(t *testing.T, c *client) *harness {
	t.Helper()
	h := newRun(c)
	require.NoError(t, h.Load(t.Context(), time.Time{}))
	return h
}

func (h *harness) undelivered(minutes ...time.Time) {
	h.Update(context.Background(), func(s *gap.State, _ time.Time) { s.Undelivered(minutes) })
}

func (h *harness) confirmed() {
	h.Update(context.Background(), func(s *gap.State, now time.Time) { s.Confirmed(rules, now) })
}

// gaps returns a copy of the known gaps.
func (h *harness) gaps() (gaps []gap.Gap) {
	h.View(func(s *gap.State, _ time.Time) { gaps = append(gaps, s.Gaps...) })
	return gaps
}

func (h *harness) checkpoint() (at time.Time) {
	h.View(func(s *gap.State, _ time.Time) { at = s.Checkpoint })
	return at
}

func TestStore_LoadsWhatWasFlushed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		h := nextRun(t, c)
		h.confirmed()
		h.undelivered(time.Now())
		require.NoError(t, h.Flush(t.Context()))
		want := h.gaps()
		require.Len(t, want, 1)
		time.Sleep(time.Minute)
		next := nextRun(t, c)
		assert.Equal(t, want, next.gaps())
		assert.Equal(t, h.checkpoint().UTC(), next.checkpoint())
	})
}

func TestStore_LoadFailsWhereStorageCannotBeRead(t *testing.T) {
	t.Parallel()
	c := newClient()
	h := newRun(c)
	c.fail(errBroken)
	require.ErrorIs(t, h.Load(t.Context(), time.Time{}), errBroken)
	assert.Zero(t, c.written())
}

func TestStore_LoadReplacesDamagedValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		h := nextRun(t, c)
		require.NoError(t, h.Flush(t.Context()))
		for key := range c.values {
			c.values[key] = []byte{1, 2, 3}
		}
		h = nextRun(t, c)
		require.Len(t, h.gaps(), 1)
		assert.Equal(t, time.Now().Add(-rules.MaxGap).UTC(), h.gaps()[0].From)
		assert.Equal(t, 1, h.logs.FilterMessageSnippet("are damaged").Len())
		require.NoError(t, h.Flush(t.Context()))
		assert.Empty(t, nextRun(t, c).logs.All())
	})
}

func TestStore_FlushWritesWhatChanged(t *testing.T) {
	t.Parallel()
	c := newClient()
	h := nextRun(t, c)
	h.undelivered(time.Now())
	require.NoError(t, h.Flush(t.Context()))
	require.NoError(t, h.Flush(t.Context()))
	assert.Equal(t, 1, c.written())
	h.confirmed()
	require.NoError(t, h.Flush(t.Context()))
	assert.Equal(t, 2, c.written())
}

func TestStore_RunWritesWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := nextRun(t, newClient())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		time.Sleep(1100 * time.Millisecond)
		assert.Equal(t, 1, h.client.written())
		time.Sleep(time.Minute)
		assert.Equal(t, 1, h.client.written(), "nothing has changed")
		h.undelivered(time.Now())
		time.Sleep(1100 * time.Millisecond)
		assert.Equal(t, 2, h.client.written())
		cancel()
		<-done
	})
}

func TestStore_FailureIsReportedAndWrittenLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		h := nextRun(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		c.fail(errBroken)
		h.undelivered(time.Now())
		require.ErrorIs(t, h.Flush(t.Context()), errBroken)
		time.Sleep(90 * time.Minute)
		assert.Equal(t, 2, h.logs.FilterMessageSnippet("can't be stored").Len(), "at once and after an hour")
		c.fail(nil)
		time.Sleep(2 * time.Second)
		assert.Equal(t, 1, h.logs.FilterMessageSnippet("are stored again").Len())
		cancel()
		<-done
		assert.Len(t, nextRun(t, c).gaps(), 1)
	})
}

func TestStore_FlushWaitsForTheWriteUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		h := nextRun(t, c)
		c.wait = make(chan struct{})
		first := make(chan error, 1)
		go func() { first <- h.Flush(context.Background()) }()
		synctest.Wait()
		h.undelivered(time.Now())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, h.Flush(ctx), context.DeadlineExceeded)
		second := make(chan error, 1)
		go func() { second <- h.Flush(context.Background()) }()
		close(c.wait)
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		assert.Equal(t, 2, c.written())
		assert.Len(t, nextRun(t, c).gaps(), 1)
	})
}

func TestStore_RecordWaitsForTheStorageAtMostASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		h := nextRun(t, c)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		h.Record(ended, (*gap.State).KeyRemoved)
		assert.Len(t, nextRun(t, c).gaps(), 1, "it is stored, although the context has ended")

		c.wait = make(chan struct{})
		begun := time.Now()
		h.Record(t.Context(), (*gap.State).Adopted)
		assert.Equal(t, time.Second, time.Since(begun))
		close(c.wait)
	})
}

// A crash finds all of a change or nothing: the checkpoint never moves past a gap that is not stored.
func TestStore_CrashBetweenTwoWrites(t *testing.T) {
	t.Parallel()
	for lives := 1; lives <= 6; lives++ {
		synctest.Test(t, func(t *testing.T) {
			c := newClient()
			c.lives = lives
			h := nextRun(t, c)
			var flushed []gap.State
			flush := func() {
				require.NoError(t, h.Flush(t.Context()))
				h.View(func(s *gap.State, _ time.Time) { flushed = append(flushed, s.Clone()) })
			}
			flush()
			for range 5 {
				time.Sleep(time.Hour)
				h.confirmed() // it opens a gap and moves the checkpoint
				flush()
			}
			crashed := &client{values: maps.Clone(c.values)}
			next := nextRun(t, crashed)
			want := flushed[lives-1]
			assert.Equal(t, want.Checkpoint.UTC(), next.checkpoint().UTC())
			assert.Subset(t, next.gaps(), want.Gaps)
		})
	}
}

func TestStore_UpdateWakesTheReader(t *testing.T) {
	t.Parallel()
	h := nextRun(t, newClient())
	<-h.Changed()
	h.confirmed()
	h.confirmed()
	<-h.Changed()
	select {
	case <-h.Changed():
		t.Fatal("several updates are one signal")
	default:
	}
}

func TestStore_ReportsChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := nextRun(t, newClient())
		h.undelivered(time.Now(), time.Now().Add(time.Minute))
		h.undelivered(time.Now())
		assert.Equal(t, []gap.Reason{gap.Undelivered}, h.telemetry.opened, "it is one gap, and known already")
		assert.Empty(t, h.telemetry.closed)
		time.Sleep(rules.MaxGap + time.Hour)
		h.Expire(t.Context())
		assert.Equal(t, []gap.Reason{gap.Undelivered}, h.telemetry.closed)
		assert.Equal(t, 2*time.Minute, h.telemetry.lost)
		assert.Equal(t, 1, h.logs.FilterMessageSnippet("are lost").Len())
		assert.Empty(t, h.gaps())
	})
}
