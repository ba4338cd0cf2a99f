package dedupe_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// start loads a Deduplicator with a store.
func start(tb testing.TB, out dedupe.Pipeline, store *fakeStore, change func(*dedupe.Settings)) (*dedupe.Deduplicator, *observer.ObservedLogs) {
	tb.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	d := newDeduplicator(tb, out, func(set *dedupe.Settings) {
		set.Store, set.Logger = store, zap.New(core)
		if change != nil {
			change(set)
		}
	})
	require.NoError(tb, d.Load(tb.Context()))
	return d, logs
}

func with100000Entries(set *dedupe.Settings) { set.MaxEntries = 100_000 }

// deliver delivers items in batches of the given size.
func deliver(tb testing.TB, d *dedupe.Deduplicator, from, to, size int) {
	tb.Helper()
	for ; from < to; from += size {
		require.NoError(tb, d.Take(tb.Context(), items(from, min(from+size, to))))
	}
}

// countUnknown counts the items that the Deduplicator does not know.
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
			store, out, dropped := newFakeStore(), &fakePipeline{}, &duplicateCounter{}
			d, _ := start(t, out, store, with100000Entries)
			deliver(t, d, 0, 10_000, 70)
			require.NoError(t, d.Take(t.Context(), []interaction.Received{deleted(item("gone")), tombstone("a", "2"), fromHistory(item("read"))}))
			if saved {
				require.NoError(t, d.Save(t.Context()))
			}

			out = &fakePipeline{}
			d, logs := start(t, out, store, func(set *dedupe.Settings) { with100000Entries(set); set.Telemetry = dropped })
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
		store := newFakeStore()
		d, _ := start(t, &fakePipeline{}, store, with100000Entries)
		deliver(t, d, 0, 5000, 100)
		time.Sleep(20 * time.Hour)
		deliver(t, d, 5000, 6000, 100)
		time.Sleep(7 * time.Hour)

		d, _ = start(t, &fakePipeline{}, store, with100000Entries)
		assert.Equal(t, 5000, countUnknown(d, 0, 5000), "too old")
		assert.Zero(t, countUnknown(d, 5000, 6000))

		d, _ = start(t, &fakePipeline{}, store, func(set *dedupe.Settings) { set.MaxEntries = 400 })
		assert.Equal(t, 600, countUnknown(d, 5000, 5600), "MaxEntries was reduced")
		assert.Zero(t, countUnknown(d, 5600, 6000))

		time.Sleep(20 * time.Hour)
		require.NoError(t, d.Save(t.Context()))
		d, _ = start(t, &fakePipeline{}, store, nil)
		assert.Equal(t, 1000, countUnknown(d, 5000, 6000))
	})
}

func TestJournal_RetainsNeededEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, since := newFakeStore(), time.Now().Add(time.Hour)
		var needed atomic.Pointer[time.Time]
		needed.Store(&since)
		holding := func(set *dedupe.Settings) {
			with100000Entries(set)
			set.Needed = func() time.Time { return *needed.Load() }
		}
		d, _ := start(t, &fakePipeline{}, store, holding)
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		deliver(t, d, 0, 4000, 100)
		time.Sleep(2 * time.Hour)
		deliver(t, d, 4000, 5000, 100)
		time.Sleep(72 * time.Hour)
		assert.Equal(t, 4000, countUnknown(d, 0, 4000), "before what is needed")
		assert.Zero(t, countUnknown(d, 4000, 5000), "in a running process")
		cancel()

		out := &fakePipeline{}
		d, logs := start(t, out, store, holding)
		assert.Zero(t, countUnknown(d, 4000, 5000), "after a restart")
		assert.Zero(t, logs.Len())

		needed.Store(&time.Time{}) // then a gap is opened before the next housekeeping
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
	store := newFakeStore()
	two := func(set *dedupe.Settings) { set.MaxEntries = 2 }
	d, _ := start(t, &fakePipeline{}, store, two)
	for range 3 {
		deliver(t, d, 0, 5, 1)
		require.NoError(t, d.Save(t.Context()))
		d, _ = start(t, &fakePipeline{}, store, two)
		assert.Equal(t, 3, countUnknown(d, 0, 3), "merged segments do not restore evicted entries")
		assert.Zero(t, countUnknown(d, 3, 5))
		deliver(t, d, 5, 10, 1)
	}
}

func TestJournal_LimitsEntriesFromTheFuture(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		d, _ := start(t, &fakePipeline{}, store, nil)
		deliver(t, d, 0, 1, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		d, _ := start(t, &fakePipeline{}, store, nil)
		assert.Zero(t, countUnknown(d, 0, 1))
		time.Sleep(26*time.Hour + 2*time.Second)
		assert.Equal(t, 1, countUnknown(d, 0, 1))
	})
}

func TestJournal_SharesWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls = 64
		store, open := newFakeStore(), make(chan struct{})
		d, _ := start(t, &fakePipeline{}, store, nil)
		store.before = func(string) error { <-open; return nil }
		var all []takeCall
		for n := range calls {
			all = append(all, take(t.Context(), d, items(n, n+1)...))
		}
		assert.Equal(t, calls, countUnknown(d, 0, calls), "nothing is known before it is stored")
		repeated := take(t.Context(), d, items(0, 1)...)
		assert.False(t, repeated.ended(), "nor is it acknowledged")
		close(open)
		for _, one := range append(all, repeated) {
			require.NoError(t, <-one.end)
		}
		assert.LessOrEqual(t, store.written(), 2, "the first writes, then one for all the others")
		d, _ = start(t, &fakePipeline{}, store, nil)
		assert.Zero(t, countUnknown(d, 0, calls))
	})
}

func TestJournal_BoundsNumberOfKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		d, _ := start(t, &fakePipeline{}, store, func(set *dedupe.Settings) { set.MaxEntries = 6000 })
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		most, largest := 0, 0
		for n := 0; n < 40_000; n += 40 {
			deliver(t, d, n, n+40, 40)
			synctest.Wait()
			values := store.keys()
			most = max(most, len(values))
			for key, value := range values {
				assert.True(t, strings.HasPrefix(key, "seen/"), key)
				largest = max(largest, len(value))
			}
		}
		assert.LessOrEqual(t, most, 64+1+5, "the segments, the index, and the blocks of 6000 entries")
		assert.LessOrEqual(t, largest, 64<<10)
		assert.Less(t, store.written(), 1000+2*1000/32+100, "each delivery is written, and sometimes a block")

		time.Sleep(27 * time.Hour)
		cancel()
		blocks := 0
		for key := range store.keys() {
			if strings.HasPrefix(key, "seen/c/") {
				blocks++
			}
		}
		assert.Zero(t, blocks, "what is too old is deleted, without a delivery")
		deliver(t, d, 0, 10, 1)
		d, logs := start(t, &fakePipeline{}, store, nil)
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

// agedStore returns a store with several blocks that does not begin with the first, and some segments that no block
// contains.
func agedStore(t *testing.T) *fakeStore {
	t.Helper()
	store := newFakeStore()
	d, _ := start(t, &fakePipeline{}, store, with6000Entries)
	deliver(t, d, 0, 12_000, 100)
	require.NoError(t, d.Save(t.Context()))
	deliver(t, d, 12_000, 12_300, 10)
	values := store.keys()
	require.Contains(t, values, "seen/index")
	require.NotContains(t, values, "seen/c/0")
	require.Contains(t, values, "seen/c/4")
	return store
}

func with6000Entries(set *dedupe.Settings) { set.MaxEntries = 6000 }

func TestJournal_ReplacesDamagedValue(t *testing.T) {
	t.Parallel()
	flip := func(value []byte) []byte { value[len(value)/2] ^= 1; return value }
	cut := func(value []byte) []byte { return value[:len(value)-1] }
	short := func(value []byte) []byte { return value[:3] }
	foreign := func([]byte) []byte { return []byte(`{"version": 2}`) }
	empty := func([]byte) []byte { return []byte{} }
	missing := func([]byte) []byte { return nil }

	for name, test := range map[string]struct {
		key    string
		damage func([]byte) []byte
		// lost is how many entries are not known afterwards.
		lost int
	}{
		"a corrupt index loses nothing":                              {"seen/index", flip, 0},
		"an index of another version loses nothing":                  {"seen/index", foreign, 0},
		"an empty index loses nothing":                               {"seen/index", empty, 0},
		"a missing index loses nothing":                              {"seen/index", missing, 0},
		"a missing block loses its entries":                          {"seen/c/4", missing, 1800},
		"a corrupt block loses its entries":                          {"seen/c/4", flip, 1800},
		"a block of another version loses its entries":               {"seen/c/5", foreign, 1800},
		"a block that was cut off loses its entries":                 {"seen/c/4", cut, 1800},
		"the last block loses what no segment has":                   {"seen/c/6", flip, 0},
		"a corrupt segment loses its delivery":                       {"seen/j/7", flip, 10},
		"a segment that was cut off at the start loses its delivery": {"seen/j/0", short, 10},
		"a segment that is contained in a block loses nothing":       {"seen/j/40", foreign, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := agedStore(t)
			require.Contains(t, store.values, test.key)
			store.values[test.key] = test.damage(slices.Clone(store.values[test.key]))

			d, logs := start(t, &fakePipeline{}, store, with6000Entries)
			assert.Equal(t, test.lost, countUnknown(d, 6300, 12_300))
			require.Equal(t, 1, logs.Len(), "logged once")
			entry := logs.All()[0]
			assert.Equal(t, zapcore.WarnLevel, entry.Level)
			assert.Contains(t, entry.ContextMap()["error"], test.key)

			d, logs = start(t, &fakePipeline{}, store, with6000Entries)
			assert.Equal(t, test.lost, countUnknown(d, 6300, 12_300), "and nothing more is lost by the next restart")
			assert.Zero(t, logs.Len(), "it was replaced")
			assert.LessOrEqual(t, len(store.values), 64+1+5, "nothing is left over")
		})
	}
}

func TestJournal_ReplacesDamagedIndexAndBlock(t *testing.T) {
	t.Parallel()
	store := agedStore(t)
	store.values["seen/index"] = []byte("?")
	store.values["seen/c/6"] = []byte("?")
	d, logs := start(t, &fakePipeline{}, store, with6000Entries)
	lost := countUnknown(d, 6300, 12_300)
	assert.Less(t, lost, 1800)
	assert.EqualValues(t, 2, logs.All()[0].ContextMap()["values"])
	d, logs = start(t, &fakePipeline{}, store, with6000Entries)
	assert.Equal(t, lost, countUnknown(d, 6300, 12_300))
	assert.Zero(t, logs.Len())
}

func TestJournal_DeletesLeftoverBlocks(t *testing.T) {
	t.Parallel()
	store := agedStore(t)
	left := maps.Clone(store.values)
	store.values["seen/c/2"], store.values["seen/c/1"] = left["seen/c/4"], []byte("?")
	d, logs := start(t, &fakePipeline{}, store, with6000Entries)
	assert.Zero(t, logs.Len())
	assert.Zero(t, countUnknown(d, 6300, 12_300))
	assert.NotContains(t, store.values, "seen/c/1")
	assert.NotContains(t, store.values, "seen/c/2")
}

func TestJournal_StartsWithUnreadableStore(t *testing.T) {
	t.Parallel()

	t.Run("no key is readable: a few attempts, then the start continues", func(t *testing.T) {
		t.Parallel()
		store, out := agedStore(t), &fakePipeline{}
		store.all = true
		store.fail(errStore)
		store.gets = 0
		d, logs := start(t, out, store, with6000Entries)
		assert.Equal(t, 3, store.gets)
		require.Equal(t, 1, logs.Len())
		deliver(t, d, 20_000, 20_100, 10)
		assert.Len(t, out.got, 100)
		assert.Equal(t, 1, logs.Len(), "the failing write is not logged again")

		store.all = false
		store.repair()
		deliver(t, d, 20_100, 26_000, 100)
		d, logs = start(t, &fakePipeline{}, store, with6000Entries)
		assert.Zero(t, logs.Len())
		assert.Zero(t, countUnknown(d, 20_000, 26_000), "later entries are kept, and are newer than what could not be read")
	})

	t.Run("some keys are unreadable: their entries are lost", func(t *testing.T) {
		t.Parallel()
		store := agedStore(t)
		store.unreadable = map[string]bool{"seen/c/4": true, "seen/j/3": true, "seen/j/5": true, "seen/j/7": true}
		d, logs := start(t, &fakePipeline{}, store, with6000Entries)
		assert.Equal(t, 1800+30, countUnknown(d, 6300, 12_300))
		require.Equal(t, 1, logs.Len())
	})
}

func TestJournal_StartsWithReadOnlyStore(t *testing.T) {
	t.Parallel()
	store := agedStore(t)
	store.fail(errStore)
	d, logs := start(t, &fakePipeline{}, store, with6000Entries)
	assert.Equal(t, 1, logs.Len())
	assert.Zero(t, countUnknown(d, 6300, 12_300))
	store.repair()
	deliver(t, d, 20_000, 20_010, 1)
	assert.Equal(t, 2, logs.Len(), "it is over")
	d, _ = start(t, &fakePipeline{}, store, with6000Entries)
	assert.Zero(t, countUnknown(d, 6310, 12_300), "what was not merged is not overwritten")
	assert.Zero(t, countUnknown(d, 20_000, 20_010))
}

func TestJournal_RejectsBlockUnderWrongKey(t *testing.T) {
	t.Parallel()
	store := agedStore(t)
	store.values["seen/c/5"] = store.values["seen/c/4"]
	d, logs := start(t, &fakePipeline{}, store, with6000Entries)
	assert.Equal(t, 1800, countUnknown(d, 6300, 12_300))
	assert.Equal(t, 1, logs.Len())
	d, logs = start(t, &fakePipeline{}, store, with6000Entries)
	assert.Equal(t, 1800, countUnknown(d, 6300, 12_300))
	assert.Zero(t, logs.Len())
}

func TestJournal_DeletesOutdatedBlock(t *testing.T) {
	t.Parallel()
	ancient := newFakeStore()
	first, _ := start(t, &fakePipeline{}, ancient, nil)
	deliver(t, first, 0, 1, 1)
	require.NoError(t, first.Save(t.Context()))
	store := agedStore(t)
	require.NotContains(t, store.values, "seen/c/8")
	store.values["seen/c/8"] = ancient.values["seen/c/0"]
	d, logs := start(t, &fakePipeline{}, store, with6000Entries)
	assert.Zero(t, logs.Len())
	assert.Zero(t, countUnknown(d, 6300, 12_300))
	assert.NotContains(t, store.values, "seen/c/8")
}

// Whatever is in the store, a start ends, warns once, and leaves a store that the next start can read.
func TestJournal_SurvivesRandomDamage(t *testing.T) {
	t.Parallel()
	undamaged := agedStore(t)
	keys := slices.Sorted(maps.Keys(undamaged.values))
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		store := newFakeStore()
		store.values = maps.Clone(undamaged.values)
		for range 1 + random.IntN(5) {
			key := keys[random.IntN(len(keys))]
			value := slices.Clone(store.values[key])
			switch n := len(value); {
			case n == 0 || random.IntN(4) == 0:
				delete(store.values, key)
			case random.IntN(3) == 0:
				store.values[key] = value[:random.IntN(n)]
			case random.IntN(2) == 0:
				store.values[key] = slices.Clone(store.values[keys[random.IntN(len(keys))]])
			default:
				value[random.IntN(n)] ^= byte(1 + random.IntN(255))
				store.values[key] = value
			}
		}
		d, logs := start(t, &fakePipeline{}, store, with6000Entries)
		assert.LessOrEqual(t, logs.Len(), 1)
		lost := countUnknown(d, 6300, 12_300)
		deliver(t, d, 50_000, 50_100, 10)

		d, logs = start(t, &fakePipeline{}, store, with6000Entries)
		assert.Zero(t, logs.Len(), "seed %d", seed)
		assert.LessOrEqual(t, countUnknown(d, 6400, 12_300), lost, "seed %d", seed)
		assert.Zero(t, countUnknown(d, 50_000, 50_100), "seed %d", seed)
	}
}

func TestJournal_LosesNothingWhileStoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, out := newFakeStore(), &fakePipeline{}
		d, logs := start(t, out, store, with100000Entries)
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		deliver(t, d, 0, 10, 1)
		store.fail(errStore)
		deliver(t, d, 10, 5000, 10)
		time.Sleep(10 * time.Minute)
		assert.Len(t, out.got, 5000, "a duplicate after a restart is better than a loss")
		assert.Zero(t, countUnknown(d, 0, 5000), "and there is none before a restart")
		require.ErrorIs(t, d.Save(t.Context()), errStore)
		require.Equal(t, 1, logs.Len(), "logged once")
		assert.Equal(t, zapcore.WarnLevel, logs.All()[0].Level)
		assert.Contains(t, logs.All()[0].ContextMap()["error"], "disk full")

		store.repair()
		deliver(t, d, 5000, 5001, 1)
		synctest.Wait()
		require.Equal(t, 2, logs.Len(), "and once that it is over")
		assert.Equal(t, zapcore.InfoLevel, logs.All()[1].Level)
		cancel()
		d, _ = start(t, &fakePipeline{}, store, with100000Entries)
		assert.Zero(t, countUnknown(d, 0, 5001), "what could not be written was written later")
	})
}

func TestJournal_WritesWithoutDeliveryOnceStoreWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		d, logs := start(t, &fakePipeline{}, store, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		store.fail(errStore)
		deliver(t, d, 0, 10, 1)
		store.repair()
		time.Sleep(2 * time.Minute)
		cancel()
		assert.Equal(t, 2, logs.Len())
		d, _ = start(t, &fakePipeline{}, store, nil)
		assert.Zero(t, countUnknown(d, 0, 10))
	})
}

func TestJournal_KeepsSegmentsWhenMergeFails(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	d, _ := start(t, &fakePipeline{}, store, nil)
	deliver(t, d, 0, 40, 1)
	store.before = func(key string) error {
		if strings.HasPrefix(key, "seen/c/") {
			return errStore
		}
		return nil
	}
	require.ErrorIs(t, d.Save(t.Context()), errStore)
	deliver(t, d, 40, 60, 1)
	store.repair()
	d, logs := start(t, &fakePipeline{}, store, nil)
	assert.Zero(t, countUnknown(d, 0, 60))
	assert.Zero(t, logs.Len())
}

func TestJournal_BoundsDelayByHangingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &hangingStore{fakeStore: newFakeStore()}
		d := newDeduplicator(t, &fakePipeline{}, func(set *dedupe.Settings) { set.Store = store })
		require.NoError(t, d.Load(t.Context()))
		begin := time.Now()
		var all []takeCall
		for n := range 64 {
			all = append(all, take(t.Context(), d, item(strconv.Itoa(n))))
		}
		for _, one := range all {
			require.NoError(t, <-one.end)
		}
		assert.Equal(t, 2*time.Second, time.Since(begin), "the first write, then that for all the others")
	})
}

// hangingStore is a store whose writes only end with their context.
type hangingStore struct{ *fakeStore }

func (h *hangingStore) Set(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestJournal_WritesDeliveryAfterCallerIsGone(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	d, _ := start(t, &fakePipeline{}, store, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, d.Take(ctx, items(0, 1)), "the pipeline accepted it")
	d, _ = start(t, &fakePipeline{}, store, nil)
	assert.Zero(t, countUnknown(d, 0, 1))
}

func TestJournal_SaveAndLoadEndWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, open := newFakeStore(), make(chan struct{})
		d, _ := start(t, &fakePipeline{}, store, nil)
		var once sync.Once
		store.before = func(string) error { once.Do(func() { <-open }); return nil }
		one := take(t.Context(), d, item("1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, d.Save(ctx), context.DeadlineExceeded, "a write is in flight")
		require.ErrorIs(t, d.Load(ctx), context.DeadlineExceeded)

		ended := make(chan struct{})
		running, stop := context.WithCancel(t.Context())
		go func() { d.Run(running); close(ended) }()
		time.Sleep(2 * time.Minute)
		stop()
		<-ended
		close(open)
		assert.NoError(t, <-one.end)
	})
}

const killWindow, killEntries = 26 * time.Hour, 5000

// lockedRand is safe for concurrent use.
type lockedRand struct {
	mu   sync.Mutex // guards what follows
	rand *rand.Rand
}

func (d *lockedRand) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// crashTest records what was delivered and acknowledged over several runs that each end with a kill.
type crashTest struct {
	t      *testing.T
	random *lockedRand
	store  *fakeStore

	mu sync.Mutex // guards what follows
	// writes is how many writes are left until the kill; the last may or may not be done.
	writes int
	dead   bool
	// delivered is how many interactions the pipeline accepted.
	delivered int
	// position and takenAt are the order and time in which the pipeline last accepted an interaction.
	position map[int]int
	takenAt  map[int]time.Time
	// acknowledged contains what Take returned nil for.
	acknowledged map[int]bool
	next         int
	checked      int
}

func (c *crashTest) before(string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes--
	c.dead = c.dead || c.writes < 0 || (c.writes == 0 && c.random.IntN(2) == 0)
	if c.dead {
		return errStore
	}
	return nil
}

// Deliver refuses some calls. It must not get what must be known.
func (c *crashTest) Deliver(_ context.Context, received []interaction.Received) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random.IntN(5) == 0 {
		return errors.New("refused")
	}
	for i := range received {
		n := number(received[i].ID)
		assert.False(c.t, c.mustBeKnown(n), "%d was delivered and acknowledged", n)
		c.position[n], c.takenAt[n] = c.delivered, time.Now()
		delete(c.acknowledged, n)
		c.delivered++
	}
	return nil
}

// mustBeKnown is true for what was acknowledged and neither expired nor may have been evicted.
func (c *crashTest) mustBeKnown(n int) bool {
	// Concurrent deliveries may be recorded in another order.
	recent := c.delivered-c.position[n] <= killEntries-500
	return c.acknowledged[n] && recent && time.Since(c.takenAt[n]) <= killWindow
}

// runUntilKill delivers concurrently until the kill.
func (c *crashTest) runUntilKill(d *dedupe.Deduplicator) {
	ctx, kill := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	for !c.killed() {
		var calls sync.WaitGroup
		for range 1 + c.random.IntN(8) {
			from, to := c.next, c.next+1+c.random.IntN(60)
			if c.random.IntN(3) == 0 {
				// Some interactions come again, whatever became of them.
				from = max(0, from-c.random.IntN(300))
				to = from + c.random.IntN(60)
			}
			c.next = max(c.next, to)
			calls.Go(func() { c.take(d, from, to) })
		}
		calls.Wait()
		switch c.random.IntN(20) {
		case 0:
			_ = d.Save(ctx)
		case 1:
			time.Sleep(time.Duration(c.random.IntN(5)) * time.Hour)
		}
	}
	kill()
	running.Wait()
}

func (c *crashTest) take(d *dedupe.Deduplicator, from, to int) {
	err := d.Take(c.t.Context(), items(from, to))
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !c.dead {
		for n := from; n < to; n++ {
			c.acknowledged[n] = true
		}
	}
}

func (c *crashTest) killed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// check verifies what a new run knows.
func (c *crashTest) check(d *dedupe.Deduplicator) {
	checked := 0
	for n := range c.next {
		known := d.Known(items(n, n+1)[0].ContentDigest)
		if c.mustBeKnown(n) {
			require.True(c.t, known, "%d was delivered and acknowledged", n)
			checked++
		}
		if _, ok := c.takenAt[n]; !ok {
			require.False(c.t, known, "%d was not delivered", n)
		}
	}
	c.checked += checked
}

func TestJournal_KeepsAcknowledgedEntriesAfterKill(t *testing.T) {
	t.Parallel()
	blocks, checked := 0, 0
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			c := &crashTest{t: t, random: &lockedRand{rand: rand.New(rand.NewPCG(seed, 2))}, store: newFakeStore(), position: map[int]int{}, takenAt: map[int]time.Time{}, acknowledged: map[int]bool{}}
			for range 4 {
				c.store.repair()
				d, logs := start(t, c, c.store, func(set *dedupe.Settings) { set.MaxEntries = killEntries })
				require.Zero(t, logs.Len(), "every state that a kill leaves is readable")
				c.check(d)
				c.writes, c.dead = 1+c.random.IntN(250), false
				c.store.before = c.before
				c.runUntilKill(d)
			}
			checked += c.checked
			if _, ok := c.store.values["seen/index"]; ok {
				blocks++
			}
		})
	}
	assert.Greater(t, checked, 40*1000)
	assert.Positive(t, blocks, "some runs were long enough to drop blocks")
}

// A kill may also happen while a start replaces what it could not read.
func TestJournal_SurvivesKillDuringReplacement(t *testing.T) {
	t.Parallel()
	for writes := range 12 {
		store := agedStore(t)
		store.values["seen/c/4"], store.values["seen/j/2"] = []byte("?"), []byte("?")
		if writes%2 == 0 {
			store.values["seen/index"] = []byte("?")
		}
		left := writes
		store.before = func(string) error {
			if left--; left < 0 {
				return errStore
			}
			return nil
		}
		d, logs := start(t, &fakePipeline{}, store, with6000Entries)
		assert.Equal(t, 1, logs.Len())
		assert.Equal(t, 1800+10, countUnknown(d, 6300, 12_300))
		store.repair()
		d, _ = start(t, &fakePipeline{}, store, with6000Entries)
		assert.Equal(t, 1800+10, countUnknown(d, 6300, 12_300), "after %d writes", writes)
	}
}
