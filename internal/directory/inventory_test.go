// SPDX-License-Identifier: Apache-2.0

package directory_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

func users(count int) (all []gap.User) {
	for n := range count {
		all = append(all, user(n))
	}
	return all
}

func inventoryStart() time.Time { return time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC) }

// Time passes in steps of any length, between which the receiver may be down: each user comes exactly once for each time at which it
// became due, but for those that were followed by a downtime of a whole interval.
func TestDueUsers_EachUserOnceInEachInterval(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			interval := []time.Duration{time.Second, 7 * time.Minute, 24 * time.Hour, 100 * time.Hour}[random.IntN(4)]
			all, start := users(100), inventoryStart().Add(time.Duration(random.Int64N(int64(interval))))
			var ticks []time.Time
			got := map[gap.User][]time.Time{}
			for done, now := start, start; now.Before(start.Add(20 * interval)); {
				ticks = append(ticks, now)
				for _, one := range directory.DueUsers(all, interval, done, now) {
					got[one.User] = append(got[one.User], one.At)
				}
				pause := interval / 100
				if random.IntN(20) == 0 {
					pause = time.Duration(random.Int64N(int64(3 * interval)))
				}
				done, now = now, now.Add(pause)
			}
			for _, u := range all {
				require.Equal(t, wantDue(offsetOf(u, interval), interval, start, ticks), got[u])
			}
		})
	}
}

// offsetOf returns when in an interval a user becomes due.
func offsetOf(u gap.User, interval time.Duration) time.Duration {
	due := directory.DueUsers([]gap.User{u}, interval, time.Time{}, inventoryStart())
	return due[0].At.Sub(due[0].Interval)
}

// wantDue returns the times at which a user became due since the start and for which a tick came within an interval.
func wantDue(offset, interval time.Duration, start time.Time, ticks []time.Time) (want []time.Time) {
	for at := start.Truncate(interval).Add(offset); at.Before(ticks[len(ticks)-1].Add(1)); at = at.Add(interval) {
		n := slices.IndexFunc(ticks, func(tick time.Time) bool { return !tick.Before(at) })
		if at.After(start) && ticks[n].Sub(at) < interval {
			want = append(want, at)
		}
	}
	return want
}

func TestDueUsers_AfterLongDowntimeEachUserOnce(t *testing.T) {
	t.Parallel()
	const interval = 24 * time.Hour
	all, now := gap.SortUsers(users(5000)), inventoryStart()
	for name, after := range map[string]time.Time{
		"an interval ago": now.Add(-interval), "ten intervals ago": now.Add(-10 * interval), "never": {},
	} {
		got := make([]gap.User, 0, len(all))
		due := directory.DueUsers(all, interval, after, now)
		for _, one := range due {
			got = append(got, one.User)
		}
		assert.Equal(t, all, gap.SortUsers(got), name)
		assert.Len(t, due, len(all), name)
	}
}

func TestDueUsers_SpreadsUsersOverInterval(t *testing.T) {
	t.Parallel()
	const interval, parts = 24 * time.Hour, 24
	all, now := users(24_000), inventoryStart()
	for part := range parts {
		from := now.Add(time.Duration(part) * interval / parts)
		due := directory.DueUsers(all, interval, from, from.Add(interval/parts))
		assert.InDelta(t, 1000, len(due), 150)
		for i := range due[1:] {
			assert.False(t, due[i+1].At.Before(due[i].At))
		}
	}
}

// A user who is licensed from the middle of an interval on comes at the next offset.
func TestDueUsers_NewUserComesAtNextOffset(t *testing.T) {
	t.Parallel()
	const interval = 24 * time.Hour
	middle := inventoryStart()
	assert.Len(t, directory.DueUsers(users(10), interval, middle.Add(-interval), middle), 10)
	due := directory.DueUsers(users(11), interval, middle, middle.Add(interval))
	require.Len(t, due, 11)
	n := slices.IndexFunc(due, func(one directory.Due) bool { return one.User == user(10) })
	assert.True(t, due[n].At.After(middle))
}
