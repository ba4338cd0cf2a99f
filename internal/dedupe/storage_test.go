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
func start(tb testing.TB, out dedupe.Outlet, kept *store, change func(*dedupe.Settings)) (*dedupe.Deduplicator, *observer.ObservedLogs) {
	tb.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	in := newIntake(tb, out, func(set *dedupe.Settings) {
		set.Store, set.Logger = kept, zap.New(core)
		if change != nil {
			change(set)
		}
	})
	require.NoError(tb, in.Load(tb.Context()))
	return in, logs
}

func many(set *dedupe.Settings) { set.MaxEntries = 100_000 }

// deliver takes items in, in batches of the given size.
func deliver(tb testing.TB, in *dedupe.Deduplicator, from, to, size int) {
	tb.Helper()
	for ; from < to; from += size {
		require.NoError(tb, in.Take(tb.Context(), items(from, min(from+size, to))))
	}
}

// unknown counts the items that the intake does not know.
func unknown(in *dedupe.Deduplicator, from, to int) int {
	count := 0
	for _, one := range items(from, to) {
		if !in.Known(one.ContentDigest) {
			count++
		}
	}
	return count
}

func TestAfterARestartTheSameIsKnown(t *testing.T) {
	t.Parallel()
	for name, saved := range map[string]bool{"after a shutdown": true, "after a kill -9": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept, out, dropped := newStore(), &outlet{}, &duplicates{}
			in, _ := start(t, out, kept, many)
			deliver(t, in, 0, 10_000, 70)
			require.NoError(t, in.Take(t.Context(), []interaction.Received{deleted(item("gone")), tombstone("a", "2"), fromHistory(item("read"))}))
			if saved {
				require.NoError(t, in.Save(t.Context()))
			}

			out = &outlet{}
			in, logs := start(t, out, kept, func(set *dedupe.Settings) { many(set); set.Telemetry = dropped })
			assert.Zero(t, unknown(in, 0, 10_000))
			assert.Zero(t, logs.Len())
			require.NoError(t, in.Take(t.Context(), append(items(0, 10_000),
				deleted(item("gone")), fromHistory(item("gone")), tombstone("a", "2"), item("read"), item("new"))))
			assert.Equal(t, []string{"new"}, out.ids())
			assert.Equal(t, 2*10_000+4, dropped.count())
		})
	}
}

func TestARestartGivesBackNoMoreThanTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept := newStore()
		in, _ := start(t, &outlet{}, kept, many)
		deliver(t, in, 0, 5000, 100)
		time.Sleep(20 * time.Hour)
		deliver(t, in, 5000, 6000, 100)
		time.Sleep(7 * time.Hour)

		in, _ = start(t, &outlet{}, kept, many)
		assert.Equal(t, 5000, unknown(in, 0, 5000), "too old")
		assert.Zero(t, unknown(in, 5000, 6000))

		in, _ = start(t, &outlet{}, kept, func(set *dedupe.Settings) { set.MaxEntries = 400 })
		assert.Equal(t, 600, unknown(in, 5000, 5600), "the bound was made smaller")
		assert.Zero(t, unknown(in, 5600, 6000))

		time.Sleep(20 * time.Hour)
		require.NoError(t, in.Save(t.Context()))
		in, _ = start(t, &outlet{}, kept, nil)
		assert.Equal(t, 1000, unknown(in, 5000, 6000))
	})
}

func TestWhatIsReadAgainIsStillKnownHoweverLongItIsAgo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept, since := newStore(), time.Now().Add(time.Hour)
		var needed atomic.Pointer[time.Time]
		needed.Store(&since)
		holding := func(set *dedupe.Settings) { many(set); set.Needed = func() time.Time { return *needed.Load() } }
		in, _ := start(t, &outlet{}, kept, holding)
		ctx, cancel := context.WithCancel(t.Context())
		go in.Run(ctx)
		deliver(t, in, 0, 4000, 100)
		time.Sleep(2 * time.Hour)
		deliver(t, in, 4000, 5000, 100)
		time.Sleep(72 * time.Hour)
		assert.Equal(t, 4000, unknown(in, 0, 4000), "before what is needed")
		assert.Zero(t, unknown(in, 4000, 5000), "in a process that lives")
		cancel()

		out := &outlet{}
		in, logs := start(t, out, kept, holding)
		assert.Zero(t, unknown(in, 4000, 5000), "after a restart")
		assert.Zero(t, logs.Len())

		needed.Store(&time.Time{}) // and then a gap is opened before the housekeeping comes round
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go in.Run(ctx)
		needed.Store(&since)
		again := items(4000, 5000)
		for i := range again {
			again[i] = fromHistory(again[i])
		}
		require.NoError(t, in.Take(t.Context(), again))
		assert.Empty(t, out.ids())

		needed.Store(&time.Time{})
		time.Sleep(2 * time.Minute)
		assert.Equal(t, 1000, unknown(in, 4000, 5000), "it is needed no more")
	})
}

func TestOfFewEntriesTheYoungestComeBack(t *testing.T) {
	t.Parallel()
	kept := newStore()
	two := func(set *dedupe.Settings) { set.MaxEntries = 2 }
	in, _ := start(t, &outlet{}, kept, two)
	for range 3 {
		deliver(t, in, 0, 5, 1)
		require.NoError(t, in.Save(t.Context()))
		in, _ = start(t, &outlet{}, kept, two)
		assert.Equal(t, 3, unknown(in, 0, 3), "segments that were merged do not bring back what left")
		assert.Zero(t, unknown(in, 3, 5))
		deliver(t, in, 5, 10, 1)
	}
}

func TestAClockThatWasAheadDoesNotMakeEntriesLiveLonger(t *testing.T) {
	t.Parallel()
	kept := newStore()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		in, _ := start(t, &outlet{}, kept, nil)
		deliver(t, in, 0, 1, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		in, _ := start(t, &outlet{}, kept, nil)
		assert.Zero(t, unknown(in, 0, 1))
		time.Sleep(26*time.Hour + 2*time.Second)
		assert.Equal(t, 1, unknown(in, 0, 1))
	})
}

func TestManyDeliveriesShareAWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls = 64
		kept, open := newStore(), make(chan struct{})
		in, _ := start(t, &outlet{}, kept, nil)
		kept.before = func(string) error { <-open; return nil }
		var all []taking
		for n := range calls {
			all = append(all, take(t.Context(), in, items(n, n+1)...))
		}
		assert.Equal(t, calls, unknown(in, 0, calls), "nothing is known before it is written down")
		repeated := take(t.Context(), in, items(0, 1)...)
		assert.False(t, repeated.ended(), "nor is it acknowledged")
		close(open)
		for _, one := range append(all, repeated) {
			require.NoError(t, <-one.end)
		}
		assert.LessOrEqual(t, kept.written(), 2, "the first writes, then one for all the others")
		in, _ = start(t, &outlet{}, kept, nil)
		assert.Zero(t, unknown(in, 0, calls))
	})
}

func TestTheNumberOfKeysIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept := newStore()
		in, _ := start(t, &outlet{}, kept, func(set *dedupe.Settings) { set.MaxEntries = 6000 })
		ctx, cancel := context.WithCancel(t.Context())
		go in.Run(ctx)
		most, largest := 0, 0
		for n := 0; n < 40_000; n += 40 {
			deliver(t, in, n, n+40, 40)
			synctest.Wait()
			values := kept.keys()
			most = max(most, len(values))
			for key, value := range values {
				assert.True(t, strings.HasPrefix(key, "seen/"), key)
				largest = max(largest, len(value))
			}
		}
		assert.LessOrEqual(t, most, 64+1+5, "the segments, the index, and the chunks of 6000 entries")
		assert.LessOrEqual(t, largest, 64<<10)
		assert.Less(t, kept.written(), 1000+2*1000/32+100, "each delivery is written, and now and then a chunk")

		time.Sleep(27 * time.Hour)
		cancel()
		chunks := 0
		for key := range kept.keys() {
			if strings.HasPrefix(key, "seen/c/") {
				chunks++
			}
		}
		assert.Zero(t, chunks, "what is too old is deleted, without a delivery")
		deliver(t, in, 0, 10, 1)
		in, logs := start(t, &outlet{}, kept, nil)
		assert.Zero(t, unknown(in, 0, 10))
		assert.Zero(t, logs.Len())
	})
}

func TestAStoreThatKeepsNothingIsNoStore(t *testing.T) {
	t.Parallel()
	out := &outlet{}
	in := newIntake(t, out, func(set *dedupe.Settings) { set.Store = forgetful{} })
	require.NoError(t, in.Load(t.Context()))
	deliver(t, in, 0, 100, 1)
	deliver(t, in, 0, 100, 1)
	require.NoError(t, in.Save(t.Context()))
	assert.Len(t, out.got, 100)

	in = newIntake(t, out, nil)
	assert.NoError(t, in.Load(t.Context()))
	assert.NoError(t, in.Save(t.Context()))
}

type forgetful struct{}

func (forgetful) Get(context.Context, string) ([]byte, error) { return nil, nil }
func (forgetful) Set(context.Context, string, []byte) error   { return nil }
func (forgetful) Delete(context.Context, string) error        { return nil }
