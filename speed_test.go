package m365copilotreceiver

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// answers sends n notifications of one interaction each over as many connections as senders, and returns how long
// each answer took, the longest last.
func answers(t *testing.T, w *harness, senders, n int, wantStatus int) []time.Duration {
	t.Helper()
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)
	next := make(chan graphtest.Collection, n)
	for _, each := range turns(n) {
		// Sealed before the clock runs: that is Graph's work, and here on the same processors.
		c, err := w.emulator.Collection(each)
		require.NoError(t, err)
		next <- c
	}
	close(next)
	for range senders {
		all.Go(func() {
			for c := range next {
				begun := time.Now()
				status, err := w.emulator.Post(t.Context(), c)
				passed := time.Since(begun)
				assert.Equal(t, wantStatus, status, err)
				mu.Lock()
				took = append(took, passed)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

func TestAnswersAreQuickWith64Connections(t *testing.T) {
	w := newHarness(t)
	w.run(t)
	took := answers(t, w, 64, 2000, 202)
	require.Len(t, took, 2000)
	p99 := took[len(took)*99/100]
	t.Logf("64 connections, %d notifications: median %s, p99 %s, longest %s", len(took), took[len(took)/2], p99, took[len(took)-1])
	assert.Less(t, p99, time.Second)
	assert.Len(t, w.records(), 2000)
}

func TestEveryAnswerComesInTimeWhileThePipelineBlocks(t *testing.T) {
	w := newHarness(t)
	release := make(chan struct{})
	blocked, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
		<-release
		return w.logs.ConsumeLogs(ctx, logs)
	})
	require.NoError(t, err)
	w.nextLogs = blocked
	w.run(t)
	took := answers(t, w, 64, 128, 503)
	longest := took[len(took)-1]
	t.Logf("64 connections, a blocked pipeline: longest %s", longest)
	assert.Less(t, longest, 3*time.Second)
	close(release)
	w.stop(t)
	assert.Len(t, w.records(), 128, "the calls went on, and the pipeline took everything in the end")
}
