package backfill

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

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
