package receiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// format is the data format in the Collector's own telemetry.
const format = "json"

// pipeline is the path of interactions from either source to the next consumers: nothing else in the receiver calls them.
type pipeline struct {
	logger     *zap.Logger
	occasional *occasionalLog
	obs        *receiverhelper.ObsReport

	// undelivered, attribution, cache and seen are set by the start.
	undelivered *gapstore.Undelivered
	attribution *turn.Attribution
	cache       *dedupe.Cache
	// seen is called with the users whose prompts were delivered.
	seen func(userIDs ...string)

	logs    *translate.Logs
	metrics *translate.Metrics

	// nextLogs and nextMetrics are nil without a pipeline of that signal. They are set before the receiver starts.
	nextLogs    consumer.Logs
	nextMetrics consumer.Metrics

	warnOnce sync.Once
}

// Take delivers what was received. What is not delivered has to be sent again by Graph, so it is tracked until it is.
func (p *pipeline) Take(ctx context.Context, received []interaction.Received) error {
	now := time.Now()
	for i := range received { // before, since a blocked pipeline may return long after Graph was asked to send it again
		p.undelivered.Track(digestOf(&received[i]), received[i].ID, now)
	}
	_, err := p.deliverNew(ctx, received, dedupe.Live)
	if err == nil || webhook.Permanent(err) {
		for i := range received {
			p.undelivered.Resolve(digestOf(&received[i]))
		}
	}
	return err
}

// Backfill delivers what was read from the history.
func (p *pipeline) Backfill(ctx context.Context, received []interaction.Received, how backfill.Delivery) (backfill.Delivered, error) {
	switch {
	case how.Replay:
		p.attribution.Attribute(received)
		if err := p.deliver(ctx, received, false); err != nil {
			return backfill.Delivered{}, err
		}
		return backfill.Delivered{New: len(received)}, nil
	case how.Import:
		return p.deliverNew(ctx, received, dedupe.Import)
	default:
		return p.deliverNew(ctx, received, dedupe.Live)
	}
}

// deliverNew delivers what was neither delivered nor refused for good before, and waits until ctx ends for what is in flight in
// other calls. It returns nil once nothing is left to deliver, by whichever call. The worst outcome decides: the error joins those
// that apply, and each must be examined by itself, since that of the logs pipeline may be permanent while another is not.
func (p *pipeline) deliverNew(ctx context.Context, received []interaction.Received, mode dedupe.Mode) (backfill.Delivered, error) {
	var total backfill.Delivered
	p.attribution.Attribute(received)
	for len(received) > 0 {
		reserved := p.cache.Reserve(ctx, received, mode)
		err := p.deliver(ctx, reserved.New, true)
		switch {
		case err == nil:
			reserved.Commit()
			total.New += len(reserved.New)
			total.Recovered += reserved.Recovered
		case webhook.Permanent(err):
			reserved.Commit() // it would be refused again
		default:
			reserved.Release()
		}
		again, failedElsewhere := reserved.Wait(ctx)
		switch {
		case err != nil && failedElsewhere != nil:
			return backfill.Delivered{}, errors.Join(err, failedElsewhere)
		case err != nil:
			return backfill.Delivered{}, err
		case failedElsewhere != nil:
			return backfill.Delivered{}, failedElsewhere
		}
		received = again
	}
	return total, nil
}

// deliver sends interactions to the logs pipeline, and counts them once it accepted them. A panic of the pipeline is returned as
// an error, so that the interactions are sent again.
func (p *pipeline) deliver(ctx context.Context, received []interaction.Received, counted bool) error {
	if len(received) == 0 {
		return nil
	}
	err := panics.Catch(func() error {
		if err := p.consumeLogs(ctx, received); err != nil {
			return err
		}
		if counted {
			p.metrics.Add(received)
		}
		p.seen(promptUsers(received)...)
		return nil
	})
	const refused = "the logs pipeline did not take interactions"
	if err == nil || p.reportPanic(refused, err) {
		return err
	}
	if count, ok := p.occasional.due("logs", time.Now()); ok {
		p.logger.Warn(refused, zap.Int("times", count), zap.Error(err))
	}
	return err
}

// reportPanic logs a panic, and reports whether the error is one.
func (p *pipeline) reportPanic(message string, err error) bool {
	panicked, ok := errors.AsType[*panics.Error](err)
	if !ok {
		return false
	}
	if count, due := p.occasional.due(message, time.Now()); due {
		p.logger.Error(message, zap.Int("times", count), zap.Error(err), zap.ByteString("stack", panicked.Stack),
			zap.String("hint", "the stack names the component that panicked: report it to its maintainers"))
	}
	return true
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

// consumeLogs sends interactions to the logs pipeline. Without one they are only counted, which is logged once.
func (p *pipeline) consumeLogs(ctx context.Context, received []interaction.Received) error {
	if p.nextLogs == nil {
		p.warnOnce.Do(func() {
			p.logger.Warn("no logs pipeline uses this receiver: interactions are counted in memory but not exported; add the receiver to a logs pipeline")
		})
		return nil
	}
	logs := p.logs.Translate(received)
	count := logs.LogRecordCount()
	ctx = p.obs.StartLogsOp(ctx)
	err := panics.Catch(func() error { return p.nextLogs.ConsumeLogs(ctx, logs) })
	p.obs.EndLogsOp(ctx, format, count, err)
	return err
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
	err := panics.Catch(func() error { return p.nextMetrics.ConsumeMetrics(ctx, metrics) })
	p.reportPanic("the metrics pipeline did not take metrics", err)
	p.obs.EndMetricsOp(ctx, format, count, err)
	if err != nil {
		return fmt.Errorf("send %d data points to the metrics pipeline: %w", count, err)
	}
	return nil
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
