package receiver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// format is the data format in the Collector's own telemetry.
const format = "json"

// pipelineOutput delivers to the pipelines: nothing else in the receiver calls the next consumers.
type pipelineOutput struct {
	logger     *zap.Logger
	occasional *occasionalLog
	obs        *receiverhelper.ObsReport

	logs    *translate.Logs
	metrics *translate.Metrics

	// nextLogs and nextMetrics are nil without a pipeline of that signal. They are set before the receiver starts.
	nextLogs    consumer.Logs
	nextMetrics consumer.Metrics

	// seen is called with the users whose prompts were delivered; nil before the start.
	seen func(userIDs ...string)

	warnOnce sync.Once
}

// Deliver sends interactions to the logs pipeline and counts them once it accepted them.
// Without a logs pipeline they are only counted, which is logged once.
// A panic of the pipeline is returned as an error, so that the interactions are retried.
func (o *pipelineOutput) Deliver(ctx context.Context, received []interaction.Received) error {
	err := panics.Catch(func() error { return o.deliver(ctx, received) })
	const refused = "the logs pipeline did not take interactions"
	if err == nil || o.reportPanic(refused, err) {
		return err
	}
	if count, ok := o.occasional.due("logs", time.Now()); ok {
		o.logger.Warn(refused, zap.Int("times", count), zap.Error(err))
	}
	return err
}

// reportPanic logs a panic, and reports whether the error is one.
func (o *pipelineOutput) reportPanic(message string, err error) bool {
	panicked, ok := errors.AsType[*panics.Error](err)
	if !ok {
		return false
	}
	if count, due := o.occasional.due(message, time.Now()); due {
		o.logger.Error(message, zap.Int("times", count), zap.Error(err), zap.ByteString("stack", panicked.Stack),
			zap.String("hint", "the stack names the component that panicked: report it to its maintainers"))
	}
	return true
}

func (o *pipelineOutput) deliver(ctx context.Context, received []interaction.Received) error {
	if o.nextLogs == nil {
		o.warnOnce.Do(func() {
			o.logger.Warn("no logs pipeline uses this receiver: interactions are counted in memory but not exported; add the receiver to a logs pipeline")
		})
	} else if err := o.consumeLogs(ctx, received); err != nil {
		return err
	}
	o.metrics.Add(received)
	o.seen(promptUsers(received)...)
	return nil
}

// promptUsers returns the users whom the prompts themselves name.
func promptUsers(received []interaction.Received) []string {
	var users []string
	for i := range received {
		if received[i].UserSource == interaction.UserFromPrompt {
			users = append(users, received[i].UserID)
		}
	}
	return users
}

func (o *pipelineOutput) consumeLogs(ctx context.Context, received []interaction.Received) error {
	logs := o.logs.Translate(received)
	count := logs.LogRecordCount()
	ctx = o.obs.StartLogsOp(ctx)
	err := panics.Catch(func() error { return o.nextLogs.ConsumeLogs(ctx, logs) })
	o.obs.EndLogsOp(ctx, format, count, err)
	return err
}

// emitMetrics sends the current values to the metrics pipeline. Refused values are not lost: sums and histograms are
// cumulative, so the next values contain them.
func (o *pipelineOutput) emitMetrics(ctx context.Context, gauges ...translate.Gauge) error {
	if o.nextMetrics == nil {
		return nil
	}
	metrics := o.metrics.Collect(time.Now(), gauges...)
	count := metrics.DataPointCount()
	if count == 0 {
		return nil
	}
	ctx = o.obs.StartMetricsOp(ctx)
	err := panics.Catch(func() error { return o.nextMetrics.ConsumeMetrics(ctx, metrics) })
	o.reportPanic("the metrics pipeline did not take metrics", err)
	o.obs.EndMetricsOp(ctx, format, count, err)
	if err != nil {
		return fmt.Errorf("send %d data points to the metrics pipeline: %w", count, err)
	}
	return nil
}

// trackedIntake is the intake of the webhook: it tracks what was not delivered and therefore has to be retried by Graph.
type trackedIntake struct {
	deduplicator *dedupe.Deduplicator
	undelivered  *undelivered
	silence      *silenceDetector
}

// Take implements webhook.Intake.
func (a *trackedIntake) Take(ctx context.Context, received []interaction.Received) error {
	a.silence.arrived(ctx, a.undelivered.unknown(received), time.Now())
	// A blocked pipeline may return long after Graph was asked to retry.
	a.undelivered.track(received, time.Now())
	err := a.deduplicator.Take(ctx, received)
	if err == nil || webhook.Permanent(err) {
		a.undelivered.delivered(received)
	}
	return err
}

// deliveredCheck tells the decrypter what was delivered already, and stops tracking it as undelivered.
type deliveredCheck struct {
	deduplicator *dedupe.Deduplicator
	undelivered  *undelivered
}

// Known implements notification.Seen.
func (k deliveredCheck) Known(digest [sha256.Size]byte) bool {
	delivered := k.deduplicator.Known(digest)
	if delivered {
		k.undelivered.resolve(digest)
	}
	return delivered
}

// repeatAfter is the shortest time between two log lines of the same kind, since outsiders and outages determine how often
// they occur.
const repeatAfter = time.Minute

// occasionalLog limits how often log lines of the same key are written. Its keys come from small fixed sets.
type occasionalLog struct {
	mu sync.Mutex // guards what follows
	// logged is when each key was last due, and since how often it occurred after that.
	logged map[string]time.Time
	since  map[string]int
}

func newOccasionalLog() *occasionalLog {
	return &occasionalLog{logged: map[string]time.Time{}, since: map[string]int{}}
}

// due counts an occurrence. If a line is due, it returns how many there were since the last line.
func (r *occasionalLog) due(key string, now time.Time) (int, bool) { return r.dueAfter(key, 1, now) }

// dueAfter counts several occurrences at once.
func (r *occasionalLog) dueAfter(key string, occurrences int, now time.Time) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since[key] += occurrences
	if last, ok := r.logged[key]; ok && now.Sub(last) < repeatAfter {
		return 0, false
	}
	count := r.since[key]
	r.logged[key], r.since[key] = now, 0
	return count, true
}
