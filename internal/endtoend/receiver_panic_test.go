// SPDX-License-Identifier: Apache-2.0

package endtoend_test

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

// secretText stands for content that a processor may put into its panic value.
const secretText = "words of a conversation"

// panicOnce makes the first call of the logs pipeline panic with a value.
func (h *harness) panicOnce(t *testing.T, value any) {
	t.Helper()
	var called atomic.Bool
	next, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
		if !called.Swap(true) {
			panic(value)
		}
		return h.logs.ConsumeLogs(ctx, logs)
	})
	require.NoError(t, err)
	h.nextLogs = next
}

// panics returns the error lines about panics.
func (h *harness) panics(t *testing.T) []observer.LoggedEntry {
	t.Helper()
	return h.lines.Filter(func(e observer.LoggedEntry) bool {
		return e.Level >= zapcore.ErrorLevel && strings.Contains(lineText(t, e), "panic: ")
	}).All()
}

func (h *harness) assertOnePanicWithoutItemData(t *testing.T) {
	t.Helper()
	require.Len(t, h.panics(t), 1)
	assert.Contains(t, lineText(t, h.panics(t)[0]), "panicOnce", "the stack names the place")
	for _, line := range h.lines.All() {
		assert.NotContains(t, lineText(t, line), secretText)
	}
}

func TestPanic_CostsOneNotification(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"a text": secretText, "an error": errors.New(secretText)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.panicOnce(t, value)
			h.run(t)
			in := newPrompts(t, 3)
			h.deliver(t, in...)
			assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs(), "Graph was asked to retry, and did")
			assert.True(t, slices.ContainsFunc(h.emulator.Acknowledgements(), func(a graphtest.Acknowledgement) bool {
				return a.Status == http.StatusServiceUnavailable
			}))
			h.assertOnePanicWithoutItemData(t)
		})
	}
}

func TestPanic_CostsOneHistoryDelivery(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.panicOnce(t, secretText)
	h.config.History.Users, h.config.History.Lookback = []string{testUser}, 24*time.Hour
	old := newPrompts(t, 3)
	require.NoError(t, h.emulator.AddHistory(old...))
	h.run(t)
	h.awaitRecords(t, len(old))
	assert.Equal(t, interactionIDs(t, old...), h.deliveredIDs())
	h.assertOnePanicWithoutItemData(t)
}

func TestPanic_OfMetricsPipelineIsLogged(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var called atomic.Bool
	next, err := consumer.NewMetrics(func(ctx context.Context, metrics pmetric.Metrics) error {
		if !called.Swap(true) {
			panic(secretText)
		}
		return h.metrics.ConsumeMetrics(ctx, metrics)
	})
	require.NoError(t, err)
	h.nextMetrics = next
	h.run(t)
	require.Eventually(t, func() bool { return h.metrics.DataPointCount() > 0 }, waitTimeout, 10*time.Millisecond)
	require.Len(t, h.panics(t), 1)
	assert.NotContains(t, lineText(t, h.panics(t)[0]), secretText)
}
