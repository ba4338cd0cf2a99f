// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func withMillionEntries(set *dedupe.Settings) { set.MaxEntries = 1_000_000 }

func BenchmarkReserveAndCommit(b *testing.B) {
	for name, stored := range map[string]bool{"in memory": false, "with a store": true} {
		b.Run(name, func(b *testing.B) {
			c := newCache(b, withMillionEntries)
			if stored {
				c, _ = load(b, newFakeClient(), withMillionEntries)
				defer run(b, c)()
			}
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
				r := c.Reserve(b.Context(), batch)
				r.Commit()
				if again, err := r.Wait(b.Context()); len(again) > 0 || err != nil {
					b.Fatal(again, err)
				}
			}
		})
	}
}

func BenchmarkKnown(b *testing.B) {
	c := newCache(b, nil)
	one := numbered(1)
	c.Reserve(b.Context(), []interaction.Received{one}).Commit()
	for b.Loop() {
		if !c.Known(one.ContentDigest) {
			b.Fatal("not known")
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	client := newFakeClient()
	c, _ := load(b, client, withMillionEntries)
	batch := make([]interaction.Received, 1000)
	for n := uint64(0); n < 1_000_000; n += 1000 {
		for i := range batch {
			batch[i] = numbered(n + uint64(i))
		}
		c.Reserve(b.Context(), batch).Commit()
	}
	require.NoError(b, c.Save(b.Context()))
	for b.Loop() {
		c, _ = load(b, client, withMillionEntries)
	}
	require.True(b, c.Known(batch[999].ContentDigest))
}
