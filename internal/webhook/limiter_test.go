package webhook_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

const minReservation = 4 << 10

func TestByteLimiter_CountsBytes(t *testing.T) {
	t.Parallel()

	t.Run("a request reserves at least 4 KiB", func(t *testing.T) {
		t.Parallel()
		limiter := webhook.NewByteLimiter(3*minReservation, 0)
		reservation, ok := limiter.Reserve()
		require.True(t, ok)
		require.True(t, reservation.Grow(100))
		assert.EqualValues(t, minReservation, limiter.InUse())
	})

	t.Run("a reservation grows and never shrinks", func(t *testing.T) {
		t.Parallel()
		limiter := webhook.NewByteLimiter(3*minReservation, 0)
		reservation, _ := limiter.Reserve()
		require.True(t, reservation.Grow(minReservation+1))
		require.True(t, reservation.Grow(1))
		assert.EqualValues(t, minReservation+1, limiter.InUse())
	})

	t.Run("the limit can be reached but not exceeded", func(t *testing.T) {
		t.Parallel()
		limiter := webhook.NewByteLimiter(2*minReservation, 0)
		reservation, _ := limiter.Reserve()
		assert.False(t, reservation.Grow(2*minReservation+1))
		assert.EqualValues(t, minReservation, limiter.InUse(), "a refused growth takes nothing")
		assert.True(t, reservation.Grow(2*minReservation))
		_, ok := limiter.Reserve()
		assert.False(t, ok)
	})

	t.Run("a second release does nothing, and a released reservation cannot grow", func(t *testing.T) {
		t.Parallel()
		limiter := webhook.NewByteLimiter(2*minReservation, 0)
		first, _ := limiter.Reserve()
		_, ok := limiter.Reserve()
		require.True(t, ok)
		first.Release()
		first.Release()
		assert.EqualValues(t, minReservation, limiter.InUse())
		assert.False(t, first.Grow(1))
	})

	t.Run("a negative or overflowing amount is refused", func(t *testing.T) {
		t.Parallel()
		limiter := webhook.NewByteLimiter(10, 0)
		require.True(t, limiter.Acquire(10))
		assert.False(t, limiter.Acquire(-1))
		assert.False(t, limiter.Acquire(1<<63-1))
		assert.EqualValues(t, 10, limiter.InUse())
	})

	t.Run("concurrent requests stay within the limit and release everything", func(t *testing.T) {
		t.Parallel()
		const limit = 10 * minReservation
		limiter := webhook.NewByteLimiter(limit, 0)
		var workers sync.WaitGroup
		var over, admitted atomic.Int64
		for worker := range int64(32) {
			workers.Go(func() {
				for step := range int64(200) {
					reservation, ok := limiter.Reserve()
					if !ok {
						continue
					}
					admitted.Add(1)
					reservation.Grow(worker * step * 13)
					if inUse := limiter.InUse(); inUse < minReservation || inUse > limit {
						over.Add(1)
					}
					reservation.Release()
				}
			})
		}
		workers.Wait()
		assert.Positive(t, admitted.Load())
		assert.Zero(t, over.Load())
		assert.Zero(t, limiter.InUse())
	})
}

// FuzzByteLimiter runs any sequence of calls: the bytes in use never exceed the limit or become negative, and are 0 at the end.
func FuzzByteLimiter(f *testing.F) {
	f.Add(uint16(3), []byte{0, 1, 255, 2, 0, 2, 2, 1, 7})
	f.Add(uint16(0), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, kibibytes uint16, steps []byte) {
		limit := int64(kibibytes) << 10
		limiter := webhook.NewByteLimiter(limit, 0)
		var reservations []*webhook.Reservation
		expected := map[*webhook.Reservation]int64{}
		for i, step := range steps {
			switch {
			case step%3 == 0 || len(reservations) == 0:
				if reservation, ok := limiter.Reserve(); ok {
					reservations = append(reservations, reservation)
					expected[reservation] = minReservation
				}
			case step%3 == 1:
				reservation, total := reservations[i%len(reservations)], int64(step)<<8
				if reservation.Grow(total) {
					require.Contains(t, expected, reservation, "a released reservation holds nothing")
					expected[reservation] = max(expected[reservation], total)
				}
			default:
				reservation := reservations[i%len(reservations)]
				reservation.Release()
				delete(expected, reservation)
			}
			var sum int64
			for _, held := range expected {
				sum += held
			}
			require.Equal(t, sum, limiter.InUse())
			require.LessOrEqual(t, sum, limit)
		}
		for _, reservation := range reservations {
			reservation.Release()
		}
		require.Zero(t, limiter.InUse())
	})
}

// A body of the largest size fits into a limit that is less than twice as large, so that no genuine one is refused for ever.
func TestByteLimiter_AdmitsOneLargestBody(t *testing.T) {
	t.Parallel()
	const largest = 20 << 20
	limiter := webhook.NewByteLimiter(webhook.MinInFlightBytes(largest), largest)
	first, ok := limiter.Reserve()
	require.True(t, ok)
	assert.True(t, first.Grow(largest))
	second, ok := limiter.Reserve()
	require.True(t, ok)
	assert.False(t, second.Grow(128<<10), "the rest is for small bodies")
	assert.True(t, second.Grow(64<<10))
}
