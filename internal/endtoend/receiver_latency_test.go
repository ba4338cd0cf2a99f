// SPDX-License-Identifier: Apache-2.0

package endtoend_test

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

// postAll posts n notifications of one interaction each over as many connections as senders, and returns the durations of
// the answers, the longest last.
func postAll(t *testing.T, h *harness, senders, n int, wantStatus int) []time.Duration {
	t.Helper()
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)
	next := make(chan graphtest.Collection, n)
	for _, each := range newTurns(n) {
		// Encrypted before the measurement, since that is Graph's work.
		c, err := h.emulator.Collection(each)
		require.NoError(t, err)
		next <- c
	}
	close(next)
	for range senders {
		all.Go(func() {
			for c := range next {
				begun := time.Now()
				status, err := h.emulator.Post(t.Context(), c)
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

func TestLatency_Of64Connections(t *testing.T) {
	skipIfShort(t, "it is a test of load")
	assert.Less(t, graphtest.Undisturbed(t.Context(), time.Second, func() time.Duration {
		h := newHarness(t)
		h.run(t)
		took := postAll(t, h, 64, 2000, 202)
		require.Len(t, took, 2000)
		p99 := took[len(took)*99/100]
		t.Logf("64 connections, %d notifications: median %s, p99 %s, longest %s", len(took), took[len(took)/2], p99, took[len(took)-1])
		assert.Len(t, h.records(), 2000)
		return p99
	}), time.Second)
}

// Graph gets every answer in time even if the pipeline blocks.
func TestLatency_WithBlockedPipeline(t *testing.T) {
	skipIfShort(t, "it is a test of load")
	assert.Less(t, graphtest.Undisturbed(t.Context(), 3*time.Second, func() time.Duration {
		h := newHarness(t)
		release := make(chan struct{})
		blocked, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
			<-release
			return h.logs.ConsumeLogs(ctx, logs)
		})
		require.NoError(t, err)
		h.nextLogs = blocked
		h.run(t)
		took := postAll(t, h, 64, 128, 503)
		longest := took[len(took)-1]
		t.Logf("64 connections, a blocked pipeline: longest %s", longest)
		close(release)
		h.stop(t)
		assert.Len(t, h.records(), 128, "the calls continued, and the pipeline accepted everything in the end")
		return longest
	}), 3*time.Second)
}
