package dedupe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func BenchmarkTakeOfTenNewItems(b *testing.B) {
	for name, kept := range map[string]*store{"in memory": nil, "with a store": newStore()} {
		b.Run(name, func(b *testing.B) {
			in := newIntake(b, sink{}, func(set *dedupe.Settings) {
				set.MaxEntries = 1_000_000
				if kept != nil {
					set.Store = kept
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
				if err := in.Take(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKnown(b *testing.B) {
	in := newIntake(b, sink{}, nil)
	one := numbered(1)
	require.NoError(b, in.Take(b.Context(), []interaction.Received{one}))
	for b.Loop() {
		if !in.Known(one.ContentDigest) {
			b.Fatal("not known")
		}
	}
}

func BenchmarkLoadOfAMillionEntries(b *testing.B) {
	kept := newStore()
	million := func(set *dedupe.Settings) { set.MaxEntries = 1_000_000 }
	in, _ := start(b, sink{}, kept, million)
	batch := make([]interaction.Received, 1000)
	for n := uint64(0); n < 1_000_000; n += 1000 {
		for i := range batch {
			batch[i] = numbered(n + uint64(i))
		}
		require.NoError(b, in.Take(b.Context(), batch))
	}
	last := batch[999]
	for b.Loop() {
		in, _ = start(b, sink{}, kept, million)
	}
	require.True(b, in.Known(last.ContentDigest))
}
