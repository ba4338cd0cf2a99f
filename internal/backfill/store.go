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

// formatVersion is the first byte of every stored value.
const formatVersion = 1

var (
	errVersion = errors.New("it was written in another format")
	errShape   = errors.New("it is damaged")
)

// The stored form of a ledger is the version and JSON.
type (
	storedGaps struct {
		Spans     []storedInterval `json:"gaps,omitempty"`
		Reading   *storedPass      `json:"reading,omitempty"`
		Polled    time.Time        `json:"polled,omitzero"`
		ItemsRead time.Time        `json:"items_read,omitzero"`
	}
	storedPass struct {
		ID        uint64           `json:"id"`
		Began     time.Time        `json:"began"`
		Parts     []storedInterval `json:"parts"`
		Newcomers bool             `json:"newcomers,omitempty"`
	}
	storedInterval struct {
		Kind     kind         `json:"kind"`
		From     time.Time    `json:"from"`
		To       time.Time    `json:"to"`
		Reasons  reasonCounts `json:"reasons"`
		Due      time.Time    `json:"due,omitzero"`
		Anchor   time.Time    `json:"anchor,omitzero"`
		Users    []byte       `json:"users,omitempty"` // 32 bytes for each: user, from and to in ns since 1970
		Attempts int          `json:"attempts,omitempty"`
	}
)

func (l *gapStore) encode() ([]byte, error) {
	stored := storedGaps{Spans: storeSpans(l.intervals), Polled: l.polled, ItemsRead: l.itemsRead}
	if r := l.pass; r != nil {
		stored.Reading = &storedPass{ID: r.id, Began: r.began, Parts: storeSpans(r.intervals), Newcomers: r.newUsersOnly}
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("write down gaps: %w", err)
	}
	return append([]byte{formatVersion}, text...), nil
}

// decode replaces what is in the book. A value that can't be read changes nothing.
func (l *gapStore) decode(value []byte) error {
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
	intervals, err := loadSpans(stored.Spans)
	if err != nil {
		return err
	}
	var current *pass
	if r := stored.Reading; r != nil {
		parts, err := loadSpans(r.Parts)
		if err != nil || len(parts) == 0 || !plausible(r.Began) {
			return errShape
		}
		current = &pass{id: r.ID, began: r.Began, intervals: parts, newUsersOnly: r.Newcomers}
	}
	l.intervals, l.pass = intervals, current
	l.polled, l.itemsRead = stored.Polled, stored.ItemsRead
	return nil
}

func storeSpans(intervals []interval) []storedInterval {
	stored := make([]storedInterval, 0, len(intervals))
	for _, s := range intervals {
		one := storedInterval{
			Kind: s.kind, From: s.from, To: s.to, Reasons: s.reasons, Due: s.due, Anchor: s.notBefore, Attempts: s.attempts,
		}
		for _, u := range s.users {
			one.Users = append(one.Users, u.user[:]...)
			one.Users = appendTime(appendTime(one.Users, u.from), u.to)
		}
		stored = append(stored, one)
	}
	return stored
}

const failedUserSize = len(user{}) + 8 + 8

func loadSpans(stored []storedInterval) ([]interval, error) {
	intervals := make([]interval, 0, len(stored))
	for _, one := range stored {
		s := interval{
			kind: one.Kind, from: one.From, to: one.To, reasons: one.Reasons, due: one.Due, notBefore: one.Anchor, attempts: one.Attempts,
		}
		if len(one.Users)%failedUserSize != 0 || !s.sound() {
			return nil, errShape
		}
		for users := one.Users; len(users) > 0; users = users[failedUserSize:] {
			u := failedUser{user: user(users[:16]), from: readTime(users[16:]), to: readTime(users[24:])}
			if !plausible(u.from) || !plausible(u.to) || u.to.Before(u.from) {
				return nil, errShape
			}
			s.users = append(s.users, u)
		}
		if (s.kind == kindFailedUsers) != (len(s.users) > 0) {
			return nil, errShape
		}
		intervals = append(intervals, s)
	}
	return intervals, nil
}

// sound tells whether an interval from the store can be worked with.
func (s *interval) sound() bool {
	if s.kind > kindFailedUsers || s.attempts < 0 || len(s.reasons) == 0 || !plausible(s.from) || !plausible(s.to) || !s.from.Before(s.to) {
		return false
	}
	if (s.kind == kindSecondPass || s.kind == kindFailedUsers) && !plausible(s.due) || s.kind == kindSecondPass && !plausible(s.notBefore) {
		return false
	}
	for reason, n := range s.reasons {
		if reason == "" || len(reason) > 64 || n < 0 {
			return false
		}
	}
	return (s.due.IsZero() || plausible(s.due)) && (s.notBefore.IsZero() || plausible(s.notBefore))
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
