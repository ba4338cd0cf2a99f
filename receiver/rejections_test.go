package receiver

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func (s *shelf) Item(reason history.Reason, _ string, now time.Time) {
	s.gaps = append(s.gaps, history.Gap{Reason: reason, From: now})
}

// rejecting makes a rejections that opens its gaps on a shelf.
func rejecting(t *testing.T, gaps *shelf) (*rejections, *observer.ObservedLogs) {
	t.Helper()
	builder, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	core, lines := observer.New(zap.WarnLevel)
	return &rejections{
		logger: zap.New(core), telemetry: &telemetry{builder: builder, receiver: attribute.String("receiver", "r")},
		repeats: newRepeats(), gaps: gaps, refused: newRefused(newStore(t), zap.NewNop(), givenUp, gaps),
	}, lines
}

func TestTheGapOfARejectedItemIsWrittenDownBeforeGraphIsAnswered(t *testing.T) {
	t.Parallel()
	gaps := &shelf{}
	r, lines := rejecting(t, gaps)
	sealed := notification.Item{ResourceID: "1", EncryptedContent: &notification.EncryptedContent{DataSignature: "s"}}
	r.refused.failedUnopened([]notification.Item{sealed}, time.Now())
	r.Reject(t.Context(), []notification.Rejection{
		{Reason: notification.ReasonCertificate, Gap: notification.GapUndecryptable, ItemID: "1", Signature: sealed.Signature(), Err: errors.New("no such key")},
		{Reason: notification.ReasonCertificate, Gap: notification.GapUndecryptable, ItemID: "2", Err: errors.New("no such key")},
	})
	assert.Equal(t, 2, gaps.flushed)
	r.refused.sweep(t.Context(), time.Now().Add(givenUp))
	assert.Len(t, gaps.gaps, 2, "an item whose gap is known for its own reason is not refused as well")
	assert.Equal(t, 1, lines.Len(), "the same reason is said once")
}

func TestAForgedItemCostsNoWrite(t *testing.T) {
	t.Parallel()
	gaps := &shelf{flushed: -1}
	r, lines := rejecting(t, gaps)
	r.Reject(t.Context(), []notification.Rejection{{Reason: notification.ReasonClientState, ItemID: "1", Err: errors.New("no")}})
	assert.Equal(t, -1, gaps.flushed)
	assert.Empty(t, gaps.gaps)
	assert.Equal(t, 1, lines.Len())
}
