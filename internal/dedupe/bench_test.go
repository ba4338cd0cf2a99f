package dedupe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func BenchmarkTake(b *testing.B) {
	for name, store := range map[string]*fakeStore{"in memory": nil, "with a store": newFakeStore()} {
		b.Run(name, func(b *testing.B) {
			d := newDeduplicator(b, discardPipeline{}, func(set *dedupe.Settings) {
				set.MaxEntries = 1_000_000
				if store != nil {
					set.Store = store
				}
			})
			batch := make([]interaction.Received, 10)
			n := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range batch {
					batch[i] = numbered(n)
					n++
				}
				b.StartTimer()
				if err := d.Take(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKnown(b *testing.B) {
	d := newDeduplicator(b, discardPipeline{}, nil)
	one := numbered(1)
	require.NoError(b, d.Take(b.Context(), []interaction.Received{one}))
	for b.Loop() {
		if !d.Known(one.ContentDigest) {
			b.Fatal("not known")
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	store := newFakeStore()
	million := func(set *dedupe.Settings) { set.MaxEntries = 1_000_000 }
	d, _ := start(b, discardPipeline{}, store, million)
	batch := make([]interaction.Received, 1000)
	for n := uint64(0); n < 1_000_000; n += 1000 {
		for i := range batch {
			batch[i] = numbered(n + uint64(i))
		}
		require.NoError(b, d.Take(b.Context(), batch))
	}
	last := batch[999]
	for b.Loop() {
		d, _ = start(b, discardPipeline{}, store, million)
	}
	require.True(b, d.Known(last.ContentDigest))
}
