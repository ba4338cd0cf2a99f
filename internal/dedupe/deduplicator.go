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

// housekeepingInterval is how often what is too old is freed.
const housekeepingInterval = time.Minute

// Pipeline hands interactions to the pipelines. It returns nil only when they were taken;
// after that the interactions are not touched again.
type Pipeline interface {
	Deliver(ctx context.Context, received []interaction.Received) error
}

// Telemetry is what the intake reports of itself. Its methods never block.
type Telemetry interface {
	// Duplicate counts one interaction that was delivered before and so was dropped.
	Duplicate(ctx context.Context, source interaction.Source)
}

// Settings are what an intake is made of.
type Settings struct {
	Next Pipeline
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
	pipeline    Pipeline
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
	d := &Deduplicator{
		pipeline:    set.Next,
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
		d.journal = newJournal(set.Store, d.cache, logger)
	}
	return d, nil
}

// Take delivers the interactions that were not delivered before, in one call of the outlet, and waits for those that are
// under way in other calls until ctx ends. It returns nil once all of them were delivered, by whichever call, and what
// was delivered is written down. Else the error joins those that apply: the outlet's as it is, ErrFailedElsewhere, or one
// that wraps the error of ctx. Each leaf speaks for itself: the outlet's may be permanent while another is not.
//
// What the outlet did not take, for good or for now, is new again when it comes again.
// Take may write to the elements of received, and leaves their order.
func (d *Deduplicator) Take(ctx context.Context, received []interaction.Received) error {
	_, err := d.Deliver(ctx, received)
	return err
}

// Deliver is Take that also tells how many of the interactions this call delivered; the others were delivered before or by
// another call. It is 0 with an error, of which it says nothing.
func (d *Deduplicator) Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error) {
	if len(received) == 0 {
		return 0, nil
	}
	d.attribution.attribute(received)
	if received[0].Source == interaction.FromHistory {
		d.retain() // what is read was found missing just now, maybe
	}
	res := d.cache.reserve(received, time.Now())
	for _, source := range res.duplicates {
		d.duplicate(ctx, source)
	}
	var delivery error
	if res.batch != nil {
		delivery = d.deliver(ctx, res)
	}
	elsewhere := d.await(ctx, res)
	switch {
	case delivery != nil && elsewhere != nil:
		return 0, errors.Join(delivery, elsewhere)
	case delivery != nil:
		return 0, delivery
	case elsewhere != nil:
		return 0, elsewhere
	default:
		return len(res.fresh), nil
	}
}

func (d *Deduplicator) deliver(ctx context.Context, res reservation) error {
	if err := d.pipeline.Deliver(ctx, res.fresh); err != nil {
		d.cache.release(res.batch)
		return err
	}
	if d.journal == nil {
		d.cache.commit(time.Now(), res.batch)
		return nil
	}
	// What was delivered is written down even if nobody waits any more.
	d.journal.commit(context.WithoutCancel(ctx), res.batch)
	return nil
}

// await waits for what is under way in other calls. What this call had twice is decided already.
func (d *Deduplicator) await(ctx context.Context, res reservation) error {
	var failed error
	for _, w := range res.waiting {
		select {
		case <-w.batch.done:
		default:
			select {
			case <-w.batch.done:
			case <-ctx.Done():
				return errors.Join(failed, fmt.Errorf("wait for interactions that are already under way: %w", ctx.Err()))
			}
		}
		switch {
		case w.batch.delivered:
			d.duplicate(ctx, w.source)
		case w.batch != res.batch:
			failed = ErrFailedElsewhere
		}
	}
	return failed
}

// retain keeps the window from forgetting what is needed.
func (d *Deduplicator) retain() {
	if d.needed != nil {
		d.cache.retainFrom(d.needed())
	}
}

func (d *Deduplicator) duplicate(ctx context.Context, source interaction.Source) {
	if d.telemetry != nil {
		d.telemetry.Duplicate(ctx, source)
	}
}

// Known tells whether an interaction whose Signature this is was delivered within the window, so that it need not be
// decrypted again. If so, it counts as a duplicate here, since it is not handed to Take.
func (d *Deduplicator) Known(contentDigest [32]byte) bool {
	short := digest(contentDigest[:16])
	if short == (digest{}) || !d.cache.knownDigest(short, time.Now()) {
		return false
	}
	d.duplicate(context.Background(), interaction.FromNotification)
	return true
}

// Load reads from the store what was delivered before the restart. It is called before everything else.
// What can't be read is reported and replaced; only the end of ctx is an error.
func (d *Deduplicator) Load(ctx context.Context) error {
	if d.journal == nil {
		return nil
	}
	d.retain()
	return d.journal.load(ctx)
}

// Run frees what is too old and tidies the store, until ctx ends.
func (d *Deduplicator) Run(ctx context.Context) {
	ticker := time.NewTicker(housekeepingInterval)
	defer ticker.Stop()
	var mergeNeeded <-chan struct{}
	if d.journal != nil {
		mergeNeeded = d.journal.mergeNeeded
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-mergeNeeded:
		case <-ticker.C:
		}
		d.retain()
		d.cache.expire(time.Now())
		if d.journal != nil {
			d.journal.tidy(ctx)
		}
	}
}

// Save leaves the store tidy. Nothing that Take returned nil for depends on it.
func (d *Deduplicator) Save(ctx context.Context) error {
	if d.journal == nil {
		return nil
	}
	return d.journal.save(ctx)
}
