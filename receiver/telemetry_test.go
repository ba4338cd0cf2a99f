package receiver

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadatatest"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
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
