package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
)

// returnTime is how long canceled deliveries may take to return.
const returnTime = time.Second

// deliveries owns the goroutines that deliver: it knows how many are under way, lets no new one begin once stopped, and
// cancels them when they had long enough.
type deliveries struct {
	// stopping ends when no new delivery may begin; cut ends the context of those under way.
	stopping, cut       context.Context
	endStopping, endCut context.CancelFunc

	mu      sync.Mutex
	stopped bool
	count   int
	// ended is closed when stopped is true and count is zero.
	ended chan struct{}
}

func newDeliveries() *deliveries {
	d := &deliveries{ended: make(chan struct{})}
	d.stopping, d.endStopping = context.WithCancel(context.Background())
	d.cut, d.endCut = context.WithCancel(context.Background())
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
	unhook := context.AfterFunc(d.cut, cancel) //nolint:contextcheck // the end of the receiver, not of the request
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
	d.endStopping()
	d.closeIfEnded()
}

func (d *deliveries) closeIfEnded() {
	if d.stopped && d.count == 0 {
		close(d.ended)
	}
}

func (d *deliveries) underWay() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// wait returns nil when all deliveries have ended after stop. When ctx ends first it cancels them, gives them a second
// to return, and tells how many were cut short.
func (d *deliveries) wait(ctx context.Context) error {
	defer d.endCut()
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
	cut := d.underWay()
	if cut == 0 {
		return nil
	}
	d.endCut()
	patience := time.NewTimer(returnTime)
	defer patience.Stop()
	select {
	case <-d.ended:
	case <-patience.C:
	}
	return fmt.Errorf("%d deliveries were canceled, Microsoft Graph sends them again: %w", cut, context.Cause(ctx))
}
