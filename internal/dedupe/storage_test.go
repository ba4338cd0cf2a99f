package dedupe_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// start makes an intake with a store and loads it.
func start(tb testing.TB, out dedupe.Pipeline, stored *fakeStore, change func(*dedupe.Settings)) (*dedupe.Deduplicator, *observer.ObservedLogs) {
	tb.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	d := newDeduplicator(tb, out, func(set *dedupe.Settings) {
		set.Store, set.Logger = stored, zap.New(core)
		if change != nil {
			change(set)
		}
	})
	require.NoError(tb, d.Load(tb.Context()))
	return d, logs
}

func with100000Entries(set *dedupe.Settings) { set.MaxEntries = 100_000 }

// deliver takes items in, in batches of the given size.
func deliver(tb testing.TB, d *dedupe.Deduplicator, from, to, size int) {
	tb.Helper()
	for ; from < to; from += size {
		require.NoError(tb, d.Take(tb.Context(), items(from, min(from+size, to))))
	}
}

// unknown counts the items that the intake does not know.
func countUnknown(d *dedupe.Deduplicator, from, to int) int {
	count := 0
	for _, one := range items(from, to) {
		if !d.Known(one.ContentDigest) {
			count++
		}
	}
	return count
}

func TestJournal_RestoresEntriesAfterRestart(t *testing.T) {
	t.Parallel()
	for name, saved := range map[string]bool{"after a shutdown": true, "after a kill -9": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored, out, dropped := newFakeStore(), &fakePipeline{}, &duplicateCounter{}
			d, _ := start(t, out, stored, with100000Entries)
			deliver(t, d, 0, 10_000, 70)
			require.NoError(t, d.Take(t.Context(), []interaction.Received{deleted(item("gone")), tombstone("a", "2"), fromHistory(item("read"))}))
			if saved {
				require.NoError(t, d.Save(t.Context()))
			}

			out = &fakePipeline{}
			d, logs := start(t, out, stored, func(set *dedupe.Settings) { with100000Entries(set); set.Telemetry = dropped })
			assert.Zero(t, countUnknown(d, 0, 10_000))
			assert.Zero(t, logs.Len())
			require.NoError(t, d.Take(t.Context(), append(items(0, 10_000),
				deleted(item("gone")), fromHistory(item("gone")), tombstone("a", "2"), item("read"), item("new"))))
			assert.Equal(t, []string{"new"}, out.ids())
			assert.Equal(t, 2*10_000+4, dropped.count())
		})
	}
}

func TestJournal_DropsExpiredEntriesAtLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored := newFakeStore()
		d, _ := start(t, &fakePipeline{}, stored, with100000Entries)
		deliver(t, d, 0, 5000, 100)
		time.Sleep(20 * time.Hour)
		deliver(t, d, 5000, 6000, 100)
		time.Sleep(7 * time.Hour)

		d, _ = start(t, &fakePipeline{}, stored, with100000Entries)
		assert.Equal(t, 5000, countUnknown(d, 0, 5000), "too old")
		assert.Zero(t, countUnknown(d, 5000, 6000))

		d, _ = start(t, &fakePipeline{}, stored, func(set *dedupe.Settings) { set.MaxEntries = 400 })
		assert.Equal(t, 600, countUnknown(d, 5000, 5600), "the bound was made smaller")
		assert.Zero(t, countUnknown(d, 5600, 6000))

		time.Sleep(20 * time.Hour)
		require.NoError(t, d.Save(t.Context()))
		d, _ = start(t, &fakePipeline{}, stored, nil)
		assert.Equal(t, 1000, countUnknown(d, 5000, 6000))
	})
}

func TestJournal_RetainsNeededEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored, since := newFakeStore(), time.Now().Add(time.Hour)
		var needed atomic.Pointer[time.Time]
		needed.Store(&since)
		holding := func(set *dedupe.Settings) {
			with100000Entries(set)
			set.Needed = func() time.Time { return *needed.Load() }
		}
		d, _ := start(t, &fakePipeline{}, stored, holding)
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		deliver(t, d, 0, 4000, 100)
		time.Sleep(2 * time.Hour)
		deliver(t, d, 4000, 5000, 100)
		time.Sleep(72 * time.Hour)
		assert.Equal(t, 4000, countUnknown(d, 0, 4000), "before what is needed")
		assert.Zero(t, countUnknown(d, 4000, 5000), "in a process that lives")
		cancel()

		out := &fakePipeline{}
		d, logs := start(t, out, stored, holding)
		assert.Zero(t, countUnknown(d, 4000, 5000), "after a restart")
		assert.Zero(t, logs.Len())

		needed.Store(&time.Time{}) // and then a gap is opened before the housekeeping comes round
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go d.Run(ctx)
		needed.Store(&since)
		again := items(4000, 5000)
		for i := range again {
			again[i] = fromHistory(again[i])
		}
		require.NoError(t, d.Take(t.Context(), again))
		assert.Empty(t, out.ids())

		needed.Store(&time.Time{})
		time.Sleep(2 * time.Minute)
		assert.Equal(t, 1000, countUnknown(d, 4000, 5000), "it is needed no more")
	})
}

func TestJournal_RestoresNewestEntries(t *testing.T) {
	t.Parallel()
	stored := newFakeStore()
	two := func(set *dedupe.Settings) { set.MaxEntries = 2 }
	d, _ := start(t, &fakePipeline{}, stored, two)
	for range 3 {
		deliver(t, d, 0, 5, 1)
		require.NoError(t, d.Save(t.Context()))
		d, _ = start(t, &fakePipeline{}, stored, two)
		assert.Equal(t, 3, countUnknown(d, 0, 3), "segments that were merged do not bring back what left")
		assert.Zero(t, countUnknown(d, 3, 5))
		deliver(t, d, 5, 10, 1)
	}
}

func TestJournal_LimitsEntriesFromTheFuture(t *testing.T) {
	t.Parallel()
	stored := newFakeStore()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		d, _ := start(t, &fakePipeline{}, stored, nil)
		deliver(t, d, 0, 1, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		d, _ := start(t, &fakePipeline{}, stored, nil)
		assert.Zero(t, countUnknown(d, 0, 1))
		time.Sleep(26*time.Hour + 2*time.Second)
		assert.Equal(t, 1, countUnknown(d, 0, 1))
	})
}

func TestJournal_SharesWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls = 64
		stored, open := newFakeStore(), make(chan struct{})
		d, _ := start(t, &fakePipeline{}, stored, nil)
		stored.before = func(string) error { <-open; return nil }
		var all []takeCall
		for n := range calls {
			all = append(all, take(t.Context(), d, items(n, n+1)...))
		}
		assert.Equal(t, calls, countUnknown(d, 0, calls), "nothing is known before it is written down")
		repeated := take(t.Context(), d, items(0, 1)...)
		assert.False(t, repeated.ended(), "nor is it acknowledged")
		close(open)
		for _, one := range append(all, repeated) {
			require.NoError(t, <-one.end)
		}
		assert.LessOrEqual(t, stored.written(), 2, "the first writes, then one for all the others")
		d, _ = start(t, &fakePipeline{}, stored, nil)
		assert.Zero(t, countUnknown(d, 0, calls))
	})
}

func TestJournal_BoundsNumberOfKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored := newFakeStore()
		d, _ := start(t, &fakePipeline{}, stored, func(set *dedupe.Settings) { set.MaxEntries = 6000 })
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		most, largest := 0, 0
		for n := 0; n < 40_000; n += 40 {
			deliver(t, d, n, n+40, 40)
			synctest.Wait()
			values := stored.keys()
			most = max(most, len(values))
			for key, value := range values {
				assert.True(t, strings.HasPrefix(key, "seen/"), key)
				largest = max(largest, len(value))
			}
		}
		assert.LessOrEqual(t, most, 64+1+5, "the segments, the index, and the chunks of 6000 entries")
		assert.LessOrEqual(t, largest, 64<<10)
		assert.Less(t, stored.written(), 1000+2*1000/32+100, "each delivery is written, and now and then a chunk")

		time.Sleep(27 * time.Hour)
		cancel()
		blocks := 0
		for key := range stored.keys() {
			if strings.HasPrefix(key, "seen/c/") {
				blocks++
			}
		}
		assert.Zero(t, blocks, "what is too old is deleted, without a delivery")
		deliver(t, d, 0, 10, 1)
		d, logs := start(t, &fakePipeline{}, stored, nil)
		assert.Zero(t, countUnknown(d, 0, 10))
		assert.Zero(t, logs.Len())
	})
}

func TestJournal_ToleratesStoreThatKeepsNothing(t *testing.T) {
	t.Parallel()
	out := &fakePipeline{}
	d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Store = discardStore{} })
	require.NoError(t, d.Load(t.Context()))
	deliver(t, d, 0, 100, 1)
	deliver(t, d, 0, 100, 1)
	require.NoError(t, d.Save(t.Context()))
	assert.Len(t, out.got, 100)

	d = newDeduplicator(t, out, nil)
	assert.NoError(t, d.Load(t.Context()))
	assert.NoError(t, d.Save(t.Context()))
}

type discardStore struct{}

func (discardStore) Get(context.Context, string) ([]byte, error) { return nil, nil }
func (discardStore) Set(context.Context, string, []byte) error   { return nil }
func (discardStore) Delete(context.Context, string) error        { return nil }
