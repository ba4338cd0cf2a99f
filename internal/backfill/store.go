package backfill

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Store persists values, as a storage client of the Collector does. There are no transactions: writes are ordered so
// that a crash between any two of them only repeats work.
type Store interface {
	// Get returns nil for an absent key.
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// The keys. A number follows those that end in a slash.
const (
	gapsKey       = "history/gaps"
	doneKey       = "history/done/"
	seenKey       = "history/seen/"
	unlicensedKey = "history/unlicensed/"
)

// Load reads the stored state: the open gaps with their progress, the users seen, and those without a license. It is
// called before everything else but Open, Item and Seen. A value that can't be read is logged and replaced; only a
// failing store is an error. After an error every write first tries to load again, and writes nothing until that
// succeeds.
func (b *Backfiller) Load(ctx context.Context) error {
	if err := b.acquireStore(ctx); err != nil {
		return err
	}
	defer func() { <-b.saving }()
	return b.load(ctx)
}

// acquireStore waits until no other write runs. It returns the context's error, since the store may hang.
func (b *Backfiller) acquireStore(ctx context.Context) error {
	select {
	case b.saving <- struct{}{}: // even if ctx has ended: a last write may still succeed
		return nil
	default:
	}
	select {
	case b.saving <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the storage: %w", ctx.Err())
	}
}

// load is called with the store acquired.
func (b *Backfiller) load(ctx context.Context) error {
	value, err := b.s.Store.Get(ctx, gapsKey)
	if err != nil {
		return fmt.Errorf("read the open gaps from storage: %w", err)
	}
	stored := b.s.newGapStore()
	if value != nil {
		if err := stored.decode(value); err != nil {
			b.logDamaged(gapsKey, err)
		}
	}
	done, damage, err := loadProgress(ctx, b.s.Store, stored.pass)
	if err != nil {
		return fmt.Errorf("read the progress of a gap from storage: %w", err)
	}
	if damage != nil {
		b.logDamaged(doneKey, damage)
	}
	for _, s := range []*userTimes{b.seen, b.unlicensed} {
		damage, err := s.load(ctx, b.s.Store)
		if err != nil {
			return fmt.Errorf("read users from storage: %w", err)
		}
		if damage != nil {
			b.logDamaged(s.key, damage)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.adopt(stored, done)
	b.loaded = true
	return nil
}

// adopt merges the stored gaps with those opened before. A stored pass starts over if another one is running, or
// reading is disabled. It is called with mu held.
func (b *Backfiller) adopt(stored gapStore, done *progress) {
	if p := stored.pass; p != nil && (b.gaps.pass != nil || b.s.Disabled) {
		for _, part := range p.intervals {
			stored.intervals = merge(stored.intervals, part)
		}
		stored.pass = nil
		b.unsaved = true
	}
	for _, iv := range b.gaps.intervals {
		stored.intervals = merge(stored.intervals, iv)
	}
	if b.gaps.pass != nil {
		stored.pass, done = b.gaps.pass, b.done
	}
	b.gaps, b.done = stored, done
}

// ensureLoaded loads the stored state unless that was done. It is called with the store acquired.
func (b *Backfiller) ensureLoaded(ctx context.Context) error {
	b.mu.Lock()
	loaded := b.loaded
	b.mu.Unlock()
	if loaded {
		return nil
	}
	return b.load(ctx)
}

func (b *Backfiller) logDamaged(key string, err error) {
	b.s.Logger.Warn("stored history state can't be read and is replaced", zap.String("key", key), zap.Error(err))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsaved = true
}

// Save persists everything. It is called at shutdown, after Run has returned.
func (b *Backfiller) Save(ctx context.Context) error { return b.flush(ctx, true) }

// Flush persists the gaps. Those opened before the call survive a kill once it has returned nil. A failure is logged,
// again each hour until the store works again. It is safe for concurrent use.
func (b *Backfiller) Flush(ctx context.Context) error {
	err := b.acquireStore(ctx)
	if err == nil {
		b.storeHangs.Recovered()
	} else {
		if b.storeHangs.Failed() {
			b.s.Logger.Warn("storage does not respond, open gaps are not stored yet; check the storage extension", zap.Error(err))
		}
		return err
	}
	defer func() { <-b.saving }()
	err = b.ensureLoaded(ctx)
	if err == nil {
		err = b.flushGaps(ctx)
	}
	if err != nil && ctx.Err() == nil {
		b.logStoreFailure(err)
	}
	return err
}

// flush persists changes. Gaps come before the users done of them: a list of users is meaningless without its gap.
func (b *Backfiller) flush(ctx context.Context, users bool) error {
	if err := b.acquireStore(ctx); err != nil {
		return err
	}
	defer func() { <-b.saving }()
	err := b.ensureLoaded(ctx)
	if err == nil {
		err = b.flushGaps(ctx)
	}
	if err == nil {
		err = b.progress().flush(ctx, b.s.Store)
	}
	if users && b.ensureLoaded(ctx) == nil {
		err = errors.Join(err, b.seen.flush(ctx, b.s.Store), b.unlicensed.flush(ctx, b.s.Store))
	}
	if err != nil && ctx.Err() == nil {
		b.logStoreFailure(err)
	} else if err == nil {
		b.storeFails.Recovered()
	}
	return err
}

// logStoreFailure logs that the store fails, again each hour until it works again.
func (b *Backfiller) logStoreFailure(err error) {
	if b.storeFails.Failed() {
		b.s.Logger.Warn("history state can't be stored, a restart may lose open gaps and read others again; check the storage extension",
			zap.Error(err))
	}
}

func (b *Backfiller) flushGaps(ctx context.Context) error {
	b.mu.Lock()
	if !b.unsaved {
		b.mu.Unlock()
		return nil
	}
	b.unsaved = false
	value, err := b.gaps.encode()
	b.mu.Unlock()
	if err == nil {
		err = b.s.Store.Set(ctx, gapsKey, value)
	}
	if err != nil {
		b.mu.Lock()
		b.unsaved = true
		b.mu.Unlock()
		return fmt.Errorf("store the open gaps: %w", err)
	}
	return nil
}

func (b *Backfiller) progress() *progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

// formatVersion is the first byte of every stored value.
const formatVersion = 2

var (
	errVersion = errors.New("written in another format")
	errShape   = errors.New("damaged")
)

// The stored form of a gapStore is the version and JSON.
type (
	storedGaps struct {
		Intervals []storedInterval `json:"intervals,omitempty"`
		Pass      *storedPass      `json:"pass,omitempty"`
		Polled    time.Time        `json:"polled,omitzero"`
		ItemsRead time.Time        `json:"items_read,omitzero"`
	}
	storedPass struct {
		ID           uint64           `json:"id"`
		Began        time.Time        `json:"began"`
		Intervals    []storedInterval `json:"intervals"`
		NewUsersOnly bool             `json:"new_users_only,omitempty"`
	}
	storedInterval struct {
		Kind      kind         `json:"kind"`
		From      time.Time    `json:"from"`
		To        time.Time    `json:"to"`
		Reasons   reasonCounts `json:"reasons"`
		Due       time.Time    `json:"due,omitzero"`
		NotBefore time.Time    `json:"not_before,omitzero"`
		Users     []byte       `json:"users,omitempty"` // 32 bytes for each: user, from and to in ns since 1970
		Attempts  int          `json:"attempts,omitempty"`
	}
)

func (gs *gapStore) encode() ([]byte, error) {
	stored := storedGaps{Intervals: storeIntervals(gs.intervals), Polled: gs.polled, ItemsRead: gs.itemsRead}
	if p := gs.pass; p != nil {
		stored.Pass = &storedPass{ID: p.id, Began: p.began, Intervals: storeIntervals(p.intervals), NewUsersOnly: p.newUsersOnly}
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode gaps: %w", err)
	}
	return append([]byte{formatVersion}, text...), nil
}

// decode replaces the contents. A value that can't be read changes nothing.
func (gs *gapStore) decode(value []byte) error {
	body, err := unversioned(value)
	if err != nil {
		return err
	}
	var stored storedGaps
	if err := json.Unmarshal(body, &stored); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	for _, t := range []time.Time{stored.Polled, stored.ItemsRead} {
		if !t.IsZero() && !plausible(t) {
			return errShape
		}
	}
	intervals, err := loadIntervals(stored.Intervals)
	if err != nil {
		return err
	}
	var current *pass
	if p := stored.Pass; p != nil {
		passIntervals, err := loadIntervals(p.Intervals)
		if err != nil || len(passIntervals) == 0 || !plausible(p.Began) {
			return errShape
		}
		current = &pass{id: p.ID, began: p.Began, intervals: passIntervals, newUsersOnly: p.NewUsersOnly}
	}
	gs.intervals, gs.pass = intervals, current
	gs.polled, gs.itemsRead = stored.Polled, stored.ItemsRead
	return nil
}

func storeIntervals(intervals []interval) []storedInterval {
	stored := make([]storedInterval, 0, len(intervals))
	for _, iv := range intervals {
		one := storedInterval{
			Kind: iv.kind, From: iv.from, To: iv.to, Reasons: iv.reasons, Due: iv.due, NotBefore: iv.notBefore, Attempts: iv.attempts,
		}
		for _, u := range iv.users {
			one.Users = append(one.Users, u.user[:]...)
			one.Users = appendTime(appendTime(one.Users, u.from), u.to)
		}
		stored = append(stored, one)
	}
	return stored
}

const failedUserSize = len(user{}) + 8 + 8

func loadIntervals(stored []storedInterval) ([]interval, error) {
	intervals := make([]interval, 0, len(stored))
	for _, one := range stored {
		iv := interval{
			kind: one.Kind, from: one.From, to: one.To, reasons: one.Reasons, due: one.Due, notBefore: one.NotBefore, attempts: one.Attempts,
		}
		if len(one.Users)%failedUserSize != 0 || !iv.valid() {
			return nil, errShape
		}
		for users := one.Users; len(users) > 0; users = users[failedUserSize:] {
			u := failedUser{user: user(users[:16]), from: readTime(users[16:]), to: readTime(users[24:])}
			if !plausible(u.from) || !plausible(u.to) || u.to.Before(u.from) {
				return nil, errShape
			}
			iv.users = append(iv.users, u)
		}
		if (iv.kind == kindFailedUsers) != (len(iv.users) > 0) {
			return nil, errShape
		}
		intervals = append(intervals, iv)
	}
	return intervals, nil
}

// valid reports whether an interval from the store can be used.
func (iv *interval) valid() bool {
	if iv.kind > kindFailedUsers || iv.attempts < 0 || len(iv.reasons) == 0 || !plausible(iv.from) || !plausible(iv.to) || !iv.from.Before(iv.to) {
		return false
	}
	if (iv.kind == kindSecondPass || iv.kind == kindFailedUsers) && !plausible(iv.due) || iv.kind == kindSecondPass && !plausible(iv.notBefore) {
		return false
	}
	for reason, n := range iv.reasons {
		if reason == "" || len(reason) > 64 || n < 0 {
			return false
		}
	}
	return (iv.due.IsZero() || plausible(iv.due)) && (iv.notBefore.IsZero() || plausible(iv.notBefore))
}

func unversioned(value []byte) ([]byte, error) {
	if len(value) == 0 || value[0] != formatVersion {
		return nil, errVersion
	}
	return value[1:], nil
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func readTime(b []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC() //nolint:gosec // G115: written the same way.
}
