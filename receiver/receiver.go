// SPDX-License-Identifier: Apache-2.0

// Package receiver is the component: it connects the internal packages with each other, manages their lifecycle, and is
// the only caller of the next consumers.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	otelreceiver "go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// Receiver serves every signal of one configuration: Start and Shutdown are called once for each of them, and only the
// first call has an effect.
type Receiver struct {
	set        otelreceiver.Settings
	settings   Settings
	onShutdown func()

	telemetry *telemetry
	status    *health.Status
	pipeline  *pipeline

	starting sync.Once
	startErr error
	// components is nil before the start.
	components *components
	// loops tracks the background goroutines: those that send to the next consumers run until stopSending, the others until stopLoops.
	loops                  sync.WaitGroup
	stopSending, stopLoops context.CancelFunc

	stopping sync.Once
	stopErr  error
}

// New creates a receiver without starting it. onShutdown is called once, when it has shut down.
func New(set otelreceiver.Settings, settings Settings, onShutdown func()) (*Receiver, error) {
	// Failures that are logged are operational, such as a wrong secret or a broken network. A stack trace does not help.
	set.Logger = set.Logger.WithOptions(zap.AddStacktrace(zapcore.FatalLevel))
	builder, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("create the receiver's own metrics: %w", err)
	}
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: "https", ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, fmt.Errorf("create the receiver's standard metrics: %w", err)
	}
	scope := translate.Scope{Name: metadata.ScopeName, Version: set.BuildInfo.Version}
	metrics := newMetrics(settings.TenantID, set.TelemetrySettings, scope)
	own := &telemetry{builder: builder, receiver: attribute.String("receiver", set.ID.String()), recovered: metrics.AddRecovered}
	status := &health.Status{}
	return &Receiver{
		set:        set,
		settings:   settings,
		onShutdown: onShutdown,
		telemetry:  own,
		status:     status,
		pipeline: &pipeline{
			logger: set.Logger, obs: obs, telemetry: own,
			accepting:  &lastingFailure{status: status.Part("notifications")},
			delivering: &lastingFailure{status: status.Part("logs pipeline")},
			privacy: privacy.Settings{
				CaptureText: settings.CaptureText, References: settings.References,
				Directory: settings.Directory.Lookup, Properties: settings.Directory.Properties,
			},
			scope: scope, metrics: metrics,
		},
		stopSending: func() {}, stopLoops: func() {},
	}, nil
}

// SendLogs sets the next consumer of logs. It must be called before Start.
func (r *Receiver) SendLogs(next consumer.Logs) { r.pipeline.nextLogs = next }

// SendMetrics sets the next consumer of metrics. It must be called before Start.
func (r *Receiver) SendMetrics(next consumer.Metrics) { r.pipeline.nextMetrics = next }

// Start loads the keys and the state of earlier runs, and then listens. It never waits for the network: what Microsoft Graph
// is needed for is done in the background. It fails only for what does not resolve by itself: files or a storage that can't be
// read, an address in use, a missing extension.
func (r *Receiver) Start(ctx context.Context, host component.Host) error {
	r.status.Join(host)
	r.starting.Do(func() { r.startErr = failure.Explain(r.start(ctx, host)) })
	return r.startErr
}

func (r *Receiver) start(ctx context.Context, host component.Host) error {
	c, err := r.newComponents(ctx, host)
	if err != nil {
		return err
	}
	err = r.load(ctx, c)
	if err == nil {
		err = errors.Join(r.telemetry.observe(c.backfiller.Progress), r.telemetry.observeExpiry(c.expiry.left))
	}
	if err == nil && c.server != nil {
		err = failure.WithDefault(c.server.Start(ctx, host.GetExtensions(), r.httpTelemetry()), failure.SettingWrong)
	}
	if err != nil {
		return errors.Join(err, c.close(ctx))
	}
	r.components = c
	if r.pipeline.nextLogs == nil {
		r.set.Logger.Warn("no logs pipeline uses this receiver", failure.New(failure.NoLogsPipeline).Fields()...)
	}
	r.startLoops(ctx)
	return nil
}

// startLoops starts the background goroutines, which outlive the context of the start.
func (r *Receiver) startLoops(ctx context.Context) {
	c := r.components
	sending := []func(context.Context){c.backfiller.Run, r.emitMetrics}
	if c.inventory != nil {
		sending = append(sending, c.inventory.Run)
	}
	others := []func(context.Context){
		c.cache.Run, c.attribution.Run, c.gaps.Run, c.directory.Run, c.activity.Run, r.saveUndelivered, r.watchFiles,
	}
	if c.manager != nil {
		others = append(others, c.manager.Run)
	}
	start := func(loops []func(context.Context)) context.CancelFunc {
		background, cancel := context.WithCancel(context.WithoutCancel(ctx))
		for _, loop := range loops {
			r.loops.Go(func() { loop(background) })
		}
		return cancel
	}
	r.stopSending, r.stopLoops = start(sending), start(others)
}

// drainTime is how long a shutdown waits for deliveries in flight. The Collector sets no deadline, and an exporter whose
// full queue blocks is shut down only after the receiver. Graph retries what is cut short.
const drainTime = 10 * time.Second

// lastMetricsTime is how long a shutdown waits for the metrics pipeline, whose exporter may block as well.
const lastMetricsTime = 5 * time.Second

// Shutdown refuses new notifications, waits for deliveries in flight for 10 seconds or until ctx ends, emits the last
// metrics and, if configured, deletes the subscriptions. Failures of these steps are logged. It is safe without Start.
// After a fatal error it returns that error, since the collector's exit code would be 0 otherwise.
func (r *Receiver) Shutdown(ctx context.Context) error {
	r.stopping.Do(func() { r.stopErr = r.shutdown(ctx) })
	return r.stopErr
}

func (r *Receiver) shutdown(ctx context.Context) error {
	defer r.onShutdown()
	// A Start that comes later must not start anything.
	r.starting.Do(func() { r.startErr = errors.New("the receiver was shut down before it started") })
	defer r.telemetry.builder.Shutdown()
	if r.components == nil {
		return r.status.FatalError()
	}
	r.stopSending() // at once, since a delivery in flight gets as much time as those of notifications
	if r.components.server != nil {
		draining, cancel := context.WithTimeout(ctx, drainTime)
		err := r.components.server.Shutdown(draining)
		r.warn("deliveries in flight at shutdown were cut short, Graph retries them", err, failure.LogsPipelineRefusing)
		cancel()
	}
	// The others end after the webhook: they store what it delivers, and the subscription manager handles the last lifecycle events.
	r.stopLoops()
	r.loops.Wait()
	emitting, cancel := context.WithTimeout(ctx, lastMetricsTime)
	r.warn("the last metrics were not delivered", r.pipeline.emitMetrics(emitting, r.gauges()...), failure.MetricsNotDelivered)
	cancel()
	r.warn("the state can't be stored for the next run", r.components.save(ctx), failure.StorageFailing)
	if r.settings.DeleteOnShutdown && r.components.manager != nil {
		r.warn("the subscription can't be deleted, it expires by itself", r.components.manager.Delete(ctx), failure.RequestRefused)
	}
	return errors.Join(r.status.FatalError(), r.components.close(ctx))
}

// warn logs a failure during shutdown, with the code where the error has none. Shutdown does not return it: an error would end the
// whole collector even if only its configuration is reloaded.
func (r *Receiver) warn(message string, err error, code failure.Code) {
	if err != nil {
		r.set.Logger.Warn(message, append(failure.Of(failure.WithDefault(err, code)).Fields(), zap.Error(err))...)
	}
}

// httpTelemetry returns the telemetry of the HTTP clients and the server of the Collector, whose warnings are about their settings.
func (r *Receiver) httpTelemetry() component.TelemetrySettings {
	set := r.set.TelemetrySettings
	set.Logger = set.Logger.With(failure.New(failure.SettingWrong).Fields()...)
	return set
}

const undeliveredInterval = 10 * time.Second

// saveUndelivered opens the gaps of what Graph has given up, until ctx ends.
func (r *Receiver) saveUndelivered(ctx context.Context) {
	every(ctx, undeliveredInterval, func() { r.components.undelivered.Save(ctx) })
}

// every calls a function at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, call func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if ctx.Err() == nil { // both may be ready
				call()
			}
		}
	}
}
