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

func TestABackendThatIsDownForTwoMinutesGetsEverything(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.run(t)
	s.subscribed(t)
	in := prompts(t, 1200, 50)
	s.publish(t, in[:10]...)
	s.backend.await(t, names(t, in[:10]...), soon)
	s.backend.down()
	up := time.After(2 * time.Minute)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for next := 10; next < len(in); next += 10 {
		select {
		case <-up:
			s.publish(t, in[next:]...)
			next = len(in)
		case <-ticker.C:
			s.publish(t, in[next:next+10]...)
		}
	}
	<-up
	s.backend.up(t)
	s.backend.await(t, names(t, in...), soon)
	assert.Zero(t, s.emulator.Stats().Lost)
	assert.Zero(t, s.backend.repetitions())
	inTime(t, s)
}

func TestRestartsWhileTheBackendIsDownAndWhileItIsUpLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	collector := s.run(t)
	s.subscribed(t)
	in := prompts(t, 2000, 50)
	published := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(75 * time.Millisecond)
		defer ticker.Stop()
		var failed error
		for batch := range slices.Chunk(in, 10) {
			<-ticker.C
			_, err := s.emulator.Publish(t.Context(), batch...)
			failed = errors.Join(failed, err)
		}
		published <- failed
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for restart := range 8 {
		switch restart {
		case 2:
			s.backend.down()
		case 6:
			s.backend.up(t)
		}
		require.NoError(t, s.emulator.WaitDelivered(ctx, (restart+1)*len(in)/10))
		collector.terminate(t)
		collector = s.run(t)
	}
	require.NoError(t, <-published)
	s.backend.await(t, names(t, in...), soon)
	assert.Zero(t, s.backend.repetitions())
	assert.Zero(t, s.emulator.Stats().Lost)
}

func TestAShutdownBehindAFullQueueThatBlocksEndsAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, `
exporters:
  otlp_http:
    sending_queue: {queue_size: 20, block_on_overflow: true}
`)
	s.backend.down()
	collector := s.run(t)
	s.subscribed(t)
	in := prompts(t, 100, 5)
	s.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused > 0 }))
	collector.terminate(t)
	s.backend.up(t)
	s.run(t)
	s.backend.await(t, names(t, in...), soon)
}

// inTime asserts that every answer that Graph got came within 3 seconds.
func inTime(t *testing.T, s *site) {
	t.Helper()
	for _, a := range s.emulator.Acknowledgements() {
		assert.Less(t, a.Latency, 3*time.Second)
	}
	t.Logf("the slowest answer took %s", s.emulator.Stats().MaxLatency)
}

func TestABackendThatTakesTenSecondsDelaysNoAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.backend.delay = 10 * time.Second
	s.run(t)
	s.subscribed(t)
	in := prompts(t, 50, 5)
	s.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.WaitDelivered(ctx, len(in)))
	inTime(t, s)
	s.backend.await(t, names(t, in...), 2*time.Minute)
}

func TestABackendThatTakesTenSecondsWithoutAQueueDelaysNoAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t, `
exporters:
  otlp_http:
    sending_queue: {enabled: false}
    timeout: 20s
`)
	s.backend.delay = 10 * time.Second
	s.run(t)
	s.subscribed(t)
	in := prompts(t, 30, 5)
	s.publish(t, in...)
	s.backend.await(t, names(t, in...), time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.emulator.WaitDelivered(ctx, len(in)))
	inTime(t, s)
	assert.Zero(t, s.backend.repetitions(), "what was delivered late is not delivered again")
}

func TestOneOfTwoPipelinesRefusesForGoodAndTheOtherLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, `
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
	t.Cleanup(refusing.down)
	s.environment = []string{"REFUSING=http://" + refusing.address}
	s.backend.down()
	s.run(t)
	s.subscribed(t)
	in := prompts(t, 10, 5)
	s.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, s.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused >= 2 }))
	for _, a := range s.emulator.Acknowledgements() {
		if !a.Handshake {
			assert.Equal(t, http.StatusServiceUnavailable, a.Status)
		}
	}
	s.backend.up(t)
	// Now every error that is left is permanent, and the pipeline that can has taken everything.
	s.backend.await(t, names(t, in...), soon)
	require.NoError(t, s.emulator.WaitDelivered(ctx, len(in)))
}
