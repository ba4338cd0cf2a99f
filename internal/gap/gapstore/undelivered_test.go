// SPDX-License-Identifier: Apache-2.0

package gapstore_test

import (
	"encoding/binary"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
)

// tracking is an Undelivered with the store of its gaps.
type tracking struct {
	*harness
	*gapstore.Undelivered
}

func track(t *testing.T, c *client) tracking {
	t.Helper()
	time.Sleep(time.Until(time.Date(2026, time.March, 10, 0, 0, 0, 0, time.UTC))) // ids of 2000, where a bubble begins, are no times
	h := nextRun(t, c)
	return tracking{h, gapstore.NewUndelivered(h.Store)}
}

func digest(n int) (d gapstore.Digest) {
	binary.BigEndian.PutUint32(d[:], uint32(n))
	return d
}

func id(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// minutes returns the beginnings of the gaps, as minutes from a time.
func (tr tracking) minutes(from time.Time) []int {
	found := []int{}
	for _, g := range tr.gaps() {
		for at := g.From; at.Before(g.To); at = at.Add(time.Minute) {
			found = append(found, int(at.Sub(from.Truncate(time.Minute)).Minutes()))
		}
	}
	return found
}

func TestUndelivered_OpensGapsWhereGraphGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := track(t, newClient())
		start := time.Now()
		tr.Track(digest(1), id(start), start)
		tr.Track(digest(2), id(start.Add(-10*time.Minute)), start)
		tr.Resolve(digest(2))
		tr.Track(digest(1), id(start), start.Add(time.Hour)) // the first refusal counts
		time.Sleep(4*time.Hour + 29*time.Minute)
		tr.Save(t.Context())
		assert.Empty(t, tr.gaps())
		time.Sleep(time.Minute)
		tr.Save(t.Context())
		assert.Equal(t, []int{0}, tr.minutes(start))
	})
}

func TestUndelivered_TracksTheMinuteOfTheID(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		id   func(now time.Time) string
		want int
	}{
		"an hour ago":                {func(now time.Time) string { return id(now.Add(-time.Hour)) }, -60},
		"ahead of the clock":         {func(now time.Time) string { return id(now.Add(time.Hour)) }, 60},
		"more than a day ahead: now": {func(now time.Time) string { return id(now.Add(25 * time.Hour)) }, 0},
		"no time: now":               {func(time.Time) string { return "x" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := track(t, newClient())
				start := time.Now()
				tr.Track(digest(1), test.id(start), start)
				time.Sleep(5 * time.Hour)
				tr.Save(t.Context())
				assert.Equal(t, []int{test.want}, tr.minutes(start))
			})
		})
	}
}

func TestUndelivered_IsWrittenOnlyWhenChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := track(t, newClient())
		now := time.Now()
		save := func() {
			tr.Save(t.Context())
			require.NoError(t, tr.Flush(t.Context()))
		}
		require.NoError(t, tr.Flush(t.Context()))
		before := tr.client.written()
		save()
		assert.Equal(t, before, tr.client.written())
		tr.Track(digest(1), id(now), now)
		tr.Track(digest(2), id(now), now)
		save()
		save()
		assert.Equal(t, before+1, tr.client.written())
		tr.Resolve(digest(1))
		save()
		assert.Equal(t, before+1, tr.client.written(), "the minute is still tracked")
		tr.Resolve(digest(2))
		save()
		assert.Equal(t, before+2, tr.client.written())
	})
}

func TestUndelivered_MinutesSurviveARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		tr := track(t, c)
		start := time.Now()
		tr.Track(digest(1), id(start), start)
		tr.Save(t.Context())
		require.NoError(t, tr.Flush(t.Context()))
		time.Sleep(4 * time.Hour)
		next := track(t, c)
		next.Save(t.Context())
		assert.Empty(t, next.gaps())
		time.Sleep(30 * time.Minute)
		next.Save(t.Context())
		assert.Equal(t, []int{0}, next.minutes(start))
		assert.Empty(t, track(t, c).logs.All())
	})
}

// A crash finds the minute or its gap, whatever was written last.
func TestUndelivered_IsForgottenWhenTheGapIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		tr := track(t, c)
		start := time.Now()
		tr.Track(digest(1), id(start), start)
		tr.Save(t.Context())
		require.NoError(t, tr.Flush(t.Context()))
		time.Sleep(5 * time.Hour)
		c.fail(errBroken)
		tr.Save(t.Context())
		require.Error(t, tr.Flush(t.Context()))
		assert.Equal(t, []int{0}, tr.minutes(start), "in memory")
		tr.Update(t.Context(), func(s *gap.State, now time.Time) {
			s.Begin(gap.Users{Listed: true}, now)
			s.Finish(gap.End{}, now)
		})
		tr.Save(t.Context())
		assert.Empty(t, tr.gaps(), "what was read is not opened again")
		c.fail(nil)
		next := track(t, c) // after a crash
		assert.Empty(t, next.gaps())
		next.Save(t.Context())
		assert.Equal(t, []int{0}, next.minutes(start))
		require.NoError(t, next.Flush(t.Context()))
		last := track(t, c)
		last.Save(t.Context())
		assert.Equal(t, []int{0}, last.minutes(start), "it is stored, once")
	})
}

func TestUndelivered_FirstRefusalAheadOfTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := track(t, newClient())
		now := time.Now()
		tr.Track(digest(1), id(now), now.Add(24*time.Hour))
		tr.Save(t.Context())
		assert.Equal(t, []int{0}, tr.minutes(now))
	})
}

func TestUndelivered_OfFurtherItemsOnlyTheMinuteIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := track(t, newClient())
		start := time.Now()
		for n := range 100_001 {
			tr.Track(digest(n), id(start), start)
		}
		tr.Track(digest(200_000), id(start.Add(-time.Hour)), start)
		for n := range 100_001 {
			tr.Resolve(digest(n))
		}
		tr.Resolve(digest(200_000))
		time.Sleep(5 * time.Hour)
		tr.Save(t.Context())
		assert.Equal(t, []int{-60, 0}, tr.minutes(start), "it is unknown whether they were delivered")
	})
}
