package m365copilotreceiver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// secretText stands for what a processor may put into the value that it panics with.
const secretText = "words of a conversation"

// panicOnce makes the logs pipeline panic with a value until it was called the given number of times.
func (w *harness) panicOnce(t *testing.T, value any) {
	t.Helper()
	var called atomic.Bool
	next, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
		if !called.Swap(true) {
			panic(value)
		}
		return w.logs.ConsumeLogs(ctx, logs)
	})
	require.NoError(t, err)
	w.nextLogs = next
}

// panics are the error lines about panics.
func (w *harness) panics(t *testing.T) []observer.LoggedEntry {
	t.Helper()
	return w.lines.Filter(func(e observer.LoggedEntry) bool {
		return e.Level >= zapcore.ErrorLevel && strings.Contains(text(t, e), "panic: ")
	}).All()
}

func (w *harness) assertOnePanicWithoutItemData(t *testing.T) {
	t.Helper()
	require.Len(t, w.panics(t), 1)
	assert.Contains(t, text(t, w.panics(t)[0]), "panicOnce", "the stack names the place")
	for _, line := range w.lines.All() {
		assert.NotContains(t, text(t, line), secretText)
	}
}

func TestConsumer_PanicCostsOneNotification(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"a text": secretText, "an error": errors.New(secretText)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHarness(t)
			w.panicOnce(t, value)
			w.run(t)
			in := prompts(t, 3)
			w.deliver(t, in...)
			assert.Equal(t, ids(t, in...), w.arrived(), "Graph was asked to send again, and did")
			assert.True(t, slices.ContainsFunc(w.emulator.Acknowledgements(), func(a graphtest.Acknowledgement) bool {
				return a.Status == http.StatusServiceUnavailable
			}))
			w.assertOnePanicWithoutItemData(t)
		})
	}
}

func TestConsumer_PanicCostsOneDeliveryFromHistory(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.withStorage(t)
	w.panicOnce(t, secretText)
	w.config.History.Users, w.config.History.Lookback = []string{asker}, 24*time.Hour
	old := prompts(t, 3)
	require.NoError(t, w.emulator.AddHistory(old...))
	w.run(t)
	w.awaitRecords(t, len(old))
	assert.Equal(t, ids(t, old...), w.arrived())
	w.assertOnePanicWithoutItemData(t)
}

func TestConsumer_PanicOfMetricsPipeline(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	var called atomic.Bool
	next, err := consumer.NewMetrics(func(ctx context.Context, metrics pmetric.Metrics) error {
		if !called.Swap(true) {
			panic(secretText)
		}
		return w.metrics.ConsumeMetrics(ctx, metrics)
	})
	require.NoError(t, err)
	w.nextMetrics = next
	w.run(t)
	require.Eventually(t, func() bool { return w.metrics.DataPointCount() > 0 }, patience, 10*time.Millisecond)
	require.Len(t, w.panics(t), 1)
	assert.NotContains(t, text(t, w.panics(t)[0]), secretText)
}
