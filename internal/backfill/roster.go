package backfill

import (
	"context"
	"slices"
	"time"
)

// leaveAlone is how long a user without license or history is not asked for. Licenses come and go, so it ends.
const leaveAlone = 72 * time.Hour

// selectedUsers is the users of a reading.
type selectedUsers struct {
	// todo are those to read now, in order; total counts those done already, too.
	todo  []user
	total int
	// known is false where not all users could be told.
	known bool
	// late are those that fail anyway and are left for later.
	late []user
}

// selectUsers finds out whom to read. Its error is that of the context.
func (f *Backfiller) selectUsers(ctx context.Context, r *pass) (selectedUsers, error) {
	all, known, err := f.everyone(ctx, r)
	if err != nil {
		return selectedUsers{}, err
	}
	list := selectedUsers{total: len(all), known: known}
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
func (f *Backfiller) everyone(ctx context.Context, r *pass) (users []user, known bool, err error) {
	switch {
	case r.kind() == kindFailedUsers:
		for _, l := range r.intervals[0].users {
			users = append(users, l.user)
		}
		return users, true, nil
	case len(f.configured) > 0:
		return slices.Clone(f.configured), true, nil
	case r.newUsersOnly:
		return sortUsers(f.seen.users()), false, nil
	}
	listed, known, err := f.directory.list(ctx)
	if err != nil {
		return nil, false, err
	}
	return sortUsers(append(f.seen.users(), listed...)), known, nil
}

// failing returns the users that are left for later already, in order: what is read now is added to that.
func (f *Backfiller) failing(r *pass) []user {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.gaps.late()
	if i < 0 || r.kind() == kindFailedUsers {
		return nil
	}
	users := make([]user, 0, len(f.gaps.intervals[i].users))
	for _, l := range f.gaps.intervals[i].users {
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
func (f *Backfiller) window(r *pass, u user) (from, to time.Time) {
	from, to = r.bounds()
	switch r.kind() {
	case kindFailedUsers:
		users := r.intervals[0].users
		if i, found := slices.BinarySearchFunc(users, u, func(l failedUser, u user) int { return l.user.compare(u) }); found {
			return users[i].from, users[i].to
		}
		return from, from
	case kindUnknownUsers:
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

// probeUser is a user who was read before a restart in the middle of this reading, nil for none.
func (f *Backfiller) probeUser() *user {
	for _, u := range f.progress().sorted() {
		if _, left := f.unlicensed.at(u); !left {
			return &u
		}
	}
	return nil
}

// licensed says that a user who had no history when last asked has one now: all since then was left out of every gap. It
// is asked for at most once an hour, since Graph may go on to say that there is none.
func (f *Backfiller) licensed(u user) {
	since, found := f.unlicensed.take(u)
	if !found || f.s.Disabled {
		return
	}
	f.open(func(now time.Time, c *change) {
		from := latest(since, now.Add(-f.s.MaxGap))
		left := interval{
			kind: kindFailedUsers, from: from, to: now, reasons: reasonCounts{UsersUnknown: 1}, users: []failedUser{{user: u, from: from, to: now}},
			due: since.Add(itemSpacing),
		}
		if from.Before(now) {
			c.open(left.reasons)
			f.gaps.insert(left, now, c)
		}
	})
}
