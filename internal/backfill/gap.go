package backfill

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Reason is why interactions of an interval may be missing.
type Reason string

// The reasons, the gravest first: time that is missing for several reasons counts for the first of them.
const (
	// Startup: the collector was not running, or its subscription was gone when it started.
	Startup Reason = "startup"
	// Subscription: the subscription was lost, expired, removed or recreated, or Graph said that it missed something.
	Subscription Reason = "subscription"
	// RemovedKey: notifications were encrypted for a key that is not at hand any more.
	RemovedKey Reason = "removed_key"
	// Undelivered: notifications were answered 503 for so long that Graph gave them up.
	Undelivered Reason = "undelivered"
	// Unverified: the validation tokens of authentic notifications failed.
	Unverified Reason = "unverified"
	// Undecryptable: the content of notifications could not be decrypted.
	Undecryptable Reason = "undecryptable"
	// Empty: notifications came without the content they should have had.
	Empty Reason = "empty"
	// Lookback: the very first start imports what was before. It is the one reason that Settings.MaxGap does not bound.
	Lookback Reason = "lookback"
	// Poll: the history is read at regular intervals.
	Poll Reason = "poll"
	// UsersUnknown: the interval was read, but only for users already seen, since the directory could not be.
	UsersUnknown Reason = "users_unknown"
)

// Reasons returns all reasons, the gravest first.
func Reasons() []Reason {
	return []Reason{Startup, Subscription, RemovedKey, Undelivered, Unverified, Undecryptable, Empty, Lookback, Poll, UsersUnknown}
}

// rank orders reasons by gravity; one that is not known comes last.
func rank(r Reason) int {
	order := Reasons()
	if i := slices.Index(order, r); i >= 0 {
		return i
	}
	return len(order)
}

// Gap is an interval in which interactions may be missing. To may lie ahead: what is past is read at once, and the rest
// as soon as its time has come.
type Gap struct {
	Reason   Reason
	From, To time.Time
}

const (
	// itemAge is how old an item is at most when it is sent: Graph retries for 4 hours.
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	itemAge  = 6 * time.Hour
	itemSkew = 5 * time.Minute
	// wrongClock is how wrong this machine's clock may be for an id to be believed beside it: any time zone taken for another.
	wrongClock = 24 * time.Hour
)

// itemGaps are the intervals of one item: the minute in which it was written, if its id tells. An id that does not fit to
// the clock may be that of an old interaction that changed, or the clock is wrong, and often that is why the item could not
// be used; then it is the last hour as well, as it is for an id that tells nothing.
func itemGaps(reason Reason, itemID string, now time.Time) []Gap {
	at, told := (&interaction.Interaction{ID: itemID}).CreatedAt()
	lastHour := Gap{Reason: reason, From: now.Add(-time.Hour), To: now}
	// What is longer ago may not be known as delivered any more, and would come out twice.
	if !told || at.Before(now.Add(-rejoinAge)) || at.After(now.Add(wrongClock)) {
		return []Gap{lastHour}
	}
	minute := at.Truncate(time.Minute)
	gap := Gap{Reason: reason, From: minute, To: minute.Add(time.Minute)}
	if at.Before(now.Add(-itemAge)) || at.After(now.Add(itemSkew)) {
		return []Gap{gap, lastHour}
	}
	return []Gap{gap}
}

// reasonCounts says for which reasons an interval is open, and how many gaps were opened for each.
type reasonCounts map[Reason]int

// plus returns the sum of two tallies and changes neither.
func (t reasonCounts) plus(other reasonCounts) reasonCounts {
	sum := make(reasonCounts, len(t)+len(other))
	maps.Copy(sum, t)
	for reason, n := range other {
		sum[reason] += n
	}
	return sum
}

// labels returns the reasons alone: for a part of an interval whose gaps are counted elsewhere.
func (t reasonCounts) labels() reasonCounts {
	bare := make(reasonCounts, len(t))
	for reason := range t {
		bare[reason] = 0
	}
	return bare
}

// sorted returns the reasons, the gravest first.
func (t reasonCounts) sorted() []Reason {
	return slices.SortedFunc(maps.Keys(t), func(a, b Reason) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// first returns the gravest reason.
func (t reasonCounts) first() Reason {
	if len(t) == 0 {
		return ""
	}
	return t.sorted()[0]
}
