package webhook

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// leastWait is the part of the acknowledgment timeout that a delivery has in any case, even if the body took most of the
// timeout to arrive. Without it a sender on a slow line would never hear of a success, although its retries wait 10 s.
const leastWait = 10

// delivery is one collection of notifications on its way from the body to the pipeline.
type delivery struct {
	settings   Settings
	collection *notification.Collection
	// reservation is released when the delivery has ended, which may be long after the answer.
	reservation *Reservation
	arrived     time.Time
	// decided gets the status, once; it has room for it, so that the delivery can end although nobody waits any more.
	decided chan int

	mu sync.Mutex
	// late is true once the sender was told that the timeout passed, done once the outcome is known. Whichever comes
	// first says how the items count.
	late, done bool
	// pending is how many items may still be delivered.
	pending int
}

func newDelivery(settings Settings, collection *notification.Collection, share *Reservation, arrived time.Time) *delivery {
	return &delivery{
		settings:    settings,
		collection:  collection,
		reservation: share,
		arrived:     arrived,
		decided:     make(chan int, 1),
		pending:     len(collection.Items),
	}
}

// timeLeft is how long the answer to what arrived then may still take.
func (s *Settings) timeLeft(arrived time.Time) time.Duration {
	return max(s.AckTimeout-time.Since(arrived), s.AckTimeout/leastWait)
}

// await returns the status of the delivery, or 503 when the acknowledgment timeout passes first.
func (d *delivery) await(ctx context.Context) int {
	timer := time.NewTimer(d.settings.timeLeft(d.arrived))
	defer timer.Stop()
	select {
	case status := <-d.decided:
		return status
	case <-timer.C:
	}
	pending, ok := d.giveUp()
	if !ok {
		return <-d.decided
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
		d.decided <- http.StatusServiceUnavailable
		return
	}
	d.decided <- http.StatusAccepted
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
