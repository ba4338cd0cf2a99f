// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestByteLimiter_CountsBytes(t *testing.T) {
	t.Parallel()

	t.Run("a request reserves at least 4 KiB", func(t *testing.T) {
		t.Parallel()
		limiter := newByteLimiter(3*minReservation, 0)
		reservation, ok := limiter.reserve()
		require.True(t, ok)
		require.True(t, reservation.grow(100))
		assert.EqualValues(t, minReservation, limiter.inUse())
	})

	t.Run("a reservation grows and never shrinks", func(t *testing.T) {
		t.Parallel()
		limiter := newByteLimiter(3*minReservation, 0)
		reservation, _ := limiter.reserve()
		require.True(t, reservation.grow(minReservation+1))
		require.True(t, reservation.grow(1))
		assert.EqualValues(t, minReservation+1, limiter.inUse())
	})

	t.Run("the limit can be reached but not exceeded", func(t *testing.T) {
		t.Parallel()
		limiter := newByteLimiter(2*minReservation, 0)
		reservation, _ := limiter.reserve()
		assert.False(t, reservation.grow(2*minReservation+1))
		assert.EqualValues(t, minReservation, limiter.inUse(), "a refused growth takes nothing")
		assert.True(t, reservation.grow(2*minReservation))
		_, ok := limiter.reserve()
		assert.False(t, ok)
	})

	t.Run("an overflowing amount is refused, and a negative one changes nothing", func(t *testing.T) {
		t.Parallel()
		limiter := newByteLimiter(2*minReservation, 0)
		reservation, _ := limiter.reserve()
		assert.False(t, reservation.grow(math.MaxInt64))
		assert.True(t, reservation.grow(math.MinInt64))
		assert.EqualValues(t, minReservation, limiter.inUse())
		reservation.release()
		assert.Zero(t, limiter.inUse())
	})

	t.Run("concurrent requests stay within the limit and release everything", func(t *testing.T) {
		t.Parallel()
		const limit = 10 * minReservation
		limiter := newByteLimiter(limit, 0)
		var workers sync.WaitGroup
		var over, admitted atomic.Int64
		for worker := range int64(32) {
			workers.Go(func() {
				for step := range int64(200) {
					reservation, ok := limiter.reserve()
					if !ok {
						continue
					}
					admitted.Add(1)
					reservation.grow(worker * step * 13)
					if inUse := limiter.inUse(); inUse < minReservation || inUse > limit {
						over.Add(1)
					}
					reservation.release()
				}
			})
		}
		workers.Wait()
		assert.Positive(t, admitted.Load())
		assert.Zero(t, over.Load())
		assert.Zero(t, limiter.inUse())
	})
}

// FuzzByteLimiter runs any sequence of calls: the bytes in use never exceed the limit or become negative, and are 0 at the end.
func FuzzByteLimiter(f *testing.F) {
	f.Add(uint16(3), []byte{0, 1, 255, 2, 0, 2, 2, 1, 7})
	f.Add(uint16(0), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, kibibytes uint16, steps []byte) {
		limit := int64(kibibytes) << 10
		limiter := newByteLimiter(limit, 0)
		var reservations []*reservation
		expected := map[*reservation]int64{}
		for i, step := range steps {
			switch {
			case step%3 == 0 || len(reservations) == 0:
				if reservation, ok := limiter.reserve(); ok {
					reservations = append(reservations, reservation)
					expected[reservation] = minReservation
				}
			case step%3 == 1:
				reservation, total := reservations[i%len(reservations)], int64(step)<<8
				if reservation.grow(total) {
					expected[reservation] = max(expected[reservation], total)
				}
			default:
				released := i % len(reservations)
				reservations[released].release()
				delete(expected, reservations[released])
				reservations = slices.Delete(reservations, released, released+1)
			}
			var sum int64
			for _, held := range expected {
				sum += held
			}
			require.Equal(t, sum, limiter.inUse())
			require.LessOrEqual(t, sum, limit)
		}
		for _, reservation := range reservations {
			reservation.release()
		}
		require.Zero(t, limiter.inUse())
	})
}

// A Content-Length gets a sender no memory, but makes the buffer of what arrived no larger than necessary.
func TestReadBody_BufferGrowsWithArrivedBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		announced    int64
		sent, atMost int
	}{
		{-1, 0, minReservation},
		{20 << 20, 10, minReservation},
		{20 << 20, 5000, 4 * minReservation},
		{20 << 20, 300_000, 2 * 300_000},
		{5000, 5000, 5001},
		{300_000, 300_000, 300_001},
		{10, 5000, 4 * minReservation},
	} {
		reservation, _ := newByteLimiter(4<<20, 0).reserve()
		body, err := readBody(iotest.DataErrReader(bytes.NewReader(make([]byte, test.sent))), test.announced, reservation)
		require.NoError(t, err)
		assert.Len(t, body, test.sent)
		assert.LessOrEqual(t, cap(body), test.atMost, "%+v", test)
	}
}

// A body of the largest size fits into a limit that is less than twice as large, so that no genuine one is refused for ever.
func TestByteLimiter_AdmitsOneLargestBody(t *testing.T) {
	t.Parallel()
	const largest = 20 << 20
	limiter := newByteLimiter(MinInFlightBytes(largest), largest)
	first, ok := limiter.reserve()
	require.True(t, ok)
	assert.True(t, first.grow(largest))
	second, ok := limiter.reserve()
	require.True(t, ok)
	assert.False(t, second.grow(128<<10), "the rest is for small bodies")
	assert.True(t, second.grow(64<<10))
}

// Large bodies can't keep out small ones until an item of ours was found in them.
func TestByteLimiter_LimitsLargeForeignBodies(t *testing.T) {
	t.Parallel()
	const limit, large = 2 << 20, 300 << 10
	limiter := newByteLimiter(limit, large)
	first, _ := limiter.reserve()
	require.True(t, first.grow(large))
	second, _ := limiter.reserve()
	assert.False(t, second.grow(large), "together they would hold more than a quarter")
	assert.True(t, second.grow(200<<10))
	small, _ := limiter.reserve()
	assert.True(t, small.grow(64<<10))
	require.True(t, first.growOwn(400<<10))
	assert.True(t, second.grow(large), "what has an item of ours does not count")
	second.release()
	third, _ := limiter.reserve()
	assert.True(t, third.grow(500<<10), "what was released does not count")
}
