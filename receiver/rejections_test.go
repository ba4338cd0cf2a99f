package receiver

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadatatest"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func (s *fakeGaps) Item(reason backfill.Reason, _ string, now time.Time) {
	s.gaps = append(s.gaps, backfill.Gap{Reason: reason, From: now})
}

// newTestRejections returns rejections that open their gaps in a fakeGaps, and their log lines.
func newTestRejections(t *testing.T, gaps *fakeGaps) (*rejections, *observer.ObservedLogs) {
	t.Helper()
	builder, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	core, lines := observer.New(zap.WarnLevel)
	return &rejections{
		logger: zap.New(core), telemetry: &telemetry{builder: builder, receiver: attribute.String("receiver", "r")},
		occasional: newOccasionalLog(), gaps: gaps, undelivered: newUndelivered(newStore(t), zap.NewNop(), retryDeadline, gaps),
	}, lines
}

func TestRejections_StoresGapBeforeReturning(t *testing.T) {
	t.Parallel()
	gaps := &fakeGaps{}
	r, lines := newTestRejections(t, gaps)
	encrypted := notification.Item{ResourceID: "1", EncryptedContent: &notification.EncryptedContent{DataSignature: "s"}}
	r.undelivered.trackUnopened([]notification.Item{encrypted}, time.Now())
	r.Reject(t.Context(), []notification.Rejection{
		{Reason: notification.ReasonCertificate, Gap: notification.GapUndecryptable, ItemID: "1", ContentDigest: encrypted.ContentDigest(), Err: errors.New("no such key")},
		{Reason: notification.ReasonCertificate, Gap: notification.GapUndecryptable, ItemID: "2", Err: errors.New("no such key")},
	})
	assert.Equal(t, 2, gaps.flushed)
	r.undelivered.openExpired(t.Context(), time.Now().Add(retryDeadline))
	assert.Len(t, gaps.gaps, 2, "an item that has a gap of its own is not undelivered as well")
	assert.Equal(t, 1, lines.Len(), "the same reason is logged once")
}

func TestRejections_WritesNothingForForgedItem(t *testing.T) {
	t.Parallel()
	gaps := &fakeGaps{flushed: -1}
	r, lines := newTestRejections(t, gaps)
	r.Reject(t.Context(), []notification.Rejection{{Reason: notification.ReasonClientState, ItemID: "1", Err: errors.New("no")}})
	assert.Equal(t, -1, gaps.flushed)
	assert.Empty(t, gaps.gaps)
	assert.Equal(t, 1, lines.Len())
}

// A request of an outsider costs one measurement, however many items it has.
func TestRejections_CountsAllItemsOfAReasonAtOnce(t *testing.T) {
	t.Parallel()
	tel := componenttest.NewTelemetry()
	builder, err := metadata.NewTelemetryBuilder(metadatatest.NewSettings(tel).TelemetrySettings)
	require.NoError(t, err)
	own := attribute.String("receiver", "r")
	r, lines := newTestRejections(t, &fakeGaps{})
	r.telemetry = &telemetry{builder: builder, receiver: own}
	r.Reject(t.Context(), []notification.Rejection{
		notification.ForeignItems(19_999), {Reason: notification.ReasonTenant, Err: errors.New("no")}, notification.ForeignItems(1),
	})
	of := func(reason notification.Reason, items int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{
			Attributes: attribute.NewSet(own, attribute.String("outcome", "rejected"), attribute.String("reason", string(reason))), Value: items,
		}
	}
	metadatatest.AssertEqualReceiverM365CopilotNotifications(t, tel,
		[]metricdata.DataPoint[int64]{of(notification.ReasonClientState, 20_000), of(notification.ReasonTenant, 1)}, metricdatatest.IgnoreTimestamp())
	require.Equal(t, 2, lines.Len())
	for _, line := range lines.All() {
		want := map[any]int64{"client_state": 20_000, "tenant": 1}
		assert.EqualValues(t, want[line.ContextMap()["reason"]], line.ContextMap()["count"])
	}
}
