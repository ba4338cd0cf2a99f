package directory

import (
	"hash/fnv"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// Due is a user whose entry in the inventory is due.
type Due struct {
	User gap.User
	// At is when it became due, Interval the start of the interval that At is in.
	At, Interval time.Time
}

// DueUsers returns whose entries became due after a time and up to now, in that order, and the time up to which that is complete: now,
// unless there are more than limit. Intervals are those of time.Truncate, so those of 24 hours are days in UTC. A user becomes due once
// in each, at an offset that depends on the user alone, so that the users are spread over the interval. Any time as long as an interval
// has each user once, which is all that is returned when more time has passed.
func DueUsers(users []gap.User, interval time.Duration, after, now time.Time, limit int) (due []Due, upTo time.Time) {
	if after.Before(now.Add(-interval)) {
		after = now.Add(-interval)
	}
	if after.After(now.Add(interval)) {
		after = now // the clock was ahead
	}
	if !after.Before(now) {
		return nil, after
	}
	for _, user := range users {
		offset := offset(user, interval)
		start := now.Add(-offset).Truncate(interval)
		if at := start.Add(offset); at.After(after) {
			due = append(due, Due{User: user, At: at, Interval: start})
		}
	}
	slices.SortFunc(due, func(a, b Due) int { return a.At.Compare(b.At) })
	if len(due) <= limit {
		return due, now
	}
	for limit > 1 && due[limit-1].At.Equal(due[limit].At) {
		limit-- // those who become due at the same time stay together
	}
	return due[:limit], due[limit-1].At
}

// offset returns when in an interval a user becomes due.
func offset(user gap.User, interval time.Duration) time.Duration {
	hash := fnv.New64a()
	_, _ = hash.Write(user[:])
	return time.Duration(hash.Sum64() % uint64(interval)) //nolint:gosec // less than interval, which is positive
}
