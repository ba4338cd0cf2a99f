// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
)

// format is the data format in the Collector's own telemetry.
const format = "json"

// pipeline is the path of interactions to the next consumers; nothing else in the receiver calls those. In the order of this file:
//
//	webhook:  Decrypt what is not Known -> Reject what can't be accepted, Take what can
//	backfill: Backfill
//	both:     deliverNew: learn users -> dedupe -> deliver: attribution -> directory -> privacy -> translation -> next consumer
type pipeline struct {
	logger    *zap.Logger
	limits    sync.Map // of a *rate.Sometimes for each key of warn
	obs       *receiverhelper.ObsReport
	telemetry *telemetry
	// accepting and delivering report that nothing that Graph sends can be accepted, or be delivered to the logs pipeline.
	accepting, delivering *lastingFailure

	// The start sets what follows; decrypter only with a subscription.
	decrypter   *notification.Decrypter
	gaps        *gapstore.Store
	undelivered *gapstore.Undelivered
	cache       *dedupe.Cache
	attribution *turn.Attribution
	directory   *directory.Directory
	activity    *directory.Activity
	// lastAuthentic is when the last authentic notification arrived; nil before the first.
	lastAuthentic atomic.Pointer[time.Time]

	privacy privacy.Settings
	scope   translate.Scope
	metrics *translate.Metrics

	// nextLogs and nextMetrics are nil without a pipeline of that signal. They are set before the receiver starts.
	nextLogs    consumer.Logs
	nextMetrics consumer.Metrics
}

// Decrypt decrypts the items of a notification. All items of the collection have a valid clientState, so those that can't be verified
// now were sent by Graph, and it is going to send them again.
func (p *pipeline) Decrypt(ctx context.Context, collection *notification.Collection, at time.Time) (notification.Decrypted, error) {
	decrypted, err := p.decrypter.Decrypt(ctx, collection, at)
	if err != nil {
		for i := range collection.Items {
			if item := &collection.Items[i]; item.LifecycleEvent == "" {
				p.undelivered.Track(item.ContentDigest(), item.ResourceID, at)
			}
		}
		if ctx.Err() == nil { // else the shutdown reports what it cuts short
			p.accepting.observe(err)
			p.warn("decrypt", "notifications can't be decrypted now, Graph retries them", err)
		}
		return decrypted, err
	}
	if len(decrypted.Received) > 0 {
		p.accepting.observe(nil)
	}
	if authenticated(len(collection.Items), decrypted) {
		p.lastAuthentic.Store(&at)
	}
	return decrypted, nil
}

// authenticated reports whether any of the given number of items was sent by Graph. Items that were delivered before are counted
// too, although they leave nothing in decrypted.
func authenticated(items int, decrypted notification.Decrypted) bool {
	for i := range decrypted.Rejected {
		if reason := decrypted.Rejected[i].Gap; reason != gap.Undecryptable && reason != gap.Empty {
			items--
		}
	}
	return items > 0
}

// Known reports whether the content of an authentic item was delivered already, so that it need not be decrypted, and stops
// tracking it as undelivered.
func (p *pipeline) Known(digest [sha256.Size]byte) bool {
	delivered := p.cache.Known(digest)
	if delivered {
		p.undelivered.Resolve(digest)
	}
	return delivered
}

// Reject counts rejected items, and stores the gaps of missing ones before it returns, since Graph does not retry them.
func (p *pipeline) Reject(ctx context.Context, rejected []notification.Rejection) {
	var missing []notification.Rejection
	for _, rejection := range rejected {
		p.telemetry.rejected(ctx, rejection.Reason, rejection.Count)
		p.warn(string(rejection.Reason), "notification rejected", rejection.Err, zap.String("reason", string(rejection.Reason)))
		if rejection.Gap != "" { // not forged
			p.accepting.observe(rejection.Err)
			p.undelivered.Resolve(rejection.ContentDigest)
			missing = append(missing, rejection)
		}
	}
	if len(missing) == 0 {
		return
	}
	p.gaps.Record(ctx, func(state *gap.State, now time.Time) {
		for _, rejection := range missing {
			state.Item(p.gaps.Rules(), rejection.Gap, rejection.ItemID, now)
		}
	})
}

// Take delivers what was received. What is not delivered has to be sent again by Graph, so it is tracked until it is.
func (p *pipeline) Take(ctx context.Context, received []interaction.Received) error {
	now := time.Now()
	for i := range received { // before, since a blocked pipeline may return long after Graph was asked to send it again
		p.undelivered.Track(received[i].ContentDigest, received[i].ID, now)
	}
	_, err := p.deliverNew(ctx, received, p.cache.Reserve)
	if err == nil || failure.Permanent(err) {
		for i := range received {
			p.undelivered.Resolve(received[i].ContentDigest)
		}
	}
	return err
}

// Backfill delivers what was read from the history for a reason. A replay is delivered whether it was before or not.
func (p *pipeline) Backfill(ctx context.Context, received []interaction.Received, reason gap.Reason) (backfill.Delivered, error) {
	switch reason {
	case gap.Replay:
		p.attribution.Learn(received)
		if _, err := p.deliver(ctx, received); err != nil {
			return backfill.Delivered{}, err
		}
		return backfill.Delivered{New: len(received)}, nil
	case gap.Lookback:
		return p.deliverNew(ctx, received, p.cache.ReserveImport)
	default:
		return p.deliverNew(ctx, received, p.cache.Reserve)
	}
}

// reserve is Cache.Reserve or Cache.ReserveImport.
type reserve func(context.Context, []interaction.Received) *dedupe.Reservation

// deliverNew delivers what was neither delivered nor refused for good before. What is in flight in other calls is waited for until
// ctx ends, and delivered if they fail. It returns nil once nothing is left to deliver, by whichever call, and a permanent error
// once everything was delivered or refused for good.
func (p *pipeline) deliverNew(ctx context.Context, received []interaction.Received, reserve reserve) (backfill.Delivered, error) {
	var total backfill.Delivered
	var refused error
	p.attribution.Learn(received) // also of the prompts that are dropped, whose responses may still come
	for len(received) > 0 {
		reserved := reserve(ctx, received)
		records, err := p.deliver(ctx, reserved.New)
		switch {
		case err == nil:
			reserved.Commit()
			p.metrics.Add(records)
			total.New += len(reserved.New)
			total.Recovered += reserved.Recovered
		case failure.Permanent(err):
			reserved.Commit() // it would be refused again
			refused = errors.Join(refused, err)
		default:
			reserved.Release()
			return backfill.Delivered{}, errors.Join(refused, err)
		}
		if received, err = reserved.Wait(ctx); err != nil {
			return backfill.Delivered{}, errors.Join(refused, err)
		}
	}
	return total, refused
}

// deliver sends what may leave of interactions to the logs pipeline, and returns it. A panic on the way is returned as an error,
// so that the interactions are sent again.
func (p *pipeline) deliver(ctx context.Context, received []interaction.Received) (records []record.Record, err error) {
	if len(received) == 0 {
		return nil, nil
	}
	err = panics.Catch(func() error {
		p.attribution.Attribute(received)
		p.directory.Lookup(received)
		records = p.privacy.Apply(received)
		return p.consumeLogs(ctx, translate.Logs(p.scope, records))
	})
	if err != nil {
		err = withFailure(err, failure.LogsPipelineRefusing)
	}
	p.delivering.observe(err)
	if err != nil {
		p.warn("logs", "the logs pipeline did not take interactions", err)
		return nil, err
	}
	p.directory.Seen(promptUsers(received)...)
	p.activity.Add(records)
	return records, nil
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

// consumeLogs sends logs to the logs pipeline. Without one, interactions are only counted.
func (p *pipeline) consumeLogs(ctx context.Context, logs plog.Logs) error {
	if p.nextLogs == nil {
		return nil
	}
	count := logs.LogRecordCount()
	ctx = p.obs.StartLogsOp(ctx)
	err := call(ctx, func() error { return p.nextLogs.ConsumeLogs(ctx, logs) })
	p.obs.EndLogsOp(ctx, format, count, err)
	return err
}

// cancelGracePeriod is the time that a next consumer gets to return once its context has ended: less than the webhook gives its
// deliveries, so that they end in order.
const cancelGracePeriod = 500 * time.Millisecond

// call calls a next consumer. It returns its error, a panic as one, or that of ctx where the consumer does not return when ctx ends, as
// the batch processor while it is full: a shutdown can't wait for that. The call goes on then, and its outcome is dropped.
func call(ctx context.Context, consume func() error) error {
	returned := make(chan error, 1)
	go func() { returned <- panics.Catch(consume) }()
	select {
	case err := <-returned:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-returned:
		return err
	case <-time.After(cancelGracePeriod):
		return fmt.Errorf("the pipeline has not returned: %w", context.Cause(ctx))
	}
}

// warn logs an error that has a failure with its code and hint, and a panic as an error with its stack. A line of each key is written at most once a
// minute, since outsiders and outages determine how often they occur; metrics have the counts. The keys are from a small fixed set.
func (p *pipeline) warn(key, message string, err error, fields ...zap.Field) {
	limit, _ := p.limits.LoadOrStore(key, &rate.Sometimes{Interval: time.Minute})
	limit.(*rate.Sometimes).Do(func() {
		level := zap.WarnLevel
		if panicked, ok := errors.AsType[*panics.Error](err); ok {
			level, fields = zap.ErrorLevel, append(fields, zap.ByteString("stack", panicked.Stack))
		}
		p.logger.Log(level, message, slices.Concat(failure.Of(err).Fields(), fields, []zap.Field{zap.Error(err)})...)
	})
}

// withFailure returns an error of a next consumer with the failure of a code, or with that of a panic if it is one.
func withFailure(err error, code failure.Code) error {
	if _, panicked := errors.AsType[*panics.Error](err); panicked {
		code = failure.ComponentPanicked
	}
	return failure.With(err, failure.New(code))
}
