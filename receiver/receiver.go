// Package receiver is the component: it connects the internal packages with each other, manages their lifecycle, and is
// the only caller of the next consumers.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	otelreceiver "go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// maxOpen is for how many requests, and for how many conversations, the user is remembered: a day of a large organization,
// in about 50 MiB.
const maxOpen = 100_000

// Receiver serves every signal of one configuration: Start and Shutdown are called once for each of them, and only the
// first call has an effect.
type Receiver struct {
	set        otelreceiver.Settings
	settings   Settings
	onShutdown func()

	telemetry *telemetry
	status    *status
	output    *pipelineOutput

	starting sync.Once
	startErr error
	// components is nil before the start.
	components *components
	// loops tracks the background goroutines, which run until stopLoops.
	loops     sync.WaitGroup
	stopLoops context.CancelFunc

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
	return &Receiver{
		set:        set,
		settings:   settings,
		onShutdown: onShutdown,
		telemetry:  &telemetry{builder: builder, receiver: attribute.String("receiver", set.ID.String())},
		status:     &status{},
		output: &pipelineOutput{
			logger:     set.Logger,
			occasional: newOccasionalLog(),
			obs:        obs,
			logs: translate.NewLogs(translate.LogSettings{
				CaptureText: settings.CaptureText, References: settings.References,
				ScopeName: metadata.ScopeName, ScopeVersion: set.BuildInfo.Version,
			}),
			metrics: translate.NewMetrics(translate.MetricSettings{
				TenantID: settings.TenantID, InstanceID: instanceID(set.TelemetrySettings),
				ScopeName: metadata.ScopeName, ScopeVersion: set.BuildInfo.Version,
			}, time.Now()),
		},
		stopLoops: func() {},
	}, nil
}

// instanceID returns the collector's own service.instance.id, empty if it has none.
func instanceID(set component.TelemetrySettings) string {
	id, ok := set.Resource.Attributes().Get("service.instance.id")
	if !ok {
		return ""
	}
	return id.AsString()
}

// SendLogs sets the next consumer of logs. It must be called before Start.
func (r *Receiver) SendLogs(next consumer.Logs) { r.output.nextLogs = next }

// SendMetrics sets the next consumer of metrics. It must be called before Start.
func (r *Receiver) SendMetrics(next consumer.Metrics) { r.output.nextMetrics = next }

// Start loads the keys and the state of earlier runs, and then listens. It never waits for the network: what Microsoft Graph
// is needed for is done in the background. It fails only for what does not resolve by itself: files or a storage that can't be
// read, an address in use, a missing extension.
func (r *Receiver) Start(ctx context.Context, host component.Host) error {
	r.status.join(host)
	r.starting.Do(func() { r.startErr = r.start(ctx, host) })
	return r.startErr
}

func (r *Receiver) start(ctx context.Context, host component.Host) error {
	c, err := r.newComponents(ctx, host)
	if err != nil {
		return err
	}
	if err := r.listen(ctx, host, c); err != nil {
		return errors.Join(err, c.close(ctx))
	}
	r.components = c
	// The loops outlive the context of the start.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.stopLoops = cancel
	loops := []func(context.Context){c.deduplicator.Run, c.backfiller.Run, r.expiryLoop, r.emitMetrics}
	if c.manager != nil {
		loops = append(loops, c.manager.Run, r.watchKeys)
	}
	for _, loop := range loops {
		r.loops.Go(func() { loop(background) })
	}
	return nil
}

// listen loads the state and then opens the listener, if there is one.
func (r *Receiver) listen(ctx context.Context, host component.Host, c *components) error {
	if err := r.load(ctx, c); err != nil {
		return err
	}
	if err := r.telemetry.observe(c.backfiller.Progress); err != nil {
		return err
	}
	if c.server == nil {
		return nil
	}
	return c.server.Start(ctx, host.GetExtensions(), r.set.TelemetrySettings)
}

// drainTime is how long a shutdown waits for deliveries in flight. The Collector sets no deadline, and an exporter whose
// full queue blocks is shut down only after the receiver. Graph retries what is cut short.
const drainTime = 10 * time.Second

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
		return r.status.fatalError()
	}
	if r.components.server != nil {
		draining, cancel := context.WithTimeout(ctx, drainTime)
		r.warn("deliveries in flight at shutdown were cut short, Graph retries them", r.components.server.Shutdown(draining))
		cancel()
	}
	// The loops end after the webhook, since the subscription manager handles the last lifecycle events.
	r.stopLoops()
	r.loops.Wait()
	r.warn("the last metrics were not delivered", r.output.emitMetrics(ctx, r.gauges()...))
	r.warn("the state can't be stored for the next run", r.components.save(ctx))
	if r.settings.DeleteOnShutdown && r.components.manager != nil {
		r.warn("the subscription can't be deleted, it expires by itself", r.components.manager.Delete(ctx))
	}
	return errors.Join(r.status.fatalError(), r.components.close(ctx))
}

// warn logs a failure during shutdown. Shutdown does not return it: an error would end the whole collector even if only its
// configuration is reloaded.
func (r *Receiver) warn(message string, err error) {
	if err != nil {
		r.set.Logger.Warn(message, zap.Error(err))
	}
}

func (r *Receiver) gauges() []translate.Gauge {
	now := time.Now()
	// Each reason has a value, 0 if nothing is missing. What the next poll will read is not missing.
	missing := make(map[backfill.Reason]time.Duration)
	for _, reason := range backfill.Reasons() {
		missing[reason] = 0
	}
	maps.Copy(missing, r.components.missing(now))
	delete(missing, backfill.Poll)
	return []translate.Gauge{
		translate.NotificationAge(r.components.notificationAge(now)),
		translate.SubscriptionTimeLeft(r.components.timeLeft(now)),
		translate.HistoryGap(missing),
	}
}

// emitMetrics sends the current values to the metrics pipeline at each interval until ctx ends.
func (r *Receiver) emitMetrics(ctx context.Context) {
	ticker := time.NewTicker(r.settings.MetricsInterval)
	defer ticker.Stop()
	var failure health.Reminder
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.output.emitMetrics(ctx, r.gauges()...)
		switch {
		case err != nil:
			if !failure.Failed() {
				continue
			}
			r.set.Logger.Warn("metrics not delivered, the next values contain them", zap.Error(err))
		case failure.Recovered():
			r.set.Logger.Info("metrics delivered again")
		}
	}
}

// expiryInterval is how often the undelivered notifications are checked for those that Graph no longer retries.
const expiryInterval = 10 * time.Second

func (r *Receiver) expiryLoop(ctx context.Context) {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for now := time.Now(); ; {
		r.components.undelivered.openExpired(ctx, now)
		r.components.silence.save(ctx)
		if len(r.settings.Resources) == 0 { // without a subscription manager nothing else checks
			r.components.gapTracker.check(ctx, now)
		}
		select {
		case <-ctx.Done():
			return
		case now = <-ticker.C:
		}
	}
}
