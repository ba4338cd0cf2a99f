// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"encoding/binary"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestCache_KeepsEntryForWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		defer run(t, c)()
		p := newPipeline(c)
		require.NoError(t, p.take(t.Context(), item("1"), deleted(item("2"))))

		time.Sleep(window)
		assert.True(t, c.Known(item("1").ContentDigest))
		require.NoError(t, p.take(t.Context(), item("1"), fromHistory(item("2"))))
		assert.Len(t, p.got, 2)

		time.Sleep(time.Minute)
		assert.False(t, c.Known(item("1").ContentDigest), "a duplicate does not extend an entry")
		require.NoError(t, p.take(t.Context(), item("1"), fromHistory(item("2"))))
		assert.Equal(t, []string{"1", "2", "1", "2"}, p.ids())

		time.Sleep(window - time.Minute)
		assert.True(t, c.Known(item("1").ContentDigest), "the end of the first entry is not that of the second")
	})
}

func TestCache_KeepsStateSinceLastChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		defer run(t, c)()
		p := newPipeline(c)
		require.NoError(t, p.take(t.Context(), item("1")))
		time.Sleep(20 * time.Hour)
		require.NoError(t, p.take(t.Context(), updated(item("1"), "9")))
		time.Sleep(20 * time.Hour)
		require.NoError(t, p.take(t.Context(), resent(item("1")), fromHistory(version(item("1"), "9"))))
		assert.Equal(t, []string{"n:created", "n:updated"}, p.changes())
		assert.False(t, c.Known(item("1").ContentDigest), "only what was delivered lately is known by its content")
	})
}

// A clock that was behind at the delivery does not make an entry expire early.
func TestCache_CountsAgeFromCreationIfLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		defer run(t, c)()
		later := createdAt(item("1"), time.Now().Add(10*time.Hour))
		require.NoError(t, newPipeline(c).take(t.Context(), later))
		time.Sleep(window + 9*time.Hour)
		assert.True(t, c.Known(later.ContentDigest))
		time.Sleep(2 * time.Hour)
		assert.False(t, c.Known(later.ContentDigest))
	})
}

func TestCache_RetainsEntriesFromTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var retained atomic.Pointer[time.Time]
		hence := time.Now().Add(time.Hour)
		retained.Store(&hence)
		c := newCache(t, func(set *dedupe.Settings) {
			with100000Entries(set)
			set.RetainFrom = func() time.Time { return *retained.Load() }
		})
		defer run(t, c)()
		deliver(t, c, 0, 4000, 100)
		time.Sleep(2 * time.Hour)
		deliver(t, c, 4000, 5000, 100)
		time.Sleep(72 * time.Hour)
		assert.Equal(t, 4000, countUnknown(c, 0, 4000), "before that time")
		assert.Zero(t, countUnknown(c, 4000, 5000))
		retained.Store(&time.Time{})
		time.Sleep(time.Minute)
		assert.Equal(t, 1000, countUnknown(c, 4000, 5000), "they are needed no more")
	})
}

func TestCache_EvictsOldestEntry(t *testing.T) {
	t.Parallel()
	c := newCache(t, func(set *dedupe.Settings) { set.MaxEntries = 4000 })
	const all = 10_000
	deliver(t, c, 0, all, 100)
	assert.Equal(t, all-4000, countUnknown(c, 0, all-4000))
	assert.Zero(t, countUnknown(c, all-4000, all))
}

func TestCache_KeepsEntryWhileNewestRecordStays(t *testing.T) {
	t.Parallel()
	p := newPipeline(newCache(t, func(set *dedupe.Settings) { set.MaxEntries = 2 }))
	require.NoError(t, p.take(t.Context(), item("1")))
	require.NoError(t, p.take(t.Context(), updated(item("1"), "8")))
	require.NoError(t, p.take(t.Context(), updated(item("1"), "9")))
	require.NoError(t, p.take(t.Context(), resent(item("1")), fromHistory(item("1"))))
	assert.Equal(t, []string{"n:created", "n:updated", "n:updated"}, p.changes(), "the record of the creation was evicted")
}

func TestCache_ImportEvictsNoLiveEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * 24 * time.Hour)
		c := newCache(t, nil)
		imported := newPipeline(c)
		imported.reserve = c.ReserveImport
		old := func(from, to int) []interaction.Received {
			var all []interaction.Received
			for _, one := range items(from, to) {
				all = append(all, createdAt(fromHistory(one), time.Now().Add(-window-time.Hour)))
			}
			return all
		}
		deliver(t, c, 0, 900, 100)
		require.NoError(t, imported.take(t.Context(), old(10_000, 20_000)...))
		assert.Len(t, imported.got, 10_000)
		assert.Zero(t, countUnknown(c, 0, 900))
		assert.Zero(t, c.CompleteFrom())

		require.NoError(t, imported.take(t.Context(), old(19_900, 20_000)...))
		assert.Len(t, imported.got, 10_000, "the newest of the import are known")

		deliver(t, c, 900, 1000, 100)
		assert.Zero(t, countUnknown(c, 0, 1000), "live entries evict those of the import")
		require.NoError(t, imported.take(t.Context(), old(10_000, 10_100)...))
		assert.Len(t, imported.got, 10_100, "which are delivered again")
		assert.Zero(t, countUnknown(c, 0, 1000), "and have no room")

		recent := createdAt(fromHistory(item("recent")), time.Now().Add(-time.Hour))
		require.NoError(t, imported.take(t.Context(), recent))
		assert.Zero(t, countUnknown(c, 0, 1000), "nor has what was created lately")
	})
}

func TestCache_MovesImportedEntryOnLiveChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * 24 * time.Hour)
		old := createdAt(item("1"), time.Now().Add(-window-time.Hour))
		client := newFakeClient()
		c, _ := load(t, client, nil)
		live, imported := newPipeline(c), newPipeline(c)
		imported.reserve = c.ReserveImport
		require.NoError(t, imported.take(t.Context(), fromHistory(old)))
		require.NoError(t, live.take(t.Context(), old))
		assert.Empty(t, live.changes(), "the import is known")
		require.NoError(t, live.take(t.Context(), updated(old, "9")))
		require.NoError(t, c.Save(t.Context()))

		c, _ = load(t, client, nil)
		p := newPipeline(c)
		require.NoError(t, p.take(t.Context(), resent(old), fromHistory(version(old, "9"))))
		assert.Empty(t, p.changes(), "the update is stored with what the import knew")
	})
}

func TestCache_MergesImportWithLiveEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * 24 * time.Hour)
		old := createdAt(item("1"), time.Now().Add(-window-time.Hour))
		c := newCache(t, nil)
		live, imported := newPipeline(c), newPipeline(c)
		imported.reserve = c.ReserveImport
		require.NoError(t, live.take(t.Context(), updated(old, "9")))
		require.NoError(t, imported.take(t.Context(), fromHistory(version(old, "9"))))
		assert.Equal(t, []string{"h:created"}, imported.changes())
		require.NoError(t, live.take(t.Context(), old, updated(old, "8")))
		assert.Equal(t, []string{"n:updated"}, live.changes())
	})
}

// numbered returns an item with digests that depend on n; it is cheap.
func numbered(n uint64) interaction.Received {
	r := response("session", "request", strconv.FormatUint(n, 10))
	r.Source = interaction.FromNotification
	binary.BigEndian.PutUint64(r.ContentDigest[:], n+1)
	return r
}

// heap returns the live heap in bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Not parallel: it measures the heap of the process.
func TestCache_NeedsStatedMemoryPerEntry(t *testing.T) {
	const stated, size = 190, 200
	most := uint64(200_000)
	if testing.Short() {
		most /= 10
	}
	c := newCache(t, func(set *dedupe.Settings) { set.MaxEntries = int(most) })
	batch := make([]interaction.Received, size)
	before := heap()
	worst := 0.0
	// The map grows in steps, so the worst moment counts; most of the time entries are evicted.
	for n := uint64(0); n < 3*most; n += size {
		for i := range batch {
			batch[i] = numbered(n + uint64(i))
		}
		c.Reserve(t.Context(), batch).Commit()
		if n >= most/2 && n%(most/20) == 0 {
			worst = max(worst, float64(heap()-before)/float64(min(n+size, most)))
		}
	}
	t.Logf("%.0f bytes for each entry", worst)
	assert.Less(t, worst, float64(stated))
	assert.Greater(t, worst, 96.0, "56 bytes in the queue and 20 for each digest in the index: less would not be an entry")
	assert.True(t, c.Known(batch[0].ContentDigest))
}
