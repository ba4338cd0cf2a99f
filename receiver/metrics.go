// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// newMetrics returns the values for the metrics pipeline, as they are at the start.
func newMetrics(tenantID string, set component.TelemetrySettings, scope translate.Scope) *translate.Metrics {
	s := translate.MetricSettings{TenantID: tenantID, Scope: scope, Start: time.Now()}
	if id, ok := set.Resource.Attributes().Get("service.instance.id"); ok {
		s.InstanceID = id.AsString()
	}
	metrics := translate.NewMetrics(s)
	for _, reason := range gap.Reasons() {
		if reason.CountsAsRecovered() {
			metrics.AddRecovered(string(reason), 0) // so that an alert notices the first
		}
	}
	return metrics
}

// emitMetrics sends the current values to the metrics pipeline at each interval until ctx ends.
func (r *Receiver) emitMetrics(ctx context.Context) {
	emitting := health.Part{
		Logger: r.set.Logger, Failing: "metrics not delivered, the next values contain them", Recovered: "metrics delivered again",
		Status: r.status.Part("metrics pipeline"),
		Code:   failure.MetricsNotDelivered,
	}
	every(ctx, r.settings.MetricsInterval, func() {
		if err := r.pipeline.emitMetrics(ctx, r.gauges()...); ctx.Err() == nil { // the shutdown sends them again
			emitting.Report(err)
		}
	})
}

func (r *Receiver) gauges() []translate.Gauge {
	now := time.Now()
	var missing map[gap.Reason]time.Duration
	var reconciled gap.Result
	var age time.Duration
	r.components.gaps.View(func(state *gap.State, now time.Time) {
		missing, reconciled = state.Missing(r.components.gaps.Rules(), now), state.Result
		age = max(now.Sub(reconciled.To), 0)
	})
	active, byApp := r.components.activity.Active(now)
	licensed, known := r.components.directory.Licensed()
	return []translate.Gauge{
		translate.ActiveUsers(active),
		r.pipeline.metrics.ActiveUsersByApp(byApp),
		translate.LicensedUsers(len(licensed), known),
		translate.NotificationAge(r.pipeline.notificationAge(now)),
		translate.SubscriptionTimeLeft(r.components.timeLeft(now)),
		translate.HistoryGap(missing),
		translate.HistoryReconciled(age, string(reconciled.Outcome)),
	}
}

// notificationAge returns how long ago the last authentic notification arrived; false before the first.
func (p *pipeline) notificationAge(now time.Time) (time.Duration, bool) {
	at := p.lastAuthentic.Load()
	if at == nil {
		return 0, false
	}
	return max(now.Sub(*at), 0), true
}

// emitMetrics sends the current values to the metrics pipeline. Refused values are not lost: sums and histograms are
// cumulative, so the next values contain them.
func (p *pipeline) emitMetrics(ctx context.Context, gauges ...translate.Gauge) error {
	if p.nextMetrics == nil {
		return nil
	}
	metrics := p.metrics.Collect(time.Now(), gauges...)
	count := metrics.DataPointCount()
	if count == 0 {
		return nil
	}
	ctx = p.obs.StartMetricsOp(ctx)
	err := call(ctx, func() error { return p.nextMetrics.ConsumeMetrics(ctx, metrics) })
	p.obs.EndMetricsOp(ctx, format, count, err)
	if err == nil {
		return nil
	}
	err = withFailure(fmt.Errorf("send %d data points to the metrics pipeline: %w", count, err), failure.MetricsNotDelivered)
	if failure.Of(err).Code == failure.ComponentPanicked {
		p.warn("metrics", "the metrics pipeline did not take metrics", err)
	}
	return err
}
