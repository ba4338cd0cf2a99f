// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadatatest"
)

// lastMetrics returns the metrics of the last batch by name.
func (h *harness) lastMetrics(t *testing.T) map[string]pmetric.Metric {
	t.Helper()
	all := h.metrics.AllMetrics()
	require.NotEmpty(t, all)
	byName := map[string]pmetric.Metric{}
	for _, resource := range all[len(all)-1].ResourceMetrics().All() {
		service, _ := resource.Resource().Attributes().Get("service.name")
		assert.Equal(t, "microsoft-365-copilot", service.AsString())
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				byName[metric.Name()] = metric
			}
		}
	}
	return byName
}

func TestMetrics_AreEmittedAtShutdown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Metrics.Interval = time.Hour
	h.run(t)
	h.deliver(t, newTurns(50)...)
	h.stop(t)

	got := h.lastMetrics(t)
	var count, delays int64
	for _, point := range got["microsoft.copilot.interactions"].Sum().DataPoints().All() {
		count += point.IntValue()
	}
	for _, point := range got["microsoft.copilot.interaction.ingestion_delay"].Histogram().DataPoints().All() {
		delays += int64(point.Count())
	}
	assert.EqualValues(t, 50, count)
	assert.EqualValues(t, 50, delays)
	left := got["microsoft.copilot.subscription.time_left"].Gauge().DataPoints().At(0).DoubleValue()
	assert.InDelta(t, (71 * time.Hour).Seconds(), left, 60)
}

func TestMetrics_AreCumulativeAtEachInterval(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(t)
	h.deliver(t, newTurns(10)...)
	before := len(h.metrics.AllMetrics())
	require.Eventually(t, func() bool { return len(h.metrics.AllMetrics()) >= before+2 }, waitTimeout, 10*time.Millisecond)
	first := h.lastMetrics(t)["microsoft.copilot.interactions"].Sum()
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, first.AggregationTemporality())
	assert.True(t, first.IsMonotonic())
}

func TestMetrics_RefusedBatchIsLoggedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.nextMetrics = consumertest.NewErr(assert.AnError)
	h.run(t)
	h.deliver(t, newTurns(3)...)
	require.Eventually(t, func() bool { return h.lines.FilterMessageSnippet("metrics not delivered").Len() == 1 }, waitTimeout, 10*time.Millisecond)
	assert.Len(t, h.records(), 3, "logs are not affected")
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.signals[0].Shutdown(ctx), "so that a reload of the configuration continues")
	assert.Equal(t, 1, h.lines.FilterMessageSnippet("the last metrics were not delivered").Len())
	h.signals = nil
}

func TestMetrics_CountWithoutLogsPipeline(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.nextLogs = nil
	h.run(t)
	h.deliver(t, newTurns(10)...)
	h.deliver(t, newTurns(10)...)
	assert.Equal(t, 1, h.lines.FilterMessageSnippet("no logs pipeline").Len())
	h.stop(t)
	assert.NotZero(t, h.lastMetrics(t)["microsoft.copilot.interactions"].Sum().DataPoints().Len())
}

func TestTelemetry_ReportsReceiver(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Subscription.CheckInterval = time.Hour
	h.run(t)
	h.deliver(t, newTurns(20)...)
	forged, err := h.emulator.Collection(newTurns(1)...)
	require.NoError(t, err)
	forged.Value[0].ClientState = "guessed"
	_, err = h.emulator.Post(t.Context(), forged)
	require.NoError(t, err)

	receiver := attribute.String("receiver", "m365_copilot")
	point := func(value int64, attributes ...attribute.KeyValue) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(append(attributes, receiver)...), Value: value}
	}
	ignore := []metricdatatest.Option{metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars()}
	metadatatest.AssertEqualReceiverM365CopilotNotifications(t, h.telemetry, []metricdata.DataPoint[int64]{
		point(20, attribute.String("outcome", "delivered")),
		point(1, attribute.String("outcome", "rejected"), attribute.String("reason", "client_state")),
	}, ignore...)
	metadatatest.AssertEqualReceiverM365CopilotItemsDecrypted(t, h.telemetry, []metricdata.DataPoint[int64]{point(20)}, ignore...)
	metadatatest.AssertEqualReceiverM365CopilotHandshakes(t, h.telemetry, []metricdata.DataPoint[int64]{point(2, attribute.Int("status", 200))}, ignore...)
	metadatatest.AssertEqualReceiverM365CopilotTokenRefreshes(t, h.telemetry, []metricdata.DataPoint[int64]{point(1, attribute.Bool("success", true))}, ignore...)
	metadatatest.AssertEqualReceiverM365CopilotGraphRequests(t, h.telemetry, []metricdata.DataPoint[int64]{
		point(1, attribute.String("operation", "list_subscriptions"), attribute.Int("status", 200)),
		point(1, attribute.String("operation", "create_subscription"), attribute.Int("status", 201)),
	}, ignore...)
	metadatatest.AssertEqualReceiverM365CopilotSubscriptionRecreations(t, h.telemetry, []metricdata.DataPoint[int64]{
		point(1, attribute.String("reason", "absent"), attribute.Bool("success", true)),
	}, ignore...)
	for _, name := range []string{"acknowledgement_duration", "decryption_duration"} {
		_, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_" + name)
		require.NoError(t, err)
	}
	accepted, err := h.telemetry.GetMetric("otelcol_receiver_accepted_log_records")
	require.NoError(t, err)
	metricdatatest.AssertEqual(t, metricdata.DataPoint[int64]{
		Attributes: attribute.NewSet(receiver, attribute.String("transport", "https")), Value: 20,
	}, accepted.Data.(metricdata.Sum[int64]).DataPoints[0], ignore...)
}

func TestTelemetry_ReportsExpiryOfCertificates(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	certificate, err := graphtest.EncryptionCertificate(2048, 5*24*time.Hour)
	require.NoError(t, err)
	h.config.Encryption.Certificates = []m365copilotreceiver.CertificateConfig{{
		ID: "2026-11", CertFile: writeFile(t, string(certificate.Certificate)), KeyFile: writeFile(t, string(certificate.Key)),
	}}
	h.run(t)
	require.Eventually(t, func() bool { return len(h.warnings()) == 1 }, waitTimeout, 10*time.Millisecond)
	line := lineText(t, h.warnings()[0])
	for _, part := range []string{"a certificate expires soon", "2026-11.", "COP012", "encryption.certificates"} {
		assert.Contains(t, line, part)
	}
	expiry, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_credential_expiry")
	require.NoError(t, err)
	points := expiry.Data.(metricdata.Gauge[float64]).DataPoints
	require.Len(t, points, 1, "a client secret has no date")
	assert.InDelta(t, (5 * 24 * time.Hour).Seconds(), points[0].Value, 60)
}

func TestTelemetry_ReportsThrottlingAndRenewals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.emulator.Fail(graphtest.OpCreate, graphtest.Fault{Status: 429, RetryAfter: "1", Times: 1})
	h.run(t)
	_, err := h.emulator.SendLifecycle(t.Context(), graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpRenew, 1))
	throttled, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_throttled_duration")
	require.NoError(t, err)
	assert.InDelta(t, 1, throttled.Data.(metricdata.Sum[float64]).DataPoints[0].Value, 0)
	require.Eventually(t, func() bool {
		_, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_subscription_renewals")
		return err == nil
	}, waitTimeout, 10*time.Millisecond)
}

func TestTelemetry_CountsPermanentlyRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.nextLogs = consumertest.NewErr(consumererror.NewPermanent(assert.AnError))
	h.run(t)
	h.deliver(t, newTurns(4)...)
	refused, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_notifications")
	require.NoError(t, err)
	points := refused.Data.(metricdata.Sum[int64]).DataPoints
	require.Len(t, points, 1)
	outcome, _ := points[0].Attributes.Value("outcome")
	assert.Equal(t, "refused", outcome.AsString())
	assert.EqualValues(t, 4, points[0].Value)
	assert.Equal(t, 1, h.lines.FilterMessageSnippet("logs pipeline did not take").Len())
}

func TestMetrics_NotificationAgeGrowsUntilNext(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(t)
	age := func() (float64, bool) {
		metric, found := h.lastMetrics(t)["microsoft.copilot.notification.age"]
		if !found {
			return 0, false
		}
		return metric.Gauge().DataPoints().At(0).DoubleValue(), true
	}
	require.Eventually(t, func() bool { return len(h.metrics.AllMetrics()) > 0 }, waitTimeout, 10*time.Millisecond)
	_, known := age()
	assert.False(t, known, "none has arrived")

	h.deliver(t, newTurns(1)...)
	require.Eventually(t, func() bool { at, known := age(); return known && at > 4 }, waitTimeout, 10*time.Millisecond)
	before, _ := age()
	h.deliver(t, newTurns(1)...)
	require.Eventually(t, func() bool { at, _ := age(); return at < before }, waitTimeout, 10*time.Millisecond)
}
