// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// telemetry records the receiver's own metrics, for all of its components. Each value carries the receiver's id, because
// the Collector's Prometheus endpoint drops the scope that would otherwise distinguish receivers.
type telemetry struct {
	builder  *metadata.TelemetryBuilder
	receiver attribute.KeyValue
	// recovered counts in the metrics pipeline what only the history had.
	recovered func(reason string, n int)
}

// rejectedOutcome is the outcome of rejected notifications, which are counted by reason.
const rejectedOutcome = "rejected"

func (t *telemetry) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(more, t.receiver)...))
}

// Notifications, Acknowledged and Handshake implement webhook.Telemetry.
func (t *telemetry) Notifications(ctx context.Context, outcome webhook.Outcome, count int) {
	t.builder.ReceiverM365CopilotNotifications.Add(ctx, int64(count), t.with(attribute.String("outcome", string(outcome))))
}

func (t *telemetry) rejected(ctx context.Context, reason notification.Reason, count int) {
	t.builder.ReceiverM365CopilotNotifications.Add(ctx, int64(count),
		t.with(attribute.String("outcome", rejectedOutcome), attribute.String("reason", string(reason))))
}

func (t *telemetry) Acknowledged(ctx context.Context, status int, took time.Duration) {
	t.builder.ReceiverM365CopilotAcknowledgementDuration.Record(ctx, took.Seconds(), t.with(attribute.Int("status", status)))
}

func (t *telemetry) Handshake(ctx context.Context, status int) {
	t.builder.ReceiverM365CopilotHandshakes.Add(ctx, 1, t.with(attribute.Int("status", status)))
}

func (t *telemetry) decrypted(spent time.Duration) {
	ctx := context.Background()
	t.builder.ReceiverM365CopilotItemsDecrypted.Add(ctx, 1, t.with())
	t.builder.ReceiverM365CopilotDecryptionDuration.Record(ctx, spent.Seconds(), t.with())
}

// GraphRequest, Throttled and TokenRefresh implement graph.Telemetry.
func (t *telemetry) GraphRequest(ctx context.Context, operation string, status int, _ time.Duration) {
	t.builder.ReceiverM365CopilotGraphRequests.Add(ctx, 1,
		t.with(attribute.String("operation", strings.ReplaceAll(operation, " ", "_")), attribute.Int("status", status)))
}

func (t *telemetry) Throttled(ctx context.Context, wait time.Duration) {
	t.builder.ReceiverM365CopilotThrottledDuration.Add(ctx, wait.Seconds(), t.with())
}

func (t *telemetry) TokenRefresh(ctx context.Context, err error) {
	t.builder.ReceiverM365CopilotTokenRefreshes.Add(ctx, 1, t.with(success(err)))
}

// DirectoryMisses implements directory.Telemetry.
func (t *telemetry) DirectoryMisses(count int) {
	t.builder.ReceiverM365CopilotDirectoryMisses.Add(context.Background(), int64(count), t.with())
}

// Renewal and Created implement subscription.Telemetry.
func (t *telemetry) Renewal(ctx context.Context, err error) {
	t.builder.ReceiverM365CopilotSubscriptionRenewals.Add(ctx, 1, t.with(success(err)))
}

func (t *telemetry) Created(ctx context.Context, reason subscription.Reason, err error) {
	t.builder.ReceiverM365CopilotSubscriptionRecreations.Add(ctx, 1,
		t.with(attribute.String("reason", string(reason)), success(err)))
}

// Duplicate implements dedupe.Telemetry.
func (t *telemetry) Duplicate(ctx context.Context, source interaction.Source) {
	t.builder.ReceiverM365CopilotDuplicates.Add(ctx, 1, t.with(attribute.String("source", string(source))))
}

// AttributionEvicted implements turn.Telemetry.
func (t *telemetry) AttributionEvicted(n int) {
	t.builder.ReceiverM365CopilotAttributionEvictions.Add(context.Background(), int64(n), t.with())
}

// GapOpened, GapClosed and GapLost implement gapstore.Telemetry.
func (t *telemetry) GapOpened(ctx context.Context, reason gap.Reason) {
	t.builder.ReceiverM365CopilotGapsOpened.Add(ctx, 1, t.with(attribute.String("reason", string(reason))))
}

func (t *telemetry) GapClosed(ctx context.Context, reason gap.Reason) {
	t.builder.ReceiverM365CopilotGapsClosed.Add(ctx, 1, t.with(attribute.String("reason", string(reason))))
}

func (t *telemetry) GapLost(ctx context.Context, reason gap.Reason, lost time.Duration) {
	t.builder.ReceiverM365CopilotGapsLost.Add(ctx, lost.Seconds(), t.with(attribute.String("reason", string(reason))))
}

// HistoryInteractions and Recovered implement backfill.Telemetry.
func (t *telemetry) HistoryInteractions(ctx context.Context, count int) {
	t.builder.ReceiverM365CopilotHistoryInteractions.Add(ctx, int64(count), t.with())
}

func (t *telemetry) Recovered(_ context.Context, reason gap.Reason, count int) {
	t.recovered(string(reason), count)
}

// observe registers the gauges of the current backfill pass.
func (t *telemetry) observe(progress func() backfill.Progress) error {
	users := func(_ context.Context, o metric.Int64Observer) error {
		now := progress()
		for state, count := range map[string]int{"read": now.Done, "left": now.Left, "delayed": now.Failed} {
			o.Observe(int64(count), t.with(attribute.String("state", state)))
		}
		return nil
	}
	timeLeft := func(_ context.Context, o metric.Float64Observer) error {
		o.Observe(progress().TimeLeft.Seconds(), t.with())
		return nil
	}
	if err := errors.Join(
		t.builder.RegisterReceiverM365CopilotHistoryUsersCallback(users),
		t.builder.RegisterReceiverM365CopilotHistoryTimeLeftCallback(timeLeft),
	); err != nil {
		return fmt.Errorf("observe the progress of the backfill: %w", err)
	}
	return nil
}

// observeExpiry registers the gauge of the time until certificates expire, by credential.
func (t *telemetry) observeExpiry(left func(now time.Time) map[string]time.Duration) error {
	err := t.builder.RegisterReceiverM365CopilotCredentialExpiryCallback(func(_ context.Context, o metric.Float64Observer) error {
		for credential, remaining := range left(time.Now()) {
			o.Observe(remaining.Seconds(), t.with(attribute.String("credential", credential)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("observe when certificates expire: %w", err)
	}
	return nil
}

func success(err error) attribute.KeyValue {
	return attribute.Bool("success", err == nil)
}
