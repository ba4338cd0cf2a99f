// SPDX-License-Identifier: Apache-2.0

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

// DueUsers returns whose entries became due after a time and up to now, in that order. Intervals are those of time.Truncate, so those of
// 24 hours are days in UTC. A user becomes due once in each, at an offset that depends on the user alone, so that the users are spread
// over the interval. If more than an interval has passed, each user is due once.
func DueUsers(users []gap.User, interval time.Duration, after, now time.Time) (due []Due) {
	for _, user := range users {
		offset := offset(user, interval)
		start := now.Add(-offset).Truncate(interval)
		if at := start.Add(offset); at.After(after) {
			due = append(due, Due{User: user, At: at, Interval: start})
		}
	}
	slices.SortFunc(due, func(a, b Due) int { return a.At.Compare(b.At) })
	return due
}

// offset returns when in an interval a user becomes due.
func offset(user gap.User, interval time.Duration) time.Duration {
	hash := fnv.New64a()
	_, _ = hash.Write(user[:])
	return time.Duration(hash.Sum64() % uint64(interval)) //nolint:gosec // less than interval, which is positive
}
