// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func FuzzExpirationRoundTrip(f *testing.F) {
	f.Add(int64(1764842400), int64(123_456_700))
	f.Add(int64(0), int64(0))
	f.Fuzz(func(t *testing.T, seconds, nanoseconds int64) {
		want := time.Unix(seconds%250_000_000_000, nanoseconds%1_000_000_000).UTC()
		if want.Year() < 1 || want.Year() > 9999 {
			return
		}
		west := want.In(time.FixedZone("", -8*3600)).Format("2006-01-02T15:04:05.000000000Z07:00")
		for _, text := range []string{want.Format(time.RFC3339Nano), west} {
			got := wireSubscription{Expiration: text}.expiration(time.Time{})
			assert.True(t, got.Equal(want), "%s is %s", text, got)
			assert.Equal(t, time.UTC, got.Location())
		}
		got := wireSubscription{Expiration: formatTime(want)}.expiration(time.Time{})
		assert.False(t, got.After(want))
		assert.Less(t, want.Sub(got), time.Second)
	})
}

func TestExpiration_FallsBackWhereThereIsNone(t *testing.T) {
	t.Parallel()
	otherwise := time.Date(2025, 12, 4, 10, 0, 0, 0, time.UTC)
	for _, text := range []string{"", "NA", "soon", "2025-12-04", "2025-12-04T10:00:00"} {
		assert.Equal(t, otherwise, wireSubscription{Expiration: text}.expiration(otherwise), text)
	}
}
