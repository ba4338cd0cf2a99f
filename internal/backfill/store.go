package backfill

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// Store keeps values over a restart, as a storage client of the Collector does. There are no transactions: what is written
// here is written so that an end of the process between any two calls repeats work at worst.
type Store interface {
	// Get returns nil for a key that is not there.
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// The keys. Those that end in a slash are followed by a number.
const (
	gapsKey       = "history/gaps"
	doneKey       = "history/done/"
	seenKey       = "history/seen/"
	unlicensedKey = "history/unlicensed/"
)

// Load reads what an earlier run kept: the open gaps with their progress, the users seen, and those left alone. It is
// called before everything else but Open, Item and Seen. A value that can't be read is logged and replaced; only a store
// that fails is an error. Then nothing is written until it has been read after all, which every write tries first.
func (f *Backfiller) Load(ctx context.Context) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	defer func() { <-f.saving }()
	return f.load(ctx)
}

// turn waits until nobody else writes. Its error is that of the context: the store may hang.
func (f *Backfiller) turn(ctx context.Context) error {
	select {
	case f.saving <- struct{}{}: // also where ctx has ended already: a last write may still work
		return nil
	default:
	}
	select {
	case f.saving <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the storage: %w", ctx.Err())
	}
}

// load is called by whoever writes.
func (f *Backfiller) load(ctx context.Context) error {
	value, err := f.s.Store.Get(ctx, gapsKey)
	if err != nil {
		return fmt.Errorf("read the open gaps from storage: %w", err)
	}
	stored := f.s.newGapStore()
	if value != nil {
		if err := stored.decode(value); err != nil {
			f.damaged(gapsKey, err)
		}
	}
	done, damage, err := loadProgress(ctx, f.s.Store, stored.pass)
	if err != nil {
		return fmt.Errorf("read the progress of a gap from storage: %w", err)
	}
	if damage != nil {
		f.damaged(doneKey, damage)
	}
	for _, s := range []*userTimes{f.seen, f.unlicensed} {
		damage, err := s.load(ctx, f.s.Store)
		if err != nil {
			return fmt.Errorf("read users from storage: %w", err)
		}
		if damage != nil {
			f.damaged(s.key, damage)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.adopt(stored, done)
	f.loaded = true
	return nil
}

// adopt takes the stored book in, together with what was opened before. A stored reading begins anew where another is
// under way, or none may be. It is called with mu held.
func (f *Backfiller) adopt(stored gapStore, done *progress) {
	if r := stored.pass; r != nil && (f.gaps.pass != nil || f.s.Disabled) {
		for _, part := range r.intervals {
			stored.intervals = merge(stored.intervals, part)
		}
		stored.pass = nil
		f.unsaved = true
	}
	for _, s := range f.gaps.intervals {
		stored.intervals = merge(stored.intervals, s)
	}
	if f.gaps.pass != nil {
		stored.pass, done = f.gaps.pass, f.done
	}
	f.gaps, f.done = stored, done
}

// knows tells whether what an earlier run kept is known, and tries to read it where it is not. It is called by
// whoever writes.
func (f *Backfiller) knows(ctx context.Context) error {
	f.mu.Lock()
	loaded := f.loaded
	f.mu.Unlock()
	if loaded {
		return nil
	}
	return f.load(ctx)
}

func (f *Backfiller) damaged(key string, err error) {
	f.s.Logger.Warn("stored history state can't be read and is replaced", zap.String("key", key), zap.Error(err))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsaved = true
}

// Save writes down everything. It is called at shutdown, after Run has returned.
func (f *Backfiller) Save(ctx context.Context) error { return f.flush(ctx, true) }

// Flush writes down the gaps. Those that were opened before it was called survive a kill once it has returned nil. A failure
// is logged, once until the store works again. It is safe for concurrent use.
func (f *Backfiller) Flush(ctx context.Context) error {
	err := f.turn(ctx)
	if wasHanging := f.hanging.Swap(err != nil); err != nil {
		if !wasHanging {
			f.s.Logger.Warn("storage does not answer, open gaps wait to be stored; check the storage extension", zap.Error(err))
		}
		return err
	}
	defer func() { <-f.saving }()
	err = f.knows(ctx)
	if err == nil {
		err = f.flushGaps(ctx)
	}
	if err != nil && ctx.Err() == nil {
		f.unsavable(err)
	}
	return err
}

// flush writes down what changed. Gaps come before the users done of them: a list of users without its gap means nothing.
func (f *Backfiller) flush(ctx context.Context, users bool) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	defer func() { <-f.saving }()
	err := f.knows(ctx)
	if err == nil {
		err = f.flushGaps(ctx)
	}
	if err == nil {
		err = f.progress().flush(ctx, f.s.Store)
	}
	if users && f.knows(ctx) == nil {
		err = errors.Join(err, f.seen.flush(ctx, f.s.Store), f.unlicensed.flush(ctx, f.s.Store))
	}
	if err != nil && ctx.Err() == nil {
		f.unsavable(err)
	} else if err == nil {
		f.storeFails = false
	}
	return err
}

// unsavable says once that the store fails, until it works again.
func (f *Backfiller) unsavable(err error) {
	if !f.storeFails {
		f.storeFails = true
		f.s.Logger.Warn("history state can't be stored, a restart may read again what was read, and forget open gaps; check the storage extension",
			zap.Error(err))
	}
}

func (f *Backfiller) flushGaps(ctx context.Context) error {
	f.mu.Lock()
	if !f.unsaved {
		f.mu.Unlock()
		return nil
	}
	f.unsaved = false
	value, err := f.gaps.encode()
	f.mu.Unlock()
	if err == nil {
		err = f.s.Store.Set(ctx, gapsKey, value)
	}
	if err != nil {
		f.mu.Lock()
		f.unsaved = true
		f.mu.Unlock()
		return fmt.Errorf("store the open gaps: %w", err)
	}
	return nil
}

func (f *Backfiller) progress() *progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}
