// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
)

// delivery decrypts one collection of notifications and passes it to the pipeline.
type delivery struct {
	settings   *Settings
	collection *notification.Collection
	// reservation is released when the delivery ends, which may be long after the answer.
	reservation *reservation
	arrived     time.Time
	// status receives the status of the answer once. It is buffered, so that the delivery can end after await returned.
	status chan int
	// pending is the number of items that may still be delivered.
	pending atomic.Int64
	// counted is set by the first of the outcome and the timeout. It decides how the pending items are counted.
	counted atomic.Bool
}

// await returns the status of the delivery, or 503 after the timeout. The delivery then continues.
func (d *delivery) await(ctx context.Context, timeout time.Duration) int {
	select {
	case status := <-d.status:
		return status
	case <-time.After(timeout):
	}
	if !d.counted.CompareAndSwap(false, true) {
		return <-d.status // the outcome is known
	}
	d.count(ctx, TimedOut)
	return http.StatusServiceUnavailable
}

// run delivers and sets the status. It releases the reservation before, so that the bytes are available for the next request
// of a sender that was answered. After a panic, which would end the process in this goroutine, the sender is told to retry.
func (d *delivery) run(ctx context.Context) {
	outcome := Failed
	err := panics.Catch(func() error {
		outcome = d.deliver(ctx)
		return nil
	})
	if panicked, ok := errors.AsType[*panics.Error](err); ok {
		d.settings.Logger.Error("a notification is not delivered, Microsoft Graph sends it again", append(
			failure.New(failure.ComponentPanicked).Fields(), zap.Error(err), zap.ByteString("stack", panicked.Stack))...)
	}
	d.reservation.release()
	switch {
	case d.counted.CompareAndSwap(false, true):
		d.count(ctx, outcome)
	case outcome == Delivered: // any other outcome repeats with the retry, which the sender was told to do
		d.count(ctx, DeliveredLate)
	}
	if outcome == Failed {
		d.status <- http.StatusServiceUnavailable
		return
	}
	d.status <- http.StatusAccepted
}

// count counts the pending items.
func (d *delivery) count(ctx context.Context, outcome Outcome) {
	if items := int(d.pending.Load()); items > 0 {
		d.settings.Telemetry.Notifications(ctx, outcome, items)
	}
}

// deliver decrypts the collection and passes on its parts. Lifecycle events come first, since a slow pipeline must not delay the
// renewal of the subscription.
func (d *delivery) deliver(ctx context.Context) Outcome {
	decrypted, err := d.settings.Decrypt(ctx, d.collection, d.arrived)
	if err != nil {
		return Failed
	}
	for _, event := range decrypted.Lifecycle {
		d.settings.Wake(event)
	}
	if len(decrypted.Lifecycle) > 0 {
		d.settings.Telemetry.Notifications(ctx, LifecycleEvent, len(decrypted.Lifecycle))
	}
	if len(decrypted.Rejected) > 0 {
		d.settings.Reject(ctx, decrypted.Rejected)
	}
	d.pending.Store(int64(len(decrypted.Received)))
	if len(decrypted.Received) == 0 {
		return Delivered
	}
	err = d.settings.Deliver(ctx, decrypted.Received)
	switch {
	case err == nil:
		return Delivered
	case failure.Permanent(err):
		return Refused
	default:
		return Failed
	}
}

const (
	// allDeliveries is more than can ever run.
	allDeliveries = math.MaxInt64
	// cancelGracePeriod is the time that canceled deliveries get to return.
	cancelGracePeriod = time.Second
)

// deliveries manages the goroutines that deliver: it starts no new ones after stop, and cancels them if they do not end in time.
// After stop every notification is answered with 503, including those whose body is still arriving, but handshakes as before.
type deliveries struct {
	// stopping ends when no new delivery may start; canceled ends when the running ones are canceled.
	stopping, canceled context.Context
	stop, cancel       context.CancelFunc
	// running holds 1 for each delivery. Whoever holds allDeliveries knows that none is running, and none starts meanwhile.
	running *semaphore.Weighted
}

func newDeliveries() *deliveries {
	d := &deliveries{running: semaphore.NewWeighted(allDeliveries)}
	d.stopping, d.stop = context.WithCancel(context.Background())
	d.canceled, d.cancel = context.WithCancel(context.Background())
	return d
}

// start runs deliver in a goroutine. Its context has the values of ctx and ends when deliver returns or the deliveries are
// canceled, but not with ctx. start returns false after stop.
func (d *deliveries) start(ctx context.Context, deliver func(context.Context)) bool {
	if d.stopping.Err() != nil || !d.running.TryAcquire(1) {
		return false
	}
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(d.canceled, cancel) //nolint:contextcheck // the end of the receiver, not of the request
	go func() {
		defer d.running.Release(1)
		defer cancel()
		defer stop()
		deliver(detached)
	}()
	return true
}

// wait returns nil when all deliveries have ended after stop. If ctx ends first, it cancels them, gives them cancelGracePeriod to
// return, and returns an error.
func (d *deliveries) wait(ctx context.Context) error {
	defer d.cancel()
	if d.running.TryAcquire(allDeliveries) || d.running.Acquire(ctx, allDeliveries) == nil {
		d.running.Release(allDeliveries)
		return nil
	}
	d.cancel()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGracePeriod)
	defer cancel()
	if d.running.Acquire(grace, allDeliveries) == nil {
		d.running.Release(allDeliveries)
	}
	return fmt.Errorf("deliveries were canceled, Microsoft Graph sends them again: %w", context.Cause(ctx))
}
