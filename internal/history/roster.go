package history

import (
	"context"
	"slices"
	"time"
)

// leaveAlone is how long a user without license or history is not asked for. Licenses come and go, so it ends.
const leaveAlone = 72 * time.Hour

// roster is the users of a reading.
type roster struct {
	// todo are those to read now, in order; total counts those done already, too.
	todo  []user
	total int
	// known is false where not all users could be told.
	known bool
	// late are those that fail anyway and are left for later.
	late []user
}

// roster finds out whom to read. Its error is that of the context.
func (f *Filler) roster(ctx context.Context, r *reading) (roster, error) {
	all, known, err := f.everyone(ctx, r)
	if err != nil {
		return roster{}, err
	}
	list := roster{total: len(all), known: known}
	done := f.progress().sorted()
	failing := f.failing(r)
	now := time.Now()
	list.todo = slices.DeleteFunc(all, func(u user) bool {
		if _, found := slices.BinarySearchFunc(done, u, user.compare); found {
			return true
		}
		if since, found := f.unlicensed.at(u); found && now.Sub(since) < leaveAlone {
			return true
		}
		if from, to := f.window(r, u); !from.Before(to) {
			return true
		}
		if _, found := slices.BinarySearchFunc(failing, u, user.compare); found {
			list.late = append(list.late, u)
			return true
		}
		return false
	})
	return list, nil
}

// everyone returns the users that a reading is for, in a slice of its own, and whether these are all.
func (f *Filler) everyone(ctx context.Context, r *reading) (users []user, known bool, err error) {
	switch {
	case r.kind() == late:
		for _, l := range r.parts[0].users {
			users = append(users, l.user)
		}
		return users, true, nil
	case len(f.configured) > 0:
		return slices.Clone(f.configured), true, nil
	case r.newcomers:
		return sortUsers(f.seen.users()), false, nil
	}
	listed, known, err := f.directory.list(ctx)
	if err != nil {
		return nil, false, err
	}
	return sortUsers(append(f.seen.users(), listed...)), known, nil
}

// failing returns the users that are left for later already, in order: what is read now is added to that.
func (f *Filler) failing(r *reading) []user {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.ledger.late()
	if i < 0 || r.kind() == late {
		return nil
	}
	users := make([]user, 0, len(f.ledger.spans[i].users))
	for _, l := range f.ledger.spans[i].users {
		users = append(users, l.user)
	}
	return users
}

// window returns what a reading is to read of a user; an empty one means nothing.
//
// Of a user who had no history when last asked, all since then was left out.
//
// Where the directory could not be read, an interval was read for the users seen until then. So of a user first seen
// later only what was before is missing, and of one first seen earlier nothing.
func (f *Filler) window(r *reading, u user) (from, to time.Time) {
	from, to = r.bounds()
	switch r.kind() {
	case late:
		users := r.parts[0].users
		if i, found := slices.BinarySearchFunc(users, u, func(l laggard, u user) int { return l.user.compare(u) }); found {
			return users[i].from, users[i].to
		}
		return from, from
	case unknown:
		seen, found := f.seen.at(u)
		if !found {
			return from, to
		}
		if seen.Before(r.asOf()) {
			return from, from
		}
		return from, earliest(to, seen)
	default:
		if since, found := f.unlicensed.at(u); found {
			from = earliest(from, latest(since, time.Now().Add(-f.s.MaxGap)))
		}
		return from, to
	}
}

// witness is a user who was read before a restart in the middle of this reading, nil for none.
func (f *Filler) witness() *user {
	for _, u := range f.progress().sorted() {
		if _, left := f.unlicensed.at(u); !left {
			return &u
		}
	}
	return nil
}

// licensed says that a user who had no history when last asked has one now: all since then was left out of every gap. It
// is asked for at most once an hour, since Graph may go on to say that there is none.
func (f *Filler) licensed(u user) {
	since, found := f.unlicensed.take(u)
	if !found || f.s.Disabled {
		return
	}
	f.open(func(now time.Time, c *change) {
		from := latest(since, now.Add(-f.s.MaxGap))
		left := span{
			kind: late, from: from, to: now, reasons: tally{UsersUnknown: 1}, users: []laggard{{user: u, from: from, to: now}},
			due: since.Add(itemSpacing),
		}
		if from.Before(now) {
			c.open(left.reasons)
			f.ledger.insert(left, now, c)
		}
	})
}
