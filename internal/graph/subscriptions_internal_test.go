package graph

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func FuzzParseTimeRoundTrip(f *testing.F) {
	f.Add(int64(1764842400), int64(123_456_700))
	f.Add(int64(0), int64(0))
	f.Fuzz(func(t *testing.T, seconds, nanoseconds int64) {
		want := time.Unix(seconds%250_000_000_000, nanoseconds%1_000_000_000).UTC()
		if want.Year() < 0 || want.Year() > 9999 {
			return
		}
		west := want.In(time.FixedZone("", -8*3600)).Format("2006-01-02T15:04:05.000000000Z07:00")
		for _, text := range []string{
			want.Format(time.RFC3339Nano), west, strings.ToLower(want.Format(time.RFC3339Nano)), want.Format("2006-01-02T15:04:05.000000000"),
		} {
			if got, ok := parseTime(text); assert.True(t, ok, text) {
				assert.True(t, got.Equal(want), "%s is %s", text, got)
				assert.Equal(t, time.UTC, got.Location())
			}
		}
		if got, ok := parseTime(formatTime(want)); assert.True(t, ok) {
			assert.False(t, got.After(want))
			assert.Less(t, want.Sub(got), time.Second)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, text := range []string{"2025-12-04T10:00:00.0000000+00:00", " 2025-12-04t10:00:00z", "NA", "", "2025-12-04T10:00:00.12345678901234Z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := parseTime(text); !ok {
			assert.True(t, got.IsZero())
		}
	})
}
