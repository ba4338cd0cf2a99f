package history

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
	storedLedger struct {
		Spans     []storedSpan   `json:"gaps,omitempty"`
		Reading   *storedReading `json:"reading,omitempty"`
		Polled    time.Time      `json:"polled,omitzero"`
		ItemsRead time.Time      `json:"items_read,omitzero"`
	}
	storedReading struct {
		ID        uint64       `json:"id"`
		Began     time.Time    `json:"began"`
		Parts     []storedSpan `json:"parts"`
		Newcomers bool         `json:"newcomers,omitempty"`
	}
	storedSpan struct {
		Kind     kind      `json:"kind"`
		From     time.Time `json:"from"`
		To       time.Time `json:"to"`
		Reasons  tally     `json:"reasons"`
		Due      time.Time `json:"due,omitzero"`
		Anchor   time.Time `json:"anchor,omitzero"`
		Users    []byte    `json:"users,omitempty"` // 32 bytes for each: user, from and to in ns since 1970
		Attempts int       `json:"attempts,omitempty"`
	}
)

func (l *ledger) encode() ([]byte, error) {
	stored := storedLedger{Spans: storeSpans(l.spans), Polled: l.polled, ItemsRead: l.itemsRead}
	if r := l.reading; r != nil {
		stored.Reading = &storedReading{ID: r.id, Began: r.began, Parts: storeSpans(r.parts), Newcomers: r.newcomers}
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("write down gaps: %w", err)
	}
	return append([]byte{formatVersion}, text...), nil
}

// decode replaces what is in the book. A value that can't be read changes nothing.
func (l *ledger) decode(value []byte) error {
	body, err := unversioned(value)
	if err != nil {
		return err
	}
	var stored storedLedger
	if err := json.Unmarshal(body, &stored); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	for _, t := range []time.Time{stored.Polled, stored.ItemsRead} {
		if !t.IsZero() && !plausible(t) {
			return errShape
		}
	}
	spans, err := loadSpans(stored.Spans)
	if err != nil {
		return err
	}
	var current *reading
	if r := stored.Reading; r != nil {
		parts, err := loadSpans(r.Parts)
		if err != nil || len(parts) == 0 || !plausible(r.Began) {
			return errShape
		}
		current = &reading{id: r.ID, began: r.Began, parts: parts, newcomers: r.Newcomers}
	}
	l.spans, l.reading = spans, current
	l.polled, l.itemsRead = stored.Polled, stored.ItemsRead
	return nil
}

func storeSpans(spans []span) []storedSpan {
	stored := make([]storedSpan, 0, len(spans))
	for _, s := range spans {
		one := storedSpan{
			Kind: s.kind, From: s.from, To: s.to, Reasons: s.reasons, Due: s.due, Anchor: s.anchor, Attempts: s.attempts,
		}
		for _, u := range s.users {
			one.Users = append(one.Users, u.user[:]...)
			one.Users = appendTime(appendTime(one.Users, u.from), u.to)
		}
		stored = append(stored, one)
	}
	return stored
}

const laggardSize = len(user{}) + 8 + 8

func loadSpans(stored []storedSpan) ([]span, error) {
	spans := make([]span, 0, len(stored))
	for _, one := range stored {
		s := span{
			kind: one.Kind, from: one.From, to: one.To, reasons: one.Reasons, due: one.Due, anchor: one.Anchor, attempts: one.Attempts,
		}
		if len(one.Users)%laggardSize != 0 || !s.sound() {
			return nil, errShape
		}
		for users := one.Users; len(users) > 0; users = users[laggardSize:] {
			u := laggard{user: user(users[:16]), from: readTime(users[16:]), to: readTime(users[24:])}
			if !plausible(u.from) || !plausible(u.to) || u.to.Before(u.from) {
				return nil, errShape
			}
			s.users = append(s.users, u)
		}
		if (s.kind == late) != (len(s.users) > 0) {
			return nil, errShape
		}
		spans = append(spans, s)
	}
	return spans, nil
}

// sound tells whether an interval from the store can be worked with.
func (s *span) sound() bool {
	if s.kind > late || s.attempts < 0 || len(s.reasons) == 0 || !plausible(s.from) || !plausible(s.to) || !s.from.Before(s.to) {
		return false
	}
	if (s.kind == again || s.kind == late) && !plausible(s.due) || s.kind == again && !plausible(s.anchor) {
		return false
	}
	for reason, n := range s.reasons {
		if reason == "" || len(reason) > 64 || n < 0 {
			return false
		}
	}
	return (s.due.IsZero() || plausible(s.due)) && (s.anchor.IsZero() || plausible(s.anchor))
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
