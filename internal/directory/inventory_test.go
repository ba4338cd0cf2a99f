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

// Users come in batches of random size, at random times between which the receiver may be down: each comes exactly once for each time
// at which it became due, but for those that were followed by a downtime of a whole interval.
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
				for due := all[:0:0]; len(due) > 0 || !done.Equal(now); {
					due, done = emitDue(all, interval, done, now, 1+random.IntN(20), got)
				}
				pause := interval / 100
				if random.IntN(20) == 0 {
					pause = time.Duration(random.Int64N(int64(3 * interval)))
				}
				now = now.Add(pause)
			}
			for _, u := range all {
				require.Equal(t, wantDue(offsetOf(u, interval), interval, start, ticks), got[u])
			}
		})
	}
}

// emitDue adds a batch to what each user got.
func emitDue(
	all []gap.User, interval time.Duration, done, now time.Time, limit int, got map[gap.User][]time.Time,
) (emitted []gap.User, upTo time.Time) {
	due, upTo := directory.DueUsers(all, interval, done, now, limit)
	for _, one := range due {
		got[one.User] = append(got[one.User], one.At)
		emitted = append(emitted, one.User)
	}
	return emitted, upTo
}

// offsetOf returns when in an interval a user becomes due.
func offsetOf(u gap.User, interval time.Duration) time.Duration {
	due, _ := directory.DueUsers([]gap.User{u}, interval, time.Time{}, inventoryStart(), 1)
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
	all, now := users(5000), inventoryStart()
	for name, after := range map[string]time.Time{
		"an interval ago": now.Add(-interval), "ten intervals ago": now.Add(-10 * interval), "never": {},
	} {
		due, upTo := directory.DueUsers(all, interval, after, now, 5000)
		got := make([]gap.User, 0, len(due))
		for _, one := range due {
			got = append(got, one.User)
		}
		assert.ElementsMatch(t, all, got, name)
		assert.Equal(t, now, upTo, name)
	}
}

func TestDueUsers_ClockThatWasAhead(t *testing.T) {
	t.Parallel()
	const interval = 24 * time.Hour
	all, now := users(100), inventoryStart()
	for name, test := range map[string]struct{ after, upTo time.Time }{
		"a little: what was emitted is not repeated": {now.Add(time.Hour), now.Add(time.Hour)},
		"far: it goes on from now":                   {now.Add(25 * time.Hour), now},
	} {
		due, upTo := directory.DueUsers(all, interval, test.after, now, 1000)
		assert.Empty(t, due, name)
		assert.Equal(t, test.upTo, upTo, name)
	}
}

func TestDueUsers_SpreadsUsersOverInterval(t *testing.T) {
	t.Parallel()
	const interval, parts = 24 * time.Hour, 24
	all, now := users(24_000), inventoryStart()
	for part := range parts {
		from := now.Add(time.Duration(part) * interval / parts)
		due, _ := directory.DueUsers(all, interval, from, from.Add(interval/parts), len(all))
		assert.InDelta(t, 1000, len(due), 150)
		for i := range due[1:] {
			assert.False(t, due[i+1].At.Before(due[i].At))
		}
	}
}

// With short intervals many users become due at the same time, and a limit may not separate them, since the position is a time.
func TestDueUsers_LimitKeepsSameTimeTogether(t *testing.T) {
	t.Parallel()
	const interval = 1000 // nanoseconds
	all, done, seen := users(3000), inventoryStart(), map[gap.User]int{}
	now := done.Add(interval)
	for {
		var due []directory.Due
		due, done = directory.DueUsers(all, interval, done, now, 100)
		assert.LessOrEqual(t, len(due), 100)
		for _, one := range due {
			seen[one.User]++
		}
		if len(due) == 0 {
			break
		}
	}
	assert.Len(t, seen, len(all))
	for _, count := range seen {
		assert.Equal(t, 1, count)
	}
}

// A user who is licensed from the middle of an interval on comes at the next offset.
func TestDueUsers_NewUserComesAtNextOffset(t *testing.T) {
	t.Parallel()
	const interval = 24 * time.Hour
	known, middle := users(10), inventoryStart()
	_, done := directory.DueUsers(known, interval, middle.Add(-interval/2), middle, 1000)
	due, _ := directory.DueUsers(users(11), interval, done, middle.Add(interval), 1000)
	require.Len(t, due, 11)
	n := slices.IndexFunc(due, func(one directory.Due) bool { return one.User == user(10) })
	assert.True(t, due[n].At.After(middle))
}
