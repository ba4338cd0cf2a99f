// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadatatest"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func TestTelemetry_ObservesBackfillProgress(t *testing.T) {
	t.Parallel()
	tel := componenttest.NewTelemetry()
	builder, err := metadata.NewTelemetryBuilder(metadatatest.NewSettings(tel).TelemetrySettings)
	require.NoError(t, err)
	own := attribute.String("receiver", "m365_copilot/a")
	reported := &telemetry{builder: builder, receiver: own}
	require.NoError(t, reported.observe(func() backfill.Progress {
		return backfill.Progress{Done: 30, Failed: 2, Left: 68, TimeLeft: time.Minute}
	}))
	of := func(state string, users int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(own, attribute.String("state", state)), Value: users}
	}
	metadatatest.AssertEqualReceiverM365CopilotHistoryUsers(t, tel,
		[]metricdata.DataPoint[int64]{of("read", 30), of("left", 68), of("delayed", 2)}, metricdatatest.IgnoreTimestamp())
	metadatatest.AssertEqualReceiverM365CopilotHistoryTimeLeft(t, tel,
		[]metricdata.DataPoint[float64]{{Attributes: attribute.NewSet(own), Value: 60}}, metricdatatest.IgnoreTimestamp())
}

func TestTelemetry_ObservesExpiryOfCertificates(t *testing.T) {
	t.Parallel()
	tel := componenttest.NewTelemetry()
	builder, err := metadata.NewTelemetryBuilder(metadatatest.NewSettings(tel).TelemetrySettings)
	require.NoError(t, err)
	own := attribute.String("receiver", "m365_copilot/a")
	reported := &telemetry{builder: builder, receiver: own}
	require.NoError(t, reported.observeExpiry(func(time.Time) map[string]time.Duration {
		return map[string]time.Duration{clientCertificate: time.Hour, encryptionCertificate: -time.Minute}
	}))
	of := func(credential string, seconds float64) metricdata.DataPoint[float64] {
		return metricdata.DataPoint[float64]{Attributes: attribute.NewSet(own, attribute.String("credential", credential)), Value: seconds}
	}
	metadatatest.AssertEqualReceiverM365CopilotCredentialExpiry(t, tel,
		[]metricdata.DataPoint[float64]{of("client_certificate", 3600), of("encryption_certificate", -60)}, metricdatatest.IgnoreTimestamp())
}

func TestTelemetry_CountsEvictionsOfAttribution(t *testing.T) {
	t.Parallel()
	tel := componenttest.NewTelemetry()
	builder, err := metadata.NewTelemetryBuilder(metadatatest.NewSettings(tel).TelemetrySettings)
	require.NoError(t, err)
	own := attribute.String("receiver", "m365_copilot/a")
	counted := turn.New(turn.Settings{MaxOpen: 2, Logger: zap.NewNop(), Telemetry: &telemetry{builder: builder, receiver: own}})
	for session := range 5 { // each is a request and a conversation
		counted.Learn(list(promptIn(userID, strconv.Itoa(session))))
	}
	metadatatest.AssertEqualReceiverM365CopilotAttributionEvictions(t, tel,
		[]metricdata.DataPoint[int64]{{Attributes: attribute.NewSet(own), Value: 2 * (5 - 2)}}, metricdatatest.IgnoreTimestamp())
}

// Each metric of metadata.yaml has values, with the attributes that are declared for it.
func TestTelemetry_RecordsEveryDeclaredMetric(t *testing.T) {
	t.Parallel()
	ctx, tel := t.Context(), componenttest.NewTelemetry()
	builder, err := metadata.NewTelemetryBuilder(metadatatest.NewSettings(tel).TelemetrySettings)
	require.NoError(t, err)
	recorded := &telemetry{builder: builder, receiver: attribute.String("receiver", "m365_copilot")}
	recorded.Notifications(ctx, webhook.Delivered, 1)
	recorded.rejected(ctx, notification.ReasonTenant, 1)
	recorded.Acknowledged(ctx, http.StatusAccepted, time.Second)
	recorded.Handshake(ctx, http.StatusOK)
	recorded.decrypted(time.Millisecond)
	recorded.GraphRequest(ctx, "read history", http.StatusOK, time.Second)
	recorded.Throttled(ctx, time.Second)
	recorded.TokenRefresh(ctx, nil)
	recorded.DirectoryMisses(1)
	recorded.Renewal(ctx, nil)
	recorded.Created(ctx, subscription.ReasonAbsent, nil)
	recorded.Duplicate(ctx, interaction.FromHistory)
	recorded.AttributionEvicted(1)
	recorded.GapOpened(ctx, gap.Startup)
	recorded.GapClosed(ctx, gap.Startup)
	recorded.GapLost(ctx, gap.Startup, time.Hour)
	recorded.HistoryInteractions(ctx, 1)
	require.NoError(t, recorded.observe(func() backfill.Progress { return backfill.Progress{} }))
	require.NoError(t, recorded.observeExpiry(func(time.Time) map[string]time.Duration {
		return map[string]time.Duration{clientCertificate: time.Hour}
	}))

	declared, err := confmaptest.LoadConf(filepath.Join("..", "metadata.yaml"))
	require.NoError(t, err)
	metrics, err := declared.Sub("telemetry::metrics")
	require.NoError(t, err)
	for name := range metrics.ToStringMap() {
		metric, err := tel.GetMetric("otelcol_" + name)
		require.NoError(t, err, "%s has no value", name)
		var want []string
		for _, key := range metrics.Get(name + "::attributes").([]any) {
			attributeKey := key.(string)
			if override, ok := declared.Get("attributes::" + attributeKey + "::name_override").(string); ok {
				attributeKey = override
			}
			want = append(want, attributeKey)
		}
		assert.ElementsMatch(t, want, attributeKeys(metric.Data), name)
	}
}

// attributeKeys returns the keys of the attributes of all values.
func attributeKeys(data metricdata.Aggregation) []string {
	keys := map[string]bool{}
	note := func(set attribute.Set) {
		for _, one := range set.ToSlice() {
			keys[string(one.Key)] = true
		}
	}
	switch values := data.(type) {
	case metricdata.Sum[int64]:
		for _, point := range values.DataPoints {
			note(point.Attributes)
		}
	case metricdata.Sum[float64]:
		for _, point := range values.DataPoints {
			note(point.Attributes)
		}
	case metricdata.Gauge[int64]:
		for _, point := range values.DataPoints {
			note(point.Attributes)
		}
	case metricdata.Gauge[float64]:
		for _, point := range values.DataPoints {
			note(point.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, point := range values.DataPoints {
			note(point.Attributes)
		}
	}
	return slices.Collect(maps.Keys(keys))
}
