// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// minutes returns items that were created a minute apart.
func minutes(begin time.Time, from, to int) []interaction.Received {
	all := items(from, to)
	for i := range all {
		all[i] = createdAt(all[i], begin.Add(time.Duration(from+i)*time.Minute))
	}
	return all
}

func TestComplete_UpToNewestEvictedCreation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, begin := newFakeClient(), time.Now().UTC()
		time.Sleep(100 * time.Minute)
		hundred := func(set *dedupe.Settings) { set.MaxEntries = 100 }
		c, _ := load(t, client, hundred)
		p := newPipeline(c)
		require.NoError(t, p.take(t.Context(), minutes(begin, 1, 100)...))
		assert.Zero(t, c.CompleteFrom(), "nothing was evicted")

		require.NoError(t, p.take(t.Context(), minutes(begin, 100, 111)...))
		evicted := begin.Add(10 * time.Minute)
		assert.Equal(t, evicted.Add(time.Second), c.CompleteFrom())

		recovered := newPipeline(c)
		require.NoError(t, recovered.take(t.Context(), fromHistory(minutes(begin, 5, 6)[0])))
		assert.Equal(t, []string{"h:created"}, recovered.changes(), "it is delivered again")
		assert.Zero(t, recovered.recovered, "it is unknown whether only the history had it")

		require.NoError(t, c.Save(t.Context()))
		c, _ = load(t, client, hundred)
		assert.Equal(t, evicted.Add(time.Minute+time.Second), c.CompleteFrom(), "it has evicted another, which is known after a restart")
	})
}

func TestComplete_WhereOnlyTombstoneWasEvicted(t *testing.T) {
	t.Parallel()
	c := newCache(t, func(set *dedupe.Settings) { set.MaxEntries = 1 })
	p := newPipeline(c)
	require.NoError(t, p.take(t.Context(), tombstone("a", "1764601200123")))
	require.NoError(t, p.take(t.Context(), tombstone("a", "1764601200124")))
	assert.Zero(t, c.CompleteFrom(), "history can't be compared with it")
}

func TestComplete_ExpiredEntryLeavesCacheComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().UTC()
		c := newCache(t, nil)
		defer run(t, c)()
		require.NoError(t, newPipeline(c).take(t.Context(), createdAt(item("1"), begin)))
		time.Sleep(100 * time.Hour)
		assert.Zero(t, c.CompleteFrom())
	})
}

// crash runs a cache, ends it without Save, and waits before the next start.
func crash(t *testing.T, client *fakeClient, up, down time.Duration) (*dedupe.Cache, time.Time) {
	t.Helper()
	c, _ := load(t, client, nil)
	stop := run(t, c)
	time.Sleep(up)
	synctest.Wait()
	stop()
	ended := time.Now()
	time.Sleep(down)
	c, _ = load(t, client, nil)
	return c, ended
}

func TestComplete_AfterUncleanEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		down     time.Duration
		complete bool
	}{
		"a short one":  {9 * time.Minute, true},
		"a longer one": {11 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := newFakeClient()
				c, ended := crash(t, client, time.Hour, test.down)
				began := time.Now().UTC()
				for range 2 {
					if test.complete {
						assert.Zero(t, c.CompleteFrom())
					} else {
						assert.Equal(t, began.Add(time.Second), c.CompleteFrom())
					}
					p := newPipeline(c)
					require.NoError(t, p.take(t.Context(), fromHistory(createdAt(item("1"), ended))))
					assert.Zero(t, p.recovered, "what may have been delivered before the end is not recovered")
					require.NoError(t, p.take(t.Context(), fromHistory(createdAt(item("2"), ended.Add(-2*time.Minute)))))
					require.NoError(t, p.take(t.Context(), fromHistory(createdAt(item("3"), ended.Add(2*time.Minute)))))
					assert.Equal(t, 2, p.recovered, "but what was created earlier, or while nothing ran, is")

					c, _ = load(t, client, nil) // and is remembered, if the next end is unclean, too
				}
			})
		})
	}
}

// Each of several unclean ends is remembered, in a crash loop as well.
func TestComplete_AfterSeveralUncleanEnds(t *testing.T) {
	t.Parallel()
	for name, up := range map[string]time.Duration{"far apart": time.Hour, "a crash loop": 15 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := newFakeClient()
				began := time.Now()
				var c *dedupe.Cache
				var ends []time.Time
				for range 40 {
					var ended time.Time
					c, ended = crash(t, client, up, time.Second)
					ends = append(ends, ended)
				}
				if up > time.Minute {
					ends = ends[24:] // their number has a bound
				}
				p := newPipeline(c)
				for n, ended := range ends {
					require.NoError(t, p.take(t.Context(), fromHistory(createdAt(item(strconv.Itoa(n)), ended))))
				}
				assert.Zero(t, p.recovered)
				require.NoError(t, p.take(t.Context(), fromHistory(createdAt(item("before"), began.Add(-2*time.Minute)))))
				assert.Equal(t, 1, p.recovered)
			})
		})
	}
}

func TestComplete_AfterCleanEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		c, _ := load(t, client, nil)
		require.NoError(t, c.Save(t.Context()))
		time.Sleep(time.Hour)
		c, _ = load(t, client, nil)
		assert.Zero(t, c.CompleteFrom())
	})
}

func TestComplete_AfterStorageFailedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		c, _ := load(t, client, nil)
		stop := run(t, c)
		time.Sleep(time.Hour)
		synctest.Wait()
		client.intercept(failWrites)
		time.Sleep(time.Hour)
		stop()
		client.intercept(nil)
		c, _ = load(t, client, nil)
		assert.Equal(t, time.Now().UTC().Add(time.Second), c.CompleteFrom())
	})
}

func TestComplete_ShortUncleanEndDoesNotHideLongOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newFakeClient()
		crash(t, client, 2*time.Hour, time.Hour)
		began := time.Now().UTC()
		crash(t, client, 2*time.Hour, time.Second)
		c, _ := load(t, client, nil)
		assert.Equal(t, began.Add(time.Second), c.CompleteFrom())
	})
}

func users(ids ...string) (users []gap.User) {
	for _, id := range ids {
		user, _ := gap.ParseUser(id)
		users = append(users, user)
	}
	return users
}

func TestNotified_CountsCreationsOfUsersRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().UTC()
		client := newFakeClient()
		c, _ := load(t, client, nil)
		of := func(user string, received ...interaction.Received) []interaction.Received {
			for i := range received {
				received[i].UserID = user
			}
			return received
		}
		p := newPipeline(c)
		require.NoError(t, p.take(t.Context(), of(anna, minutes(begin, 0, 10)...)...))
		require.NoError(t, p.take(t.Context(), of(strings.ToUpper(ben), minutes(begin, 10, 20)...)...))
		require.NoError(t, p.take(t.Context(), minutes(begin, 20, 30)...))
		require.NoError(t, p.take(t.Context(), of(anna, updated(minutes(begin, 1, 2)[0], "99"), deleted(minutes(begin, 2, 3)[0]))...))
		require.NoError(t, p.take(t.Context(), of(anna, fromHistory(minutes(begin, 30, 31)[0]))...))
		require.NoError(t, p.take(t.Context(), of(anna, updated(minutes(begin, 31, 32)[0], "99"))...))
		all, onlyAnna := users(anna, ben), users(anna)
		for range 2 {
			assert.Equal(t, 20, c.Notified(begin, begin.Add(time.Hour), all), "those without a user do not count")
			assert.Equal(t, 10, c.Notified(begin, begin.Add(time.Hour), onlyAnna), "changes and what history brought do not count")
			assert.Equal(t, 5, c.Notified(begin.Add(2*time.Minute), begin.Add(7*time.Minute), all), "from the first up to the second time")
			require.NoError(t, c.Save(t.Context()))
			c, _ = load(t, client, nil)
		}
	})
}

func TestNotified_KnowsUserFromAttribution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		r := c.Reserve(t.Context(), append(minutes(time.Now(), 0, 2), minutes(time.Now(), 0, 1)...))
		r.New[1].UserID = anna // after the reservation
		r.Commit()
		assert.Equal(t, 1, c.Notified(time.Now(), time.Now().Add(time.Hour), users(anna)))
	})
}

func TestEntriesFor_FollowsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		entries := func(span time.Duration) int {
			n, allowed := c.EntriesFor(span)
			assert.True(t, allowed)
			return n
		}
		assert.Zero(t, entries(time.Hour))
		p := newPipeline(c)
		for n := range 100 {
			require.NoError(t, p.take(t.Context(), item(strconv.Itoa(n))))
			time.Sleep(time.Minute)
		}
		assert.Equal(t, 1440, entries(24*time.Hour))
		assert.Zero(t, entries(16*time.Hour), "1000 suffice")
		assert.Equal(t, dedupe.MaxEntries, entries(dedupe.MaxEntries*time.Minute))

		more, allowed := c.EntriesFor((dedupe.MaxEntries + 1) * time.Minute)
		assert.Equal(t, dedupe.MaxEntries+1, more)
		assert.False(t, allowed, "the configuration refuses so many")
	})
}

func TestNewestCreation_AmongAllDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, begin := newFakeClient(), time.Now().UTC()
		c, _ := load(t, client, nil)
		assert.True(t, c.NewestCreation().IsZero())
		require.NoError(t, newPipeline(c).take(t.Context(), minutes(begin, 5, 6)[0], minutes(begin, 2, 3)[0]))
		assert.Equal(t, begin.Add(5*time.Minute), c.NewestCreation())
		require.NoError(t, c.Save(t.Context()))
		c, _ = load(t, client, nil)
		assert.Equal(t, begin.Add(5*time.Minute), c.NewestCreation())
	})
}
