// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

func TestStore_RestoresEntriesAfterRestart(t *testing.T) {
	t.Parallel()
	for name, saved := range map[string]bool{"after a shutdown": true, "after a kill -9": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, dropped := newFakeClient(), &duplicateCounter{}
				c, _ := load(t, client, with100000Entries)
				stop := run(t, c)
				deliver(t, c, 0, 10_000, 70)
				require.NoError(t, newPipeline(c).take(t.Context(),
					deleted(item("gone")), tombstone("a", "2"), fromHistory(item("read")), updated(item("changed"), "9")))
				awaitWritten()
				stop()
				if saved {
					require.NoError(t, c.Save(t.Context()))
				}

				c, logs := load(t, client, func(set *dedupe.Settings) { with100000Entries(set); set.Telemetry = dropped })
				p := newPipeline(c)
				assert.Zero(t, countUnknown(c, 0, 10_000))
				assert.Zero(t, logs.Len())
				require.NoError(t, p.take(t.Context(), append(items(0, 10_000),
					deleted(item("gone")), fromHistory(item("gone")), tombstone("a", "2"), item("read"), resent(updated(item("changed"), "8")), item("new"))...))
				assert.Equal(t, []string{"new"}, p.ids())
				assert.Equal(t, 2*10_000+5, dropped.count())
			})
		})
	}
}

// The index of the cache has the numbers of records modulo 2^32.
func TestStore_CountsBeyondUint32(t *testing.T) {
	t.Parallel()
	client := newFakeClient()
	const first = 1<<33 - 256
	index := fmt.Sprintf(`{"First":%d,"Next":%d,"Clean":true}`, first, first)
	require.NoError(t, statestore.New(client).Write(t.Context(), statestore.Set{Key: "dedupe/index", Version: 1, Payload: []byte(index)}))
	few := func(set *dedupe.Settings) { set.MaxEntries = 200 }
	c, _ := load(t, client, few)
	p := newPipeline(c)
	for n := 0; n < 600; n += 10 {
		deliver(t, c, n, n+10, 10)
		require.Zero(t, countUnknown(c, max(0, n-190), n+10), n)
		require.Equal(t, max(0, n-190), countUnknown(c, 0, max(0, n-190)), n)
		require.NoError(t, p.take(t.Context(), resent(items(n, n+1)[0])))
	}
	require.Empty(t, p.got)
	require.NoError(t, c.Save(t.Context()))
	require.Contains(t, client.keys(), fmt.Sprintf("dedupe/block/%d", (first+600)/128))
	c, logs := load(t, client, few)
	assert.Zero(t, countUnknown(c, 400, 600))
	assert.Zero(t, logs.Len())
}

func TestStore_DropsExpiredEntriesAfterLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		c, _ := load(t, client, with100000Entries)
		deliver(t, c, 0, 5000, 100)
		time.Sleep(20 * time.Hour)
		deliver(t, c, 5000, 6000, 100)
		require.NoError(t, c.Save(t.Context()))
		time.Sleep(7 * time.Hour)

		c, _ = load(t, client, with100000Entries)
		stop := run(t, c)
		time.Sleep(time.Minute)
		stop()
		assert.Equal(t, 5000, countUnknown(c, 0, 5000), "too old")
		assert.Zero(t, countUnknown(c, 5000, 6000))

		c, _ = load(t, client, func(set *dedupe.Settings) { set.MaxEntries = 400 })
		assert.Equal(t, 600, countUnknown(c, 5000, 5600), "MaxEntries was reduced")
		assert.Zero(t, countUnknown(c, 5600, 6000))
	})
}

func TestStore_RetainsEntriesAfterLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, begin := newFakeClient(), time.Now()
		c, _ := load(t, client, nil)
		deliver(t, c, 0, 10, 1)
		require.NoError(t, c.Save(t.Context()))
		time.Sleep(100 * time.Hour)
		c, _ = load(t, client, func(set *dedupe.Settings) { set.RetainFrom = func() time.Time { return begin } })
		defer run(t, c)()
		time.Sleep(time.Minute)
		assert.Zero(t, countUnknown(c, 0, 10))
	})
}

func TestStore_TakesDeliveryInFutureAsNow(t *testing.T) {
	t.Parallel()
	client := newFakeClient()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		c, _ := load(t, client, nil)
		deliver(t, c, 0, 1, 1)
		require.NoError(t, c.Save(t.Context()))
	})
	synctest.Test(t, func(t *testing.T) {
		c, _ := load(t, client, nil)
		defer run(t, c)()
		assert.Zero(t, countUnknown(c, 0, 1))
		time.Sleep(window + time.Minute)
		assert.Equal(t, 1, countUnknown(c, 0, 1))
	})
}

func TestStore_HasDeliveryAfter10ms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		c, _ := load(t, client, with100000Entries)
		defer run(t, c)()
		for n := range 200 {
			deliver(t, c, n, n+1, 1)
			awaitWritten()
			after, logs := load(t, client, with100000Entries)
			require.Zero(t, countUnknown(after, 0, n+1), "a kill after %d deliveries", n+1)
			require.Zero(t, logs.Len())
		}
	})
}

func TestStore_SharesWritesAndDelaysNoDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, open := newFakeClient(), make(chan struct{})
		c, _ := load(t, client, nil)
		defer run(t, c)()
		awaitWritten()
		before := client.written()
		client.intercept(func(*storage.Operation) error { <-open; return nil })
		deliver(t, c, 0, 1, 1)
		awaitWritten()
		deliver(t, c, 1, 64, 1)
		assert.Zero(t, countUnknown(c, 0, 64), "while a write is in flight")
		close(open)
		awaitWritten()
		assert.Equal(t, 2, client.written()-before, "one for the first, then one for all the others")
		c, _ = load(t, client, nil)
		assert.Zero(t, countUnknown(c, 0, 64))
	})
}

func TestStore_BoundsKeysAndValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		c, _ := load(t, client, with6000Entries)
		stop := run(t, c)
		most, largest := 0, 0
		for n := 0; n < 20_000; n += 40 {
			deliver(t, c, n, n+40, 40)
			awaitWritten()
			values := client.keys()
			most = max(most, len(values))
			for key, value := range values {
				assert.True(t, strings.HasPrefix(key, "dedupe/"), key)
				largest = max(largest, len(value))
			}
		}
		assert.LessOrEqual(t, most, 1+48, "the index, and the blocks of 6000 entries")
		assert.LessOrEqual(t, largest, 7<<10)

		time.Sleep(window + time.Minute)
		assert.LessOrEqual(t, client.blocks(), 1, "what is too old is deleted, without a delivery, but for the last block")
		deliver(t, c, 0, 10, 1)
		awaitWritten()
		stop()
		c, logs := load(t, client, nil)
		assert.Zero(t, countUnknown(c, 0, 10))
		assert.Zero(t, logs.Len())
	})
}

func TestStore_WritesFullBlocksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, written := newFakeClient(), map[string]int{}
		client.intercept(func(op *storage.Operation) error {
			if op.Type != storage.Get {
				written[op.Key]++
			}
			return nil
		})
		c, _ := load(t, client, with100000Entries)
		defer run(t, c)()
		deliver(t, c, 0, 1000, 1000)
		time.Sleep(time.Minute)
		awaitWritten()
		for block := range 8 {
			assert.Equal(t, 1, written[fmt.Sprintf("dedupe/block/%d", block)])
		}
		assert.GreaterOrEqual(t, written["dedupe/index"], 6, "which tells when the receiver last ran")
		deliver(t, c, 1000, 1001, 1)
		awaitWritten()
		assert.Equal(t, 1, written["dedupe/block/6"])
		assert.Equal(t, 2, written["dedupe/block/7"], "the last one grows")
	})
}

func TestStore_ToleratesStoreThatKeepsNothing(t *testing.T) {
	t.Parallel()
	c, logs := load(t, storage.NewNopClient(), nil)
	deliver(t, c, 0, 100, 1)
	require.NoError(t, c.Save(t.Context()))
	assert.Zero(t, countUnknown(c, 0, 100))
	assert.Zero(t, logs.Len())

	c = newCache(t, nil)
	require.NoError(t, c.Load(t.Context()))
	assert.NoError(t, c.Save(t.Context()), "in memory only")
}

// agedClient returns storage with several blocks that do not begin with the first.
func agedClient(t *testing.T) *fakeClient {
	t.Helper()
	client := newFakeClient()
	synctest.Test(t, func(t *testing.T) {
		c, _ := load(t, client, with6000Entries)
		deliver(t, c, 0, 12_300, 300)
		require.NoError(t, c.Save(t.Context()))
	})
	values := client.keys()
	require.NotContains(t, values, "dedupe/block/48")
	require.Contains(t, values, "dedupe/block/49")
	require.Contains(t, values, "dedupe/block/96")
	return client
}

func with6000Entries(set *dedupe.Settings) { set.MaxEntries = 6000 }

func TestStore_ReplacesDamagedValue(t *testing.T) {
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
		"a corrupt index loses the blocks":                        {"dedupe/index", flip, 6000},
		"an index of another version loses the blocks":            {"dedupe/index", foreign, 6000},
		"an empty index loses the blocks":                         {"dedupe/index", empty, 6000},
		"a missing block loses its entries":                       {"dedupe/block/80", missing, 128},
		"a corrupt block loses its entries":                       {"dedupe/block/80", flip, 128},
		"a block of another version loses its entries":            {"dedupe/block/80", foreign, 128},
		"the first block loses its entries":                       {"dedupe/block/49", cut, 100},
		"the last block loses its entries":                        {"dedupe/block/96", cut, 12},
		"a block that was cut off at the start loses its entries": {"dedupe/block/80", short, 128},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := agedClient(t)
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Hour)
				client.values[test.key] = test.damage(slices.Clone(client.values[test.key]))

				c, logs := load(t, client, with6000Entries)
				assert.Equal(t, test.lost, countUnknown(c, 6300, 12_300))
				require.Equal(t, 1, logs.Len(), "logged once")
				entry := logs.All()[0]
				assert.Equal(t, zapcore.WarnLevel, entry.Level)
				assert.Contains(t, entry.ContextMap()["error"], test.key)
				assert.Contains(t, entry.ContextMap(), "hint")
				completeFrom := time.Now().UTC().Add(time.Second)
				assert.Equal(t, completeFrom, c.CompleteFrom())
				deliver(t, c, 20_000, 20_010, 1)
				require.NoError(t, c.Save(t.Context()))

				time.Sleep(time.Minute)
				c, logs = load(t, client, nil)
				assert.Zero(t, logs.Len(), "it was replaced")
				assert.Zero(t, countUnknown(c, 20_000, 20_010))
				assert.Equal(t, completeFrom, c.CompleteFrom(), "which is remembered")
			})
		})
	}
}

func TestStore_DeletesLeftoverBlocks(t *testing.T) {
	t.Parallel()
	client := agedClient(t)
	left := client.keys()
	client.values["dedupe/block/48"], client.values["dedupe/block/47"] = left["dedupe/block/80"], []byte("?")
	synctest.Test(t, func(t *testing.T) {
		c, logs := load(t, client, with6000Entries)
		assert.Zero(t, logs.Len())
		require.NoError(t, c.Save(t.Context()))
	})
	for block, found := range map[string]bool{"47": false, "48": false, "49": true, "80": true} {
		_, ok := client.values["dedupe/block/"+block]
		assert.Equal(t, found, ok, block)
	}
}

func TestStore_WritesNothingOverWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"dedupe/index", "dedupe/block/49", "dedupe/block/96"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			client := agedClient(t)
			before := client.keys()
			client.intercept(func(op *storage.Operation) error {
				if op.Type == storage.Get && op.Key == key {
					return errStorage
				}
				return nil
			})
			c := newCache(t, func(set *dedupe.Settings) { with6000Entries(set); set.Store = statestore.New(client) })
			require.ErrorIs(t, c.Load(t.Context()), errStorage)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			c.Run(ctx)
			deliver(t, c, 0, 100, 1)
			require.NoError(t, c.Save(t.Context()))
			assert.Equal(t, before, client.keys())
		})
	}
}

func TestStore_WritesLaterWhatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		c, logs := load(t, client, with100000Entries)
		stop := run(t, c)
		deliver(t, c, 0, 10, 1)
		awaitWritten()
		client.intercept(failWrites)
		deliver(t, c, 10, 10_000, 10)
		time.Sleep(10 * time.Minute)
		assert.Zero(t, countUnknown(c, 0, 10_000), "a failure costs nothing before a restart")
		require.Equal(t, 1, logs.Len(), "logged once")
		assert.Equal(t, zapcore.WarnLevel, logs.All()[0].Level)
		assert.Contains(t, logs.All()[0].ContextMap()["error"], "disk full")
		assert.Contains(t, logs.All()[0].ContextMap(), "hint")

		client.intercept(nil)
		time.Sleep(20 * time.Second)
		require.Equal(t, 2, logs.Len(), "and once that it is over")
		assert.Equal(t, zapcore.InfoLevel, logs.All()[1].Level)
		deliver(t, c, 10_000, 10_001, 1)
		awaitWritten()
		stop()
		c, _ = load(t, client, with100000Entries)
		assert.Zero(t, countUnknown(c, 0, 10_001))
	})
}

func TestStore_SurvivesHangingWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, hang := newFakeClient(), make(chan struct{})
		c, logs := load(t, client, nil)
		stop := run(t, c)
		awaitWritten()
		client.intercept(func(*storage.Operation) error { <-hang; return nil })
		begin := time.Now()
		deliver(t, c, 0, 64, 1)
		assert.Zero(t, time.Since(begin), "no delivery waits for the storage")
		time.Sleep(time.Minute)
		assert.Equal(t, 1, logs.Len())
		close(hang)
		time.Sleep(time.Minute)
		assert.Equal(t, 2, logs.Len())
		stop()
		c, _ = load(t, client, nil)
		assert.Zero(t, countUnknown(c, 0, 64))
	})
}

func TestSave_ReportsFailure(t *testing.T) {
	t.Parallel()
	client := newFakeClient()
	c, _ := load(t, client, nil)
	deliver(t, c, 0, 10, 1)
	client.intercept(failWrites)
	require.ErrorIs(t, c.Save(t.Context()), errStorage)
	client.intercept(nil)
	require.NoError(t, c.Save(t.Context()))
	c, _ = load(t, client, nil)
	assert.Zero(t, countUnknown(c, 0, 10))
}

// A kill between any two operations of the storage, in a transaction or not, loses only what was not written yet.
func TestStore_SurvivesKillBetweenAnyTwoWrites(t *testing.T) {
	t.Parallel()
	const total, most = 1500, 700
	few := func(set *dedupe.Settings) { set.MaxEntries = most }
	killed, step := true, 1
	if testing.Short() {
		step = 7
	}
	for kill := 0; killed; kill += step {
		synctest.Test(t, func(t *testing.T) {
			client, left := newFakeClient(), kill
			client.intercept(func(op *storage.Operation) error {
				if op.Type == storage.Get {
					return nil
				}
				if left--; left < 0 {
					return errStorage
				}
				return nil
			})
			c, _ := load(t, client, few)
			stop, written := run(t, c), 0
			awaitWritten()
			for n := 0; n < total && left >= 0; {
				size := 1 + n%90
				deliver(t, c, n, n+size, size)
				awaitWritten()
				if n += size; left >= 0 {
					written = n
				}
			}
			stop()
			killed = left < 0

			client.intercept(nil)
			for range 2 {
				after, logs := load(t, client, few)
				require.Zero(t, logs.Len(), "after %d operations", kill)
				// A part of what was delivered last may have been written, and have evicted as much.
				require.Zero(t, countUnknown(after, max(0, written-most+90), written), "after %d operations", kill)
				require.NoError(t, after.Save(t.Context()))
				require.LessOrEqual(t, client.blocks(), 7, "nothing is left over")
			}
		})
		if !killed {
			assert.Greater(t, kill, 60, "the run writes several blocks, and deletes some")
		}
	}
}

// A kill may also happen while damaged values are being replaced.
func TestStore_SurvivesKillDuringReplacement(t *testing.T) {
	t.Parallel()
	for writes := range 4 {
		client := agedClient(t)
		client.values["dedupe/block/80"], client.values["dedupe/block/96"] = []byte("?"), []byte("?")
		left := writes
		client.intercept(func(op *storage.Operation) error {
			if op.Type != storage.Get {
				left--
			}
			if left < 0 {
				return errStorage
			}
			return nil
		})
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Hour)
			c, logs := load(t, client, with6000Entries)
			assert.Equal(t, 1, logs.Len())
			assert.Equal(t, 128+12, countUnknown(c, 6300, 12_300))
			defer run(t, c)()
			time.Sleep(time.Minute)
		})
		client.intercept(nil)
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(2 * time.Hour)
			c, _ := load(t, client, with6000Entries)
			assert.Equal(t, 128+12, countUnknown(c, 6300, 12_300), "after %d writes", writes)
		})
	}
}

func FuzzLoad(f *testing.F) {
	client := newFakeClient()
	c, _ := load(f, client, func(set *dedupe.Settings) { set.MaxEntries = 100 })
	c.Reserve(f.Context(), items(0, 3)).Commit()
	require.NoError(f, c.Save(f.Context()))
	f.Add(client.values["dedupe/block/0"][5:])
	f.Add([]byte{})
	f.Add([]byte("?"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, key := range []string{"dedupe/block/0"} {
			values := newFakeClient()
			maps.Copy(values.values, client.values)
			store := statestore.New(values)
			require.NoError(t, store.Write(t.Context(), statestore.Set{Key: key, Version: 1, Payload: append([]byte{}, payload...)}))
			loaded, _ := load(t, values, nil)
			p := newPipeline(loaded)
			require.NoError(t, p.take(t.Context(), items(100, 103)...))
			assert.Len(t, p.got, 3)
			require.NoError(t, loaded.Save(t.Context()))
			again, logs := load(t, values, nil)
			assert.Zero(t, logs.Len(), "what could not be read was replaced")
			assert.Zero(t, countUnknown(again, 100, 103))
		}
	})
}
