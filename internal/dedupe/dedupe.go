// Package intake is the one way in: whatever brought an interaction, here it is told from those that were delivered
// before, and learns whose it is, before it goes out.
package dedupe

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
	Next Outlet
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

// Deduplicator takes interactions in. It is safe for concurrent use.
type Deduplicator struct {
	outlet      Outlet
	telemetry   Telemetry
	attribution *attribution
	needed      func() time.Time
	cache       *cache
	// journal is nil without a store.
	journal *journal
}

// New makes an intake. It fails for sizes that make no sense.
func New(set Settings) (*Deduplicator, error) {
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
	i := &Deduplicator{
		outlet:      set.Next,
		telemetry:   set.Telemetry,
		attribution: attribution,
		needed:      set.Needed,
		cache:       newCache(set.Window, set.MaxEntries),
	}
	if set.Store != nil {
		logger := set.Logger
		if logger == nil {
			logger = zap.NewNop()
		}
		i.journal = newJournal(set.Store, i.cache, logger)
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
func (i *Deduplicator) Take(ctx context.Context, received []interaction.Received) error {
	_, err := i.Deliver(ctx, received)
	return err
}

// Deliver is Take that also tells how many of the interactions this call delivered; the others were delivered before or by
// another call. It is 0 with an error, of which it says nothing.
func (i *Deduplicator) Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error) {
	if len(received) == 0 {
		return 0, nil
	}
	i.attribution.attribute(received)
	if received[0].Source == interaction.FromHistory {
		i.retain() // what is read was found missing just now, maybe
	}
	c := i.cache.reserve(received, time.Now())
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

func (i *Deduplicator) deliver(ctx context.Context, c reservation) error {
	if err := i.outlet.Deliver(ctx, c.fresh); err != nil {
		i.cache.release(c.batch)
		return err
	}
	if i.journal == nil {
		i.cache.keep(time.Now(), c.batch)
		return nil
	}
	// What was delivered is written down even if nobody waits any more.
	i.journal.keep(context.WithoutCancel(ctx), c.batch)
	return nil
}

// await waits for what is under way in other calls. What this call had twice is decided already.
func (i *Deduplicator) await(ctx context.Context, c reservation) error {
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

// retain keeps the window from forgetting what is needed.
func (i *Deduplicator) retain() {
	if i.needed != nil {
		i.cache.retainFrom(i.needed())
	}
}

func (i *Deduplicator) duplicate(ctx context.Context, source interaction.Source) {
	if i.telemetry != nil {
		i.telemetry.Duplicate(ctx, source)
	}
}

// Known tells whether an interaction whose Signature this is was delivered within the window, so that it need not be
// decrypted again. If so, it counts as a duplicate here, since it is not handed to Take.
func (i *Deduplicator) Known(signature [32]byte) bool {
	short := digest(signature[:16])
	if short == (digest{}) || !i.cache.known(short, time.Now()) {
		return false
	}
	i.duplicate(context.Background(), interaction.FromNotification)
	return true
}

// Load reads from the store what was delivered before the restart. It is called before everything else.
// What can't be read is reported and replaced; only the end of ctx is an error.
func (i *Deduplicator) Load(ctx context.Context) error {
	if i.journal == nil {
		return nil
	}
	i.retain()
	return i.journal.load(ctx)
}

// Run frees what is too old and tidies the store, until ctx ends.
func (i *Deduplicator) Run(ctx context.Context) {
	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()
	var full <-chan struct{}
	if i.journal != nil {
		full = i.journal.full
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-full:
		case <-ticker.C:
		}
		i.retain()
		i.cache.expire(time.Now())
		if i.journal != nil {
			i.journal.tidy(ctx)
		}
	}
}

// Save leaves the store tidy. Nothing that Take returned nil for depends on it.
func (i *Deduplicator) Save(ctx context.Context) error {
	if i.journal == nil {
		return nil
	}
	return i.journal.save(ctx)
}
