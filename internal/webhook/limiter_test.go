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

	t.Run("a request is charged 4 KiB however little it sends", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(3 * minReservation)
		reservation, ok := a.Reserve()
		require.True(t, ok)
		require.True(t, reservation.Grow(100))
		assert.EqualValues(t, minReservation, a.InUse())
	})

	t.Run("a share grows to what was read and never shrinks", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(3 * minReservation)
		reservation, _ := a.Reserve()
		require.True(t, reservation.Grow(minReservation+1))
		require.True(t, reservation.Grow(1))
		assert.EqualValues(t, minReservation+1, a.InUse())
	})

	t.Run("the limit can be reached but not passed", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(2 * minReservation)
		reservation, _ := a.Reserve()
		assert.False(t, reservation.Grow(2*minReservation+1))
		assert.EqualValues(t, minReservation, a.InUse(), "a refused growth takes nothing")
		assert.True(t, reservation.Grow(2*minReservation))
		_, ok := a.Reserve()
		assert.False(t, ok)
	})

	t.Run("releasing twice gives back once, and ends the share", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(2 * minReservation)
		first, _ := a.Reserve()
		_, ok := a.Reserve()
		require.True(t, ok)
		first.Release()
		first.Release()
		assert.EqualValues(t, minReservation, a.InUse())
		assert.False(t, first.Grow(1))
	})

	t.Run("a negative or overflowing amount is refused", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(10)
		require.True(t, a.Acquire(10))
		assert.False(t, a.Acquire(-1))
		assert.False(t, a.Acquire(1<<63-1))
		assert.EqualValues(t, 10, a.InUse())
	})

	t.Run("many requests at once stay within the limit and give everything back", func(t *testing.T) {
		t.Parallel()
		const limit = 10 * minReservation
		a := webhook.NewByteLimiter(limit)
		var workers sync.WaitGroup
		var over, admitted atomic.Int64
		for worker := range int64(32) {
			workers.Go(func() {
				for step := range int64(200) {
					reservation, ok := a.Reserve()
					if !ok {
						continue
					}
					admitted.Add(1)
					reservation.Grow(worker * step * 13)
					if inUse := a.InUse(); inUse < minReservation || inUse > limit {
						over.Add(1)
					}
					reservation.Release()
				}
			})
		}
		workers.Wait()
		assert.Positive(t, admitted.Load())
		assert.Zero(t, over.Load())
		assert.Zero(t, a.InUse())
	})
}

// FuzzByteLimiter plays any sequence of requests: it is never over the limit, never negative, and zero at the end.
func FuzzByteLimiter(f *testing.F) {
	f.Add(uint16(3), []byte{0, 1, 255, 2, 0, 2, 2, 1, 7})
	f.Add(uint16(0), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, kibibytes uint16, steps []byte) {
		limit := int64(kibibytes) << 10
		a := webhook.NewByteLimiter(limit)
		var reservations []*webhook.Reservation
		expected := map[*webhook.Reservation]int64{}
		for i, step := range steps {
			switch {
			case step%3 == 0 || len(reservations) == 0:
				if reservation, ok := a.Reserve(); ok {
					reservations = append(reservations, reservation)
					expected[reservation] = minReservation
				}
			case step%3 == 1:
				reservation, total := reservations[i%len(reservations)], int64(step)<<8
				if reservation.Grow(total) {
					require.Contains(t, expected, reservation, "a released share holds nothing")
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
			require.Equal(t, sum, a.InUse())
			require.LessOrEqual(t, sum, limit)
		}
		for _, reservation := range reservations {
			reservation.Release()
		}
		require.Zero(t, a.InUse())
	})
}
