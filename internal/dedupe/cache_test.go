package dedupe_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"strconv"
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
	for name, housekeeping := range map[string]bool{"with housekeeping": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out := &fakePipeline{}
				d := newDeduplicator(t, out, nil)
				ctx, cancel := context.WithCancel(t.Context())
				if housekeeping {
					go d.Run(ctx)
				}
				one, gone := []interaction.Received{item("1")}, []interaction.Received{deleted(item("2"))}
				require.NoError(t, d.Take(ctx, one))
				require.NoError(t, d.Take(ctx, gone))

				time.Sleep(26 * time.Hour)
				assert.True(t, d.Known(one[0].ContentDigest))
				require.NoError(t, d.Take(ctx, one))
				require.NoError(t, d.Take(ctx, []interaction.Received{fromHistory(item("2"))}))
				assert.Len(t, out.got, 2)

				time.Sleep(2 * time.Minute)
				assert.False(t, d.Known(one[0].ContentDigest), "a duplicate does not extend an entry")
				require.NoError(t, d.Take(ctx, one))
				require.NoError(t, d.Take(ctx, []interaction.Received{fromHistory(item("2"))}))
				assert.Equal(t, []string{"1", "2", "1", "2"}, out.ids())
				assert.True(t, d.Known(one[0].ContentDigest), "delivered again it is known again")

				time.Sleep(25 * time.Hour)
				assert.True(t, d.Known(one[0].ContentDigest), "the end of the first entry is not that of the second")
				cancel()
			})
		})
	}
}

func TestCache_KeepsDeletionSinceItsLastVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &fakePipeline{}
		d := newDeduplicator(t, out, nil)
		take := func(r interaction.Received) { require.NoError(t, d.Take(t.Context(), []interaction.Received{r})) }
		take(deleted(item("1")))
		time.Sleep(20 * time.Hour)
		take(deleted(updated(item("1"), "9")))
		time.Sleep(20 * time.Hour)
		take(item("3")) // expired entries are evicted now
		take(fromHistory(updated(item("1"), "5")))
		assert.Equal(t, []string{"1", "1", "3"}, out.ids())
	})
}

func TestCache_EvictsOldestEntry(t *testing.T) {
	t.Parallel()
	d := newDeduplicator(t, &fakePipeline{}, func(set *dedupe.Settings) { set.MaxEntries = 4000 })
	const all = 10_000
	for i := 0; i < all; i += 100 {
		require.NoError(t, d.Take(t.Context(), items(i, i+100)))
	}
	for i, one := range items(0, all) {
		assert.Equal(t, i >= all-4000, d.Known(one.ContentDigest), "%d", i)
	}
}

// numbered returns an item with digests that depend on n; it is cheap.
func numbered(n uint64) interaction.Received {
	r := response("session", "request", strconv.FormatUint(n, 10))
	r.Source = interaction.FromNotification
	binary.BigEndian.PutUint64(r.ContentDigest[:], n+1)
	return r
}

type discardPipeline struct{}

func (discardPipeline) Deliver(context.Context, []interaction.Received) error { return nil }

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
	const stated, most = 160, 200_000
	d := newDeduplicator(t, discardPipeline{}, func(set *dedupe.Settings) { set.MaxEntries = most })
	before := heap()
	batch := make([]interaction.Received, 1000)
	worst := 0.0
	// The map grows in steps, so the worst moment counts; most of the time entries are evicted.
	for n := uint64(0); n < 3*most; n += uint64(len(batch)) {
		for i := range batch {
			batch[i] = numbered(n + uint64(i))
		}
		require.NoError(t, d.Take(t.Context(), batch))
		if n >= most/2 && n%10_000 == 0 {
			worst = max(worst, float64(heap()-before)/float64(min(n+uint64(len(batch)), most)))
		}
	}
	t.Logf("%.0f bytes for each entry", worst)
	assert.Less(t, worst, float64(stated))
	assert.Greater(t, worst, 68.0, "36 bytes in the queue and 16 of each digest in the map: less would not be an entry")
	assert.True(t, d.Known(batch[0].ContentDigest))
}
