// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestOutage_OfTwoMinutesLosesNothing(t *testing.T) {
	skipIfShort(t, "it is a test of an outage")
	t.Parallel()
	h := newCollectorHarness(t, "")
	h.run(t)
	h.awaitSubscribed(t)
	pause := graphtest.MeasurePauses(t.Context())
	in := prompts(t, 1200, 50)
	h.publish(t, in[:10]...)
	h.backend.await(t, interactionKeys(t, in[:10]...), waitTimeout)
	h.backend.stop()
	outage, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for next := 10; next < len(in); next += 10 {
		select {
		case <-outage.Done():
			h.publish(t, in[next:]...)
			next = len(in)
		case <-ticker.C:
			h.publish(t, in[next:next+10]...)
		}
	}
	<-outage.Done()
	h.backend.start(t)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	require.NoError(t, h.emulator.WaitIdle(deadline(t)))
	assert.Zero(t, h.emulator.Stats().Lost)
	assert.Zero(t, h.backend.duplicates())
	assertAnswersInTime(t, h, pause())
}

func TestRestart_DuringOutageLosesNothing(t *testing.T) {
	skipIfShort(t, "it is a test of an outage")
	t.Parallel()
	h := newCollectorHarness(t, "")
	collector := h.run(t)
	collector.awaitLine(t, ready, waitTimeout)
	h.awaitSubscribed(t)
	in := prompts(t, 2000, 50)
	published := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(75 * time.Millisecond)
		defer ticker.Stop()
		var failed error
		for batch := range slices.Chunk(in, 10) {
			<-ticker.C
			_, err := h.emulator.Publish(t.Context(), batch...)
			failed = errors.Join(failed, err)
		}
		published <- failed
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for restart := range 8 {
		switch restart {
		case 2:
			h.backend.stop()
		case 6:
			h.backend.start(t)
		}
		require.NoError(t, h.emulator.WaitDelivered(ctx, (restart+1)*len(in)/10))
		collector.terminate(t)
		collector = h.run(t)
		collector.awaitLine(t, ready, waitTimeout)
	}
	require.NoError(t, <-published)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	require.NoError(t, h.emulator.WaitIdle(deadline(t)))
	assert.Zero(t, h.backend.duplicates())
	assert.Zero(t, h.emulator.Stats().Lost)
}

func TestShutdown_WithBlockedQueueLosesNothing(t *testing.T) {
	skipIfShort(t, "it is a test of an outage")
	t.Parallel()
	h := newCollectorHarness(t, `
exporters:
  otlp_http:
    sending_queue: {queue_size: 20, block_on_overflow: true}
`)
	h.backend.stop()
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 100, 5)
	h.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused > 0 }))
	collector.terminate(t)
	h.backend.start(t)
	h.run(t)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
}

// assertAnswersInTime asserts that Graph got every answer within 3 seconds, without the longest pause of this process.
func assertAnswersInTime(t *testing.T, h *collectorHarness, pause time.Duration) {
	t.Helper()
	for _, a := range h.emulator.Acknowledgements() {
		assert.Less(t, a.Latency-pause, 3*time.Second)
	}
	t.Logf("the slowest answer took %s, with a pause of at most %s", h.emulator.Stats().MaxLatency, pause)
}

func TestLatency_WithSlowBackend(t *testing.T) {
	skipIfShort(t, "it is a test of an outage")
	t.Parallel()
	h := newCollectorHarness(t, "")
	h.backend.delay = 10 * time.Second
	h.run(t)
	h.awaitSubscribed(t)
	pause := graphtest.MeasurePauses(t.Context())
	in := prompts(t, 50, 5)
	h.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitDelivered(ctx, len(in)))
	assertAnswersInTime(t, h, pause())
	h.backend.await(t, interactionKeys(t, in...), 2*time.Minute)
}

// It does not run in parallel, since it measures time: the receiver answers half a second before Graph stops waiting.
func TestLatency_WithSlowBackendAndNoQueue(t *testing.T) {
	skipIfShort(t, "it is a test of an outage")
	h := newCollectorHarness(t, `
exporters:
  otlp_http:
    sending_queue: {enabled: false}
    timeout: 20s
`)
	h.backend.delay = 10 * time.Second
	h.run(t)
	h.awaitSubscribed(t)
	pause := graphtest.MeasurePauses(t.Context())
	in := prompts(t, 30, 5)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, h.emulator.WaitDelivered(ctx, len(in)))
	assertAnswersInTime(t, h, pause())
	assert.Zero(t, h.backend.duplicates(), "what was delivered late is not delivered again")
}

// One of two pipelines refuses permanently, and the other one loses nothing.
func TestPipelines_OneRefusingPermanently(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, `
exporters:
  otlp_http:
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
  otlp_http/refusing:
    endpoint: ${env:REFUSING}
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  pipelines:
    logs/refusing:
      receivers: [m365_copilot]
      exporters: [otlp_http/refusing]
`)
	refusing := newBackend(t)
	refusing.status = http.StatusBadRequest
	t.Cleanup(refusing.stop)
	h.environment = []string{"REFUSING=http://" + refusing.address}
	h.backend.stop()
	h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 10, 5)
	h.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused >= 2 }))
	h.assertRefused(t)
	h.backend.start(t)
	// Now only permanent errors remain, and the other pipeline has accepted everything.
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	require.NoError(t, h.emulator.WaitDelivered(ctx, len(in)))
}
