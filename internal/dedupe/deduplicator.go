// Package dedupe delivers each interaction once, whatever source it came from, and attributes it to a user before it is
// delivered.
package dedupe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// ErrFailedElsewhere reports that an interaction was in flight in another call of Take, which failed. It is not
// permanent: when the interaction comes again, it is delivered like a new one.
var ErrFailedElsewhere = errors.New("an interaction in flight in another call could not be delivered")

// housekeepingInterval is the time between two removals of expired entries.
const housekeepingInterval = time.Minute

// Pipeline delivers interactions. Deliver returns nil only once they were accepted; they are not changed after that.
type Pipeline interface {
	Deliver(ctx context.Context, received []interaction.Received) error
}

// Telemetry counts duplicates. Its methods must not block.
type Telemetry interface {
	// Duplicate counts one interaction that was dropped because it was delivered before.
	Duplicate(ctx context.Context, source interaction.Source)
}

// Settings configures a Deduplicator.
type Settings struct {
	Next Pipeline
	// MaxOpen is how many requests, and how many conversations, are kept for attribution; the oldest are evicted. An
	// evicted conversation may have had several users, and counts as one that had.
	MaxOpen int
	// Window is how long an interaction is known after its delivery.
	Window time.Duration
	// Needed returns the time from which on deliveries stay known beyond Window, because the history since then is read
	// again; zero for none. It must not block. It may be nil.
	Needed func() time.Time
	// MaxEntries is the maximum number of known deliveries; the oldest are evicted. Each takes at most 160 bytes. A
	// deletion counts twice.
	MaxEntries int
	// Store persists the cache; nil for memory only.
	Store Store
	// Logger may be nil.
	Logger *zap.Logger
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Deduplicator delivers each interaction once. It is safe for concurrent use.
type Deduplicator struct {
	pipeline    Pipeline
	telemetry   Telemetry
	attribution *attribution
	needed      func() time.Time
	cache       *cache
	// journal is nil without a store.
	journal *journal
}

// New returns a Deduplicator. It fails for invalid sizes.
func New(set Settings) (*Deduplicator, error) {
	if set.Window <= 0 {
		return nil, fmt.Errorf("dedupe: Window must be positive, not %s", set.Window)
	}
	if set.MaxEntries <= 0 || set.MaxEntries > MaxEntries {
		return nil, fmt.Errorf("dedupe: MaxEntries must be between 1 and %d, not %d", MaxEntries, set.MaxEntries)
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

// Take delivers the interactions that were not delivered before, in one call of the pipeline, and waits until ctx ends
// for those that are in flight in other calls. It returns nil once all of them were delivered, by whichever call, and
// those of this call are persisted. Otherwise the error joins those that apply: that of the pipeline unchanged,
// ErrFailedElsewhere, or one that wraps the error of ctx. Each joined error must be examined by itself: that of the
// pipeline may be permanent while another is not.
//
// Interactions that the pipeline did not accept, permanently or not, are new when they come again. Take may write to
// the elements of received, and keeps their order.
func (d *Deduplicator) Take(ctx context.Context, received []interaction.Received) error {
	_, err := d.Deliver(ctx, received)
	return err
}

// Deliver is like Take, and returns how many of the interactions this call delivered; the others were delivered before
// or by another call. It returns 0 with an error.
func (d *Deduplicator) Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error) {
	if len(received) == 0 {
		return 0, nil
	}
	d.attribution.attribute(received)
	if received[0].Source == interaction.FromHistory {
		d.retain() // the gap being read may have been opened just now
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
	// Deliveries are persisted even if the caller is gone.
	d.journal.commit(context.WithoutCancel(ctx), res.batch)
	return nil
}

// await waits for what is in flight in other calls. Duplicates within this call are decided already.
func (d *Deduplicator) await(ctx context.Context, res reservation) error {
	var failed error
	for _, w := range res.waiting {
		select {
		case <-w.batch.done:
		default:
			select {
			case <-w.batch.done:
			case <-ctx.Done():
				return errors.Join(failed, fmt.Errorf("wait for interactions in flight in another call: %w", ctx.Err()))
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

// retain keeps the cache from dropping entries that are needed.
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

// Known reports whether an interaction with this content digest was delivered within Window, so that it need not be
// decrypted again. If so, it is counted as a duplicate, since it is not passed to Take.
func (d *Deduplicator) Known(contentDigest [32]byte) bool {
	short := digest(contentDigest[:16])
	if short == (digest{}) || !d.cache.knownDigest(short, time.Now()) {
		return false
	}
	d.duplicate(context.Background(), interaction.FromNotification)
	return true
}

// Load reads the stored cache. It is called before everything else. Values that can't be read are logged and replaced;
// only the end of ctx is an error.
func (d *Deduplicator) Load(ctx context.Context) error {
	if d.journal == nil {
		return nil
	}
	d.retain()
	return d.journal.load(ctx)
}

// Run removes expired entries and merges the journal, until ctx ends.
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

// Save merges the journal. What Take returned nil for is persisted without it, too.
func (d *Deduplicator) Save(ctx context.Context) error {
	if d.journal == nil {
		return nil
	}
	return d.journal.save(ctx)
}
