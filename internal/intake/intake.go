// Package intake is the one way in: whatever brought an interaction, here it is told from those that were delivered
// before, and learns whose it is, before it goes out.
package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// ErrFailedElsewhere says that an interaction was already under way in another call of Take, which failed. It is not
// permanent: when the interaction comes again, it is delivered like a new one.
var ErrFailedElsewhere = errors.New("an interaction that was already under way could not be delivered")

// housekeeping is how often what is too old is freed.
const housekeeping = time.Minute

// Outlet hands interactions to the pipelines. It returns nil only when they were taken;
// after that the interactions are not touched again.
type Outlet interface {
	Deliver(ctx context.Context, received []interaction.Received) error
}

// Telemetry is what the intake reports of itself. Its methods never block.
type Telemetry interface {
	// Duplicate counts one interaction that was delivered before and so was dropped.
	Duplicate(ctx context.Context, source interaction.Source)
}

// Settings are what an intake is made of.
type Settings struct {
	Outlet Outlet
	// MaxOpen is how many requests, and how many conversations, the user is remembered of, the oldest forgotten first. A
	// forgotten conversation may have had several users, and counts as one that has.
	MaxOpen int
	// Window is how long an interaction is known after its delivery.
	Window time.Duration
	// Needed returns from when on deliveries stay known beyond Window, because what happened since then is read again; zero
	// for none. It must not block. It may be nil.
	Needed func() time.Time
	// MaxEntries is how many are known at most, the oldest forgotten first; one takes at most 160 bytes.
	// A deletion counts twice.
	MaxEntries int
	// Store keeps the window across a restart; nil for in memory alone.
	Store Store
	// Logger may be nil.
	Logger *zap.Logger
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Intake takes interactions in. It is safe for concurrent use.
type Intake struct {
	outlet      Outlet
	telemetry   Telemetry
	attribution *attribution
	needed      func() time.Time
	window      *window
	// ledger is nil without a store.
	ledger *ledger
}

// New makes an intake. It fails for sizes that make no sense.
func New(set Settings) (*Intake, error) {
	if set.Window <= 0 {
		return nil, fmt.Errorf("the window for duplicates must be longer than %s", set.Window)
	}
	if set.MaxEntries <= 0 || set.MaxEntries > MaxEntries {
		return nil, fmt.Errorf("the window for duplicates has from 1 to %d entries, not %d", MaxEntries, set.MaxEntries)
	}
	attribution, err := newAttribution(set.MaxOpen)
	if err != nil {
		return nil, err
	}
	i := &Intake{
		outlet:      set.Outlet,
		telemetry:   set.Telemetry,
		attribution: attribution,
		needed:      set.Needed,
		window:      newWindow(set.Window, set.MaxEntries),
	}
	if set.Store != nil {
		logger := set.Logger
		if logger == nil {
			logger = zap.NewNop()
		}
		i.ledger = newLedger(set.Store, i.window, logger)
	}
	return i, nil
}

// Take delivers the interactions that were not delivered before, in one call of the outlet, and waits for those that are
// under way in other calls until ctx ends. It returns nil once all of them were delivered, by whichever call, and what
// was delivered is written down. Else the error joins those that apply: the outlet's as it is, ErrFailedElsewhere, or one
// that wraps the error of ctx. Each leaf speaks for itself: the outlet's may be permanent while another is not.
//
// What the outlet did not take, for good or for now, is new again when it comes again.
// Take may write to the elements of received, and leaves their order.
func (i *Intake) Take(ctx context.Context, received []interaction.Received) error {
	_, err := i.Deliver(ctx, received)
	return err
}

// Deliver is Take that also tells how many of the interactions this call delivered; the others were delivered before or by
// another call. It is 0 with an error, of which it says nothing.
func (i *Intake) Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error) {
	if len(received) == 0 {
		return 0, nil
	}
	i.attribution.attribute(received)
	if received[0].Source == interaction.FromHistory {
		i.hold() // what is read was found missing just now, maybe
	}
	c := i.window.claim(received, time.Now())
	for _, source := range c.duplicates {
		i.duplicate(ctx, source)
	}
	var delivery error
	if c.batch != nil {
		delivery = i.deliver(ctx, c)
	}
	elsewhere := i.await(ctx, c)
	switch {
	case delivery != nil && elsewhere != nil:
		return 0, errors.Join(delivery, elsewhere)
	case delivery != nil:
		return 0, delivery
	case elsewhere != nil:
		return 0, elsewhere
	default:
		return len(c.fresh), nil
	}
}

func (i *Intake) deliver(ctx context.Context, c claim) error {
	if err := i.outlet.Deliver(ctx, c.fresh); err != nil {
		i.window.release(c.batch)
		return err
	}
	if i.ledger == nil {
		i.window.keep(time.Now(), c.batch)
		return nil
	}
	// What was delivered is written down even if nobody waits any more.
	i.ledger.keep(context.WithoutCancel(ctx), c.batch)
	return nil
}

// await waits for what is under way in other calls. What this call had twice is decided already.
func (i *Intake) await(ctx context.Context, c claim) error {
	var failed error
	for _, w := range c.waiting {
		select {
		case <-w.batch.decided:
		default:
			select {
			case <-w.batch.decided:
			case <-ctx.Done():
				return errors.Join(failed, fmt.Errorf("wait for interactions that are already under way: %w", ctx.Err()))
			}
		}
		switch {
		case w.batch.delivered:
			i.duplicate(ctx, w.source)
		case w.batch != c.batch:
			failed = ErrFailedElsewhere
		}
	}
	return failed
}

// hold keeps the window from forgetting what is needed.
func (i *Intake) hold() {
	if i.needed != nil {
		i.window.hold(i.needed())
	}
}

func (i *Intake) duplicate(ctx context.Context, source interaction.Source) {
	if i.telemetry != nil {
		i.telemetry.Duplicate(ctx, source)
	}
}

// Known tells whether an interaction whose Signature this is was delivered within the window, so that it need not be
// decrypted again. If so, it counts as a duplicate here, since it is not handed to Take.
func (i *Intake) Known(signature [32]byte) bool {
	short := digest(signature[:16])
	if short == (digest{}) || !i.window.known(short, time.Now()) {
		return false
	}
	i.duplicate(context.Background(), interaction.FromNotification)
	return true
}

// Load reads from the store what was delivered before the restart. It is called before everything else.
// What can't be read is reported and replaced; only the end of ctx is an error.
func (i *Intake) Load(ctx context.Context) error {
	if i.ledger == nil {
		return nil
	}
	i.hold()
	return i.ledger.load(ctx)
}

// Run frees what is too old and tidies the store, until ctx ends.
func (i *Intake) Run(ctx context.Context) {
	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()
	var full <-chan struct{}
	if i.ledger != nil {
		full = i.ledger.full
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-full:
		case <-ticker.C:
		}
		i.hold()
		i.window.expire(time.Now())
		if i.ledger != nil {
			i.ledger.tidy(ctx)
		}
	}
}

// Save leaves the store tidy. Nothing that Take returned nil for depends on it.
func (i *Intake) Save(ctx context.Context) error {
	if i.ledger == nil {
		return nil
	}
	return i.ledger.save(ctx)
}
