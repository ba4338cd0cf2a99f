// SPDX-License-Identifier: Apache-2.0

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
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadatatest"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// loggedReceiver returns a receiver with this storage, and its log lines from a warning on.
func loggedReceiver(t *testing.T, store *testStore) (*Receiver, *components, *observer.ObservedLogs) {
	t.Helper()
	logger, lines := observed()
	r, c := newTestReceiver(t, stored(store), logged(logger))
	return r, c, lines
}

// Graph gets a 202 for it, and does not send it again.
func TestReject_StoresGapBeforeReturning(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r, c, lines := loggedReceiver(t, store)
	now := time.Now()
	undecryptable := func(at time.Time, signature string) notification.Rejection {
		item := notification.Item{EncryptedContent: &notification.EncryptedContent{DataSignature: signature}}
		one := interactionAt(at)
		c.undelivered.Track(item.ContentDigest(), one.ID, now)
		return notification.Rejection{
			Reason: notification.ReasonCertificate, Gap: gap.Undecryptable, ItemID: one.ID, ContentDigest: item.ContentDigest(), Err: errors.New("no such key"),
		}
	}
	r.pipeline.Reject(t.Context(), []notification.Rejection{undecryptable(now, "a"), undecryptable(now.Add(-time.Hour), "b")})
	assert.Equal(t, 1, lines.Len(), "the same reason is logged once")
	assert.Empty(t, tracked(t, c), "an item that has a gap of its own is not undelivered as well")

	_, afterCrash := newTestReceiver(t, stored(store))
	gaps := missing(afterCrash)
	require.Len(t, gaps, 2)
	for i, at := range []time.Time{now.Add(-time.Hour), now} {
		assert.Equal(t, gap.Undecryptable, gaps[i].Reason())
		assert.True(t, gaps[i].From.Equal(at.Truncate(time.Minute)))
	}
}

// The gap is known in memory, and the answer does not wait for long.
func TestReject_SurvivesFailingStorage(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r, c, _ := loggedReceiver(t, store)
	store.fail = failsToWrite
	r.pipeline.Reject(t.Context(), []notification.Rejection{{Reason: notification.ReasonTokenExpired, Gap: gap.Unverified, Err: errors.New("no")}})
	assert.Equal(t, []gap.Reason{gap.Unverified}, missingReasons(c))
}

func TestReject_WritesNothingForForgedItem(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r, c, lines := loggedReceiver(t, store)
	before := store.writes
	r.pipeline.Reject(t.Context(), []notification.Rejection{{Reason: notification.ReasonClientState, ItemID: "1", Err: errors.New("no")}})
	assert.Equal(t, before, store.writes)
	assert.Empty(t, missing(c))
	assert.Equal(t, 1, lines.Len())
}

// A request of an outsider costs one measurement, however many items it has.
func TestReject_CountsAllItemsOfAReasonAtOnce(t *testing.T) {
	t.Parallel()
	tel := componenttest.NewTelemetry()
	builder, err := metadata.NewTelemetryBuilder(metadatatest.NewSettings(tel).TelemetrySettings)
	require.NoError(t, err)
	own := attribute.String("receiver", "r")
	r, _, lines := loggedReceiver(t, newStore(t))
	r.pipeline.telemetry = &telemetry{builder: builder, receiver: own}
	r.pipeline.Reject(t.Context(), []notification.Rejection{
		notification.ForeignItems(19_999), {Reason: notification.ReasonTenant, Count: 1, Err: errors.New("no")}, notification.ForeignItems(1),
	})
	of := func(reason notification.Reason, items int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{
			Attributes: attribute.NewSet(own, attribute.String("outcome", "rejected"), attribute.String("reason", string(reason))), Value: items,
		}
	}
	metadatatest.AssertEqualReceiverM365CopilotNotifications(t, tel,
		[]metricdata.DataPoint[int64]{of(notification.ReasonClientState, 20_000), of(notification.ReasonTenant, 1)}, metricdatatest.IgnoreTimestamp())
	assert.Equal(t, 2, lines.Len(), "one line for each reason")
}
