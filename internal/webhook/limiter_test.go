package webhook_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

const minimumShare = 4 << 10

func TestAdmission(t *testing.T) {
	t.Parallel()

	t.Run("a request is charged 4 KiB however little it sends", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(3 * minimumShare)
		share, ok := a.Admit()
		require.True(t, ok)
		require.True(t, share.Grow(100))
		assert.EqualValues(t, minimumShare, a.InUse())
	})

	t.Run("a share grows to what was read and never shrinks", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(3 * minimumShare)
		share, _ := a.Admit()
		require.True(t, share.Grow(minimumShare+1))
		require.True(t, share.Grow(1))
		assert.EqualValues(t, minimumShare+1, a.InUse())
	})

	t.Run("the limit can be reached but not passed", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(2 * minimumShare)
		share, _ := a.Admit()
		assert.False(t, share.Grow(2*minimumShare+1))
		assert.EqualValues(t, minimumShare, a.InUse(), "a refused growth takes nothing")
		assert.True(t, share.Grow(2*minimumShare))
		_, ok := a.Admit()
		assert.False(t, ok)
	})

	t.Run("releasing twice gives back once, and ends the share", func(t *testing.T) {
		t.Parallel()
		a := webhook.NewByteLimiter(2 * minimumShare)
		first, _ := a.Admit()
		_, ok := a.Admit()
		require.True(t, ok)
		first.Release()
		first.Release()
		assert.EqualValues(t, minimumShare, a.InUse())
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
		const limit = 10 * minimumShare
		a := webhook.NewByteLimiter(limit)
		var workers sync.WaitGroup
		var over, admitted atomic.Int64
		for worker := range int64(32) {
			workers.Go(func() {
				for step := range int64(200) {
					share, ok := a.Admit()
					if !ok {
						continue
					}
					admitted.Add(1)
					share.Grow(worker * step * 13)
					if inUse := a.InUse(); inUse < minimumShare || inUse > limit {
						over.Add(1)
					}
					share.Release()
				}
			})
		}
		workers.Wait()
		assert.Positive(t, admitted.Load())
		assert.Zero(t, over.Load())
		assert.Zero(t, a.InUse())
	})
}

// FuzzAdmission plays any sequence of requests: it is never over the limit, never negative, and zero at the end.
func FuzzAdmission(f *testing.F) {
	f.Add(uint16(3), []byte{0, 1, 255, 2, 0, 2, 2, 1, 7})
	f.Add(uint16(0), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, kibibytes uint16, steps []byte) {
		limit := int64(kibibytes) << 10
		a := webhook.NewByteLimiter(limit)
		var shares []*webhook.Reservation
		expected := map[*webhook.Reservation]int64{}
		for i, step := range steps {
			switch {
			case step%3 == 0 || len(shares) == 0:
				if share, ok := a.Admit(); ok {
					shares = append(shares, share)
					expected[share] = minimumShare
				}
			case step%3 == 1:
				share, total := shares[i%len(shares)], int64(step)<<8
				if share.Grow(total) {
					require.Contains(t, expected, share, "a released share holds nothing")
					expected[share] = max(expected[share], total)
				}
			default:
				share := shares[i%len(shares)]
				share.Release()
				delete(expected, share)
			}
			var sum int64
			for _, held := range expected {
				sum += held
			}
			require.Equal(t, sum, a.InUse())
			require.LessOrEqual(t, sum, limit)
		}
		for _, share := range shares {
			share.Release()
		}
		require.Zero(t, a.InUse())
	})
}
