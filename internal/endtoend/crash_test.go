// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"math/rand/v2"
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
// notifications are tried, and the share is that of both. In the end a reconciliation proves that nothing is missing; it may
// repeat what was delivered just before a crash.
//
//nolint:paralleltest // other tests would make those milliseconds longer, by holding the disk and the processors
func TestCrash_TenCrashesLoseNothing(t *testing.T) {
	skipIfShort(t, "it crashes collectors for minutes")
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

const (
	// crashPace is the time between two publications of crashBatch interactions. It is half a million an hour, more than a
	// large organization has.
	crashPace  = 75 * time.Millisecond
	crashBatch = 10
)

// crashRepeatedly kills a collector repeatedly while interactions arrive, and returns how many were delivered twice.
func crashRepeatedly(t *testing.T, size int) int {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	// The interval is longer than the publication takes, two and a half minutes, so one reconciliation compares all of it. The delay
	// is longer than a busy machine takes to deliver it.
	h := newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {reconcile: {interval: 3m, delay: 30s}}
`, withDirectory, func(settings *graphtest.Settings) { settings.BatchSize = size })
	runs := []*process{h.run(t)}
	h.awaitConfirmed(t)

	var in []graphtest.Interaction
	const span = crashTotal / crashBatch * crashPace / crashes
	begun, nextCrash := time.Now(), time.Duration(random.Int64N(int64(span)))
	ticker := time.NewTicker(crashPace)
	defer ticker.Stop()
	for len(in) < crashTotal {
		<-ticker.C
		begin := len(in)
		for i := begin; i < begin+crashBatch; i++ {
			in = append(in, prompt(t, i, user(i%100), time.Now()))
		}
		h.publish(t, in[begin:]...)
		if len(runs) <= crashes && time.Since(begun) >= nextCrash {
			runs[len(runs)-1].kill()
			runs = append(runs, h.run(t))
			nextCrash += time.Duration(random.Int64N(int64(span)))
		}
	}
	require.Len(t, runs, 1+crashes)
	h.backend.await(t, interactionKeys(t, in...), 2*time.Minute)
	before := h.backend.duplicates()

	runs[len(runs)-1].awaitReconciled(t, time.Now(), 10*time.Minute)
	var results []loggedReconciliation
	for _, run := range runs {
		results = append(results, run.reconciliations(t)...)
		assert.Empty(t, readForOtherReasons(run), "nothing had to be backfilled")
	}
	compared, recovered := 0, 0
	for _, r := range results {
		assert.Equal(t, "complete", r.Result)
		compared += r.Interactions
		recovered += r.Recovered
	}
	t.Logf("%d came twice, and %d more by the reconciliation: %+v", before, h.backend.duplicates()-before, results)
	assert.Equal(t, crashTotal, compared)
	assert.Zero(t, recovered, "what was acknowledged to Graph survived")
	assert.Zero(t, h.emulator.Stats().Lost)
	return h.backend.duplicates()
}
