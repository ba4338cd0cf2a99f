package endtoend_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	crashTotal = 20_000
	crashes    = 10
)

// A crash repeats what the exporter was sending, the interactions of one notification, if it happens in the two or three
// milliseconds in which the backend has them and the exporter's queue does not know yet, or the queue has them and the
// receiver does not know yet. How many interactions Graph puts into one notification is not documented, so small and large
// notifications are tried, and the share is that of both.
//
//nolint:paralleltest // other tests would make those milliseconds longer, by holding the disk and the processors
func TestCrash_TenCrashesLoseNothing(t *testing.T) {
	sizes := []int{1, 10}
	repeated := make([]int, len(sizes))
	t.Run("with notifications of", func(t *testing.T) {
		for i, size := range sizes {
			t.Run(strconv.Itoa(size), func(t *testing.T) {
				t.Parallel()
				repeated[i] = crashRepeatedly(t, size)
			})
		}
	})
	all, total := 0, len(sizes)*crashTotal
	for _, n := range repeated {
		all += n
	}
	t.Logf("of %d interactions %d came twice, by the size of the notifications %d: %v", total, all, sizes, repeated)
	assert.Less(t, all, total/1000)
}

// crashRepeatedly kills a collector repeatedly while interactions arrive, and returns how many were delivered twice.
func crashRepeatedly(t *testing.T, size int) int {
	t.Helper()
	const (
		// Half a million an hour, more than a large organization has.
		pace = 75 * time.Millisecond
		each = 10
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	h := newHarness(t, "", func(settings *graphtest.Settings) { settings.BatchSize = size })
	collector := h.run(t)
	h.awaitSubscribed(t)

	in := prompts(t, crashTotal, 100)
	published := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		var failed error
		for batch := range slices.Chunk(in, each) {
			<-ticker.C
			_, err := h.emulator.Publish(t.Context(), batch...)
			failed = errors.Join(failed, err)
		}
		published <- failed
	}()
	span := time.Duration(crashTotal/each) * pace / crashes
	for range crashes {
		<-time.After(time.Duration(random.Int64N(int64(span))))
		collector.kill()
		collector = h.run(t)
	}
	require.NoError(t, <-published)
	h.backend.await(t, interactionKeys(t, in...), 2*time.Minute)
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "nothing had to be backfilled: what was acknowledged to Graph survived")
	return h.backend.duplicates()
}
