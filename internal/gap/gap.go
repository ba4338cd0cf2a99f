// SPDX-License-Identifier: Apache-2.0

// Package gap holds what is known to be missing: the type of a gap, and the rules that open, merge, read and close gaps. Every
// function depends on its arguments alone, among them the time, so that whole histories can be tried in a test.
package gap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"time"
)

// Reason is why interactions of an interval are missing or may be.
type Reason string

// The reasons. What each means and what follows from it says the table below.
const (
	Startup       Reason = "startup"
	Subscription  Reason = "subscription"
	RemovedKey    Reason = "removed_key"
	Undelivered   Reason = "undelivered"
	Unverified    Reason = "unverified"
	Undecryptable Reason = "undecryptable"
	Empty         Reason = "empty"
	Lookback      Reason = "lookback"
	Replay        Reason = "replay"
	Reconcile     Reason = "reconcile"
	Poll          Reason = "poll"
	UsersUnknown  Reason = "users_unknown"
)

// property is what follows from a reason.
type property uint8

const (
	missing  property = 1 << iota // until the interval is read, it counts as missing
	recovers                      // creations that only the history had count as recovered
	ofItem                        // it concerns single items, whose gaps are read at most once an hour
	alone                         // its gaps are never merged with those of another reason
	anyAge                        // its gaps are read however old they are
)

// reasons are all reasons, the most severe first: time that is missing for several reasons counts for the first of them.
var reasons = []struct {
	reason Reason
	is     property
}{
	{Startup, missing | recovers},                // the collector was not running, or its subscription was gone when it started
	{Subscription, missing | recovers},           // it was lost, expired, removed or recreated, or Graph missed something
	{RemovedKey, missing | recovers},             // notifications were encrypted for a key that is no longer available
	{Undelivered, missing | recovers},            // notifications were answered with 503 for so long that Graph stopped retrying
	{Unverified, missing | recovers | ofItem},    // the validation tokens of authentic notifications failed
	{Undecryptable, missing | recovers | ofItem}, // the content of notifications could not be decrypted
	{Empty, missing | recovers | ofItem},         // notifications came without the content they should have had
	{Lookback, missing | alone | anyAge},         // the very first start imports earlier history
	{Replay, alone | anyAge},                     // the configuration asks for an interval once more
	{Reconcile, recovers | alone},                // an interval, not known to be missing, is compared with what was delivered
	{Poll, alone},                                // the history is the only source, and read at regular intervals
	{UsersUnknown, missing | recovers},           // it was read for users already seen, since the directory could not be read
}

// Reasons returns all reasons, the most severe first.
func Reasons() (all []Reason) {
	for _, row := range reasons {
		all = append(all, row.reason)
	}
	return all
}

func (r Reason) is(p property) bool {
	for _, row := range reasons {
		if row.reason == r {
			return row.is&p != 0
		}
	}
	return false
}

// CountsAsRecovered reports whether creations that only the history had count as recovered.
func (r Reason) CountsAsRecovered() bool { return r.is(recovers) }

// User is the Entra object id of a user.
type User [16]byte

// ParseUser reads the usual form of a GUID, in any case.
func ParseUser(id string) (u User, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return User{}, false
	}
	_, err := hex.Decode(u[:], []byte(id[:8]+id[9:13]+id[14:18]+id[19:23]+id[24:]))
	return u, err == nil
}

// String returns the GUID in lower case.
func (u User) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText implements encoding.TextMarshaler.
func (u User) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *User) UnmarshalText(text []byte) error {
	parsed, ok := ParseUser(string(text))
	if !ok {
		return errors.New("a user id is not a GUID")
	}
	*u = parsed
	return nil
}

// Compare orders users by their ids.
func (u User) Compare(o User) int { return bytes.Compare(u[:], o[:]) }

// SortUsers returns the users in order, without duplicates. It reuses the slice.
func SortUsers(users []User) []User {
	slices.SortFunc(users, User.Compare)
	return slices.Compact(users)
}

// Scope is whose interactions are missing. The zero value means all users.
type Scope struct {
	Users     []User    `json:"users,omitempty"`     // the only ones, in order; empty means all
	SeenSince time.Time `json:"seen_since,omitzero"` // unless zero, users first seen before were read
}

// All reports whether it is the scope of all users.
func (s Scope) All() bool { return len(s.Users) == 0 && s.SeenSince.IsZero() }

func (s Scope) equal(o Scope) bool { return s.alike(o) && slices.Equal(s.Users, o.Users) }

// alike reports whether two scopes are of the same kind: that of all users, of some, or of those seen late.
func (s Scope) alike(o Scope) bool {
	return (len(s.Users) > 0) == (len(o.Users) > 0) && s.SeenSince.IsZero() == o.SeenSince.IsZero()
}

// union returns a scope that contains both, which must be alike.
func (s Scope) union(o Scope) Scope {
	joined := Scope{Users: SortUsers(slices.Concat(s.Users, o.Users)), SeenSince: s.SeenSince}
	if o.SeenSince.Before(s.SeenSince) {
		joined.SeenSince = o.SeenSince
	}
	return joined
}

// Gap is an interval of which interactions are missing or may be, for all users or for some.
type Gap struct {
	Reasons []Reason  `json:"reasons"` // the most severe first
	Scope   Scope     `json:"scope,omitzero"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"` // zero while the cause lasts
	// Cause is what the end of the gap waits for while To is zero: a resource, or atStart.
	Cause string `json:"cause,omitempty"`
	// Second marks an interval that was read, and is read once more because Graph may be late.
	Second    bool      `json:"second,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"` // when it may be read; zero means at once
	Attempts  int       `json:"attempts,omitempty"`  // failed passes in a row
}

// Reason returns the most severe reason.
func (g *Gap) Reason() Reason { return g.Reasons[0] }

func (g *Gap) open() bool { return g.To.IsZero() }

// end returns when the gap ends, a given time while its cause lasts.
func (g *Gap) end(now time.Time) time.Time {
	if g.open() {
		return now
	}
	return g.To
}

// compares reports whether it is the comparison of all users, whose outcome is that of the reconciliation.
func (g *Gap) compares() bool { return g.Reason() == Reconcile && g.Scope.All() && !g.Second }

// Rested reports whether it is a gap of users who had no history.
func (g *Gap) Rested() bool { return g.Reason() == UsersUnknown && len(g.Scope.Users) > 0 }

// readAlike reports whether two gaps may be read in one pass. Second readings have their own, but for items: one pass an hour
// reads what is new with what is read again.
func (g *Gap) readAlike(o *Gap) bool {
	a, b := g.Reason(), o.Reason()
	return a.is(ofItem) == b.is(ofItem) && (g.Second == o.Second || a.is(ofItem)) && (a == b || !a.is(alone) && !b.is(alone))
}

// mergeable reports whether two gaps become one: if they overlap or touch, and are read at about the same time.
func (g *Gap) mergeable(o *Gap) bool {
	return g.Scope.equal(o.Scope) && g.Cause == o.Cause && g.open() == o.open() && g.Second == o.Second && g.readAlike(o) &&
		quarter(g.NotBefore).Equal(quarter(o.NotBefore)) && (g.open() || !g.From.After(o.To) && !o.From.After(g.To))
}

// mergeableWhenFull reports whether two gaps become one where there are too many: the users of both are read for the time of both.
func (g *Gap) mergeableWhenFull(o *Gap) bool {
	return !g.open() && !o.open() && g.readAlike(o) && g.Scope.alike(o.Scope)
}

// quarter rounds up to a quarter of an hour.
func quarter(t time.Time) time.Time {
	return t.Add(15*time.Minute - 1).Truncate(15 * time.Minute)
}

// merge adds another gap, and the time between them.
func (g *Gap) merge(o *Gap) {
	g.From, g.To, g.NotBefore = Earlier(g.From, o.From), Later(g.To, o.To), Later(g.NotBefore, o.NotBefore)
	g.Reasons, g.Scope = mergeReasons(g.Reasons, o.Reasons), g.Scope.union(o.Scope)
	g.Second = g.Second && o.Second
	g.Attempts = max(g.Attempts, o.Attempts)
}

func mergeReasons(a, b []Reason) []Reason {
	return slices.DeleteFunc(Reasons(), func(r Reason) bool { return !slices.Contains(a, r) && !slices.Contains(b, r) })
}

// Earlier returns the earlier time of two.
func Earlier(a, b time.Time) time.Time { return slices.MinFunc([]time.Time{a, b}, time.Time.Compare) }

// Later returns the later time of two.
func Later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
