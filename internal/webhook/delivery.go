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

// minWaitDivisor is the part of the acknowledgment timeout that a delivery has in any case, even if the body took most of the
// timeout to arrive. Without it a sender on a slow line would never hear of a success, although its retries wait 10 s.
const minWaitDivisor = 10

// delivery is one collection of notifications on its way from the body to the pipeline.
type delivery struct {
	settings   Settings
	collection *notification.Collection
	// reservation is released when the delivery has ended, which may be long after the answer.
	reservation *Reservation
	arrived     time.Time
	// status gets the status, once; it has room for it, so that the delivery can end although nobody waits any more.
	status chan int

	mu sync.Mutex
	// late is true once the sender was told that the timeout passed, done once the outcome is known. Whichever comes
	// first says how the items count.
	late, done bool
	// pending is how many items may still be delivered.
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

// timeLeft is how long the answer to what arrived then may still take.
func (s *Settings) timeLeft(arrived time.Time) time.Duration {
	return max(s.AckTimeout-time.Since(arrived), s.AckTimeout/minWaitDivisor)
}

// await returns the status of the delivery, or 503 when the acknowledgment timeout passes first.
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

// giveUp makes the delivery late. It returns false if the outcome is known already.
func (d *delivery) giveUp() (pending int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = !d.done
	return d.pending, d.late
}

// run delivers, gives the bytes back, and then tells, so that a sender who was told finds room for its next request.
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

// deliver opens the collection and hands its parts on. Lifecycle events come first, since a slow pipeline must not hold
// up the renewal of the subscription.
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

// count counts the outcome. Where the sender was told to come again already, only a success counts: whatever else it was
// will show when it comes.
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

// cancelGracePeriod is how long canceled deliveries may take to return.
const cancelGracePeriod = time.Second

// deliveries owns the goroutines that deliver: it knows how many are under way, lets no new one begin once stopped, and
// cancels them when they had long enough.
type deliveries struct {
	// stopping ends when no new delivery may begin; cut ends the context of those under way.
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

// start runs deliver in a goroutine with a context that has the values of ctx and lasts until deliver returns or the
// deliveries are cut short, whatever becomes of ctx. It returns false once stopped.
func (d *deliveries) start(ctx context.Context, deliver func(context.Context)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	d.count++
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(d.canceled, cancel) //nolint:contextcheck // the end of the receiver, not of the request
	go func() {
		defer d.end()
		defer cancel()
		defer unhook()
		deliver(detached)
	}()
	return true
}

// deliverOrRecover is deliver, for a goroutine that net/http does not guard: a panic there would end the process. The
// sender is asked to come again.
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

// stop lets no further delivery begin.
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

// wait returns nil when all deliveries have ended after stop. When ctx ends first it cancels them, gives them a second
// to return, and tells how many were cut short.
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

// Permanent reports whether every leaf of an error is permanent, so that the same data would be refused again by all
// who refused it. One pipeline may refuse for good what another could not take just now: that must come again.
//
// Branches are those of errors.Join, of fmt.Errorf with several %w, and of go.uber.org/multierr. What wraps a branching
// error, even consumererror.NewPermanent, says nothing of its leaves.
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

// branches looks at one error and not at what it wraps, hence no errors.As.
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
