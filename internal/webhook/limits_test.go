package webhook_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// The bars: with a pipeline that takes at once 99 of 100 answers come within 1 s, and with one that blocks all of them
// come within 3 s. It measures time, so nothing runs beside it.
func TestAnswersOn64Connections(t *testing.T) {
	t.Run("a quick pipeline", func(t *testing.T) {
		around := newHarness()
		took := storm(t, around, 50, http.StatusAccepted)
		assert.Less(t, took[len(took)*99/100], time.Second)
		assert.Equal(t, counts{webhook.Delivered: 64 * 50}, around.counted())
		t.Logf("quick: median %v, p99 %v, slowest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	})
	t.Run("a pipeline that blocks", func(t *testing.T) {
		around := newHarness()
		around.take = func(ctx context.Context, _ []interaction.Received) error {
			<-ctx.Done()
			return ctx.Err()
		}
		took := storm(t, around, 1, http.StatusServiceUnavailable)
		assert.Less(t, took[len(took)-1], 3*time.Second)
		assert.Equal(t, counts{webhook.TimedOut: 64}, around.counted())
		t.Logf("blocking: median %v, slowest %v", took[len(took)/2], took[len(took)-1])
	})
}

// storm sends notifications of 16 KiB on 64 connections and returns how long each answer took, the quickest first.
func storm(t *testing.T, around *harness, each, status int) []time.Duration {
	t.Helper()
	handler := around.handler()
	server := webhook.NewServer(webhook.ServerSettings{Config: localConfig(), Handler: handler, Fatal: func(error) {}, Logger: zap.NewNop()})
	require.NoError(t, server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	client := newClient(t, &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64})
	url := "http://" + server.Addr().String() + path
	body := padded(16 << 10)
	var mu sync.Mutex
	var took []time.Duration
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for range each {
				began := time.Now()
				got, err := post(t.Context(), client, url, body)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				assert.Equal(t, status, got, err)
			}
		})
	}
	senders.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = server.Shutdown(ctx) // cuts the deliveries that block
	assert.Zero(t, handler.InFlightBytes())
	slices.Sort(took)
	return took
}
