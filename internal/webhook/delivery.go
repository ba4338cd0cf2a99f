package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
)

// AckTimeout/minWaitDivisor is the least time that a delivery gets, even if the body took most of the timeout to arrive.
// Otherwise a sender on a slow connection would be told to retry every time.
const minWaitDivisor = 10

// delivery decrypts one collection of notifications and passes it to the pipeline.
type delivery struct {
	settings   Settings
	collection *notification.Collection
	// reservation is released when the delivery ends, which may be long after the answer.
	reservation *Reservation
	arrived     time.Time
	// status receives the status of the answer once. It is buffered, so that the delivery can end after await returned.
	status chan int

	mu sync.Mutex
	// late is set when the timeout passed before the outcome was known, done when the outcome is known. The first of both
	// decides how the items are counted.
	late, done bool
	// pending is the number of items that may still be delivered.
	pending int
}

func newDelivery(settings Settings, collection *notification.Collection, reservation *Reservation, arrived time.Time) *delivery {
	return &delivery{
		settings:    settings,
		collection:  collection,
		reservation: reservation,
		arrived:     arrived,
		status:      make(chan int, 1),
		pending:     len(collection.Items),
	}
}

// timeLeft returns how long the answer to a request that arrived at this time may still take.
func (s *Settings) timeLeft(arrived time.Time) time.Duration {
	return max(s.AckTimeout-time.Since(arrived), s.AckTimeout/minWaitDivisor)
}

// await returns the status of the delivery, or 503 if the acknowledgment timeout passes first.
func (d *delivery) await(ctx context.Context) int {
	timer := time.NewTimer(d.settings.timeLeft(d.arrived))
	defer timer.Stop()
	select {
	case status := <-d.status:
		return status
	case <-timer.C:
	}
	pending, ok := d.giveUp()
	if !ok {
		return <-d.status
	}
	d.settings.Telemetry.Notifications(ctx, TimedOut, pending)
	return http.StatusServiceUnavailable
}

// giveUp makes the delivery late. It returns false if the outcome is already known.
func (d *delivery) giveUp() (pending int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = !d.done
	return d.pending, d.late
}

// run delivers and sets the status. It releases the reservation before, so that the bytes are available for the next request
// of a sender that was answered.
func (d *delivery) run(ctx context.Context) {
	outcome, items := d.deliverOrRecover(ctx)
	d.reservation.Release()
	d.count(ctx, outcome, items)
	if outcome == Failed {
		d.status <- http.StatusServiceUnavailable
		return
	}
	d.status <- http.StatusAccepted
}

// deliver decrypts the collection and passes on its parts. Lifecycle events come first, since a slow pipeline must not delay the
// renewal of the subscription.
func (d *delivery) deliver(ctx context.Context) (outcome Outcome, items int) {
	decrypted, err := d.settings.Decrypter.Decrypt(ctx, d.collection, d.arrived)
	if err != nil {
		return Failed, len(d.collection.Items)
	}
	noteAuthentic(ctx, decrypted)
	for _, event := range decrypted.Lifecycle {
		d.settings.Lifecycle.Wake(event)
	}
	if len(decrypted.Lifecycle) > 0 {
		d.settings.Telemetry.Notifications(ctx, LifecycleEvent, len(decrypted.Lifecycle))
	}
	if len(decrypted.Rejected) > 0 {
		d.settings.Rejections.Reject(ctx, decrypted.Rejected)
	}
	items = len(decrypted.Received)
	if items == 0 {
		return Delivered, 0
	}
	d.mu.Lock()
	d.pending = items
	d.mu.Unlock()
	err = d.settings.Intake.Take(ctx, decrypted.Received)
	switch {
	case err == nil:
		return Delivered, items
	case Permanent(err):
		return Refused, items
	default:
		return Failed, items
	}
}

// count counts the outcome. If the sender was already told to retry, only a success is counted, since any other outcome will
// repeat with the retry.
func (d *delivery) count(ctx context.Context, outcome Outcome, items int) {
	d.mu.Lock()
	d.done = true
	late := d.late
	d.mu.Unlock()
	switch {
	case items == 0:
	case !late:
		d.settings.Telemetry.Notifications(ctx, outcome, items)
	case outcome == Delivered:
		d.settings.Telemetry.Notifications(ctx, DeliveredLate, items)
	}
}

// cancelGracePeriod is the time that canceled deliveries get to return.
const cancelGracePeriod = time.Second

// deliveries manages the goroutines that deliver: it counts them, starts no new ones after stop, and cancels them if they do not
// end in time.
type deliveries struct {
	// stopping ends when no new delivery may start; canceled ends when the running ones are canceled.
	stopping, canceled        context.Context
	cancelStopping, cancelAll context.CancelFunc

	mu      sync.Mutex
	stopped bool
	count   int
	// ended is closed when stopped is true and count is zero.
	ended chan struct{}
}

func newDeliveries() *deliveries {
	d := &deliveries{ended: make(chan struct{})}
	d.stopping, d.cancelStopping = context.WithCancel(context.Background())
	d.canceled, d.cancelAll = context.WithCancel(context.Background())
	return d
}

// start runs deliver in a goroutine. Its context has the values of ctx and ends when deliver returns or the deliveries are
// canceled, but not with ctx. start returns false after stop.
func (d *deliveries) start(ctx context.Context, deliver func(context.Context)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	d.count++
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(d.canceled, cancel) //nolint:contextcheck // the end of the receiver, not of the request
	go func() {
		defer d.end()
		defer cancel()
		defer stop()
		deliver(detached)
	}()
	return true
}

// deliverOrRecover calls deliver and recovers from a panic, which net/http does not do in this goroutine and which would end the
// process. The sender is then told to retry.
func (d *delivery) deliverOrRecover(ctx context.Context) (outcome Outcome, items int) {
	err := panics.Catch(func() error {
		outcome, items = d.deliver(ctx)
		return nil
	})
	if panicked, ok := errors.AsType[*panics.Error](err); ok {
		d.settings.Logger.Error("a notification is not delivered, Microsoft Graph sends it again",
			zap.Error(err), zap.ByteString("stack", panicked.Stack),
			zap.String("hint", "the stack names the component that panicked: report it to its maintainers"))
		d.mu.Lock()
		defer d.mu.Unlock()
		return Failed, d.pending
	}
	return outcome, items
}

func (d *deliveries) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count--
	d.closeIfEnded()
}

// stop prevents further deliveries from starting.
func (d *deliveries) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	d.stopped = true
	d.cancelStopping()
	d.closeIfEnded()
}

func (d *deliveries) closeIfEnded() {
	if d.stopped && d.count == 0 {
		close(d.ended)
	}
}

func (d *deliveries) inFlight() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// wait returns nil when all deliveries have ended after stop. If ctx ends first, it cancels them, gives them cancelGracePeriod to
// return, and returns an error with their number.
func (d *deliveries) wait(ctx context.Context) error {
	defer d.cancelAll()
	select {
	case <-d.ended:
		return nil
	default:
	}
	select {
	case <-d.ended:
		return nil
	case <-ctx.Done():
	}
	canceled := d.inFlight()
	if canceled == 0 {
		return nil
	}
	d.cancelAll()
	timer := time.NewTimer(cancelGracePeriod)
	defer timer.Stop()
	select {
	case <-d.ended:
	case <-timer.C:
	}
	return fmt.Errorf("%d deliveries were canceled, Microsoft Graph sends them again: %w", canceled, context.Cause(ctx))
}

// Permanent reports whether every leaf of an error tree is permanent, so that a retry with the same data would fail again. If
// one pipeline refused the data permanently and another only temporarily, the data must be sent again.
//
// The nodes of a tree are the errors of errors.Join, of fmt.Errorf with several %w, and of go.uber.org/multierr. An error that
// wraps a node, even consumererror.NewPermanent, says nothing about its leaves.
func Permanent(err error) bool {
	for part := err; part != nil; part = errors.Unwrap(part) {
		if leaves, ok := branches(part); ok {
			return allPermanent(leaves)
		}
	}
	return consumererror.IsPermanent(err)
}

func allPermanent(errs []error) bool {
	found := false
	for _, err := range errs {
		if err == nil {
			continue
		}
		if !Permanent(err) {
			return false
		}
		found = true
	}
	return found
}

// branches returns the children of a node. It must not look at wrapped errors, hence no errors.As.
func branches(err error) ([]error, bool) {
	switch many := err.(type) { //nolint:errorlint // see above
	case interface{ Unwrap() []error }:
		return many.Unwrap(), true
	case interface{ Errors() []error }:
		return many.Errors(), true
	default:
		return nil, false
	}
}
