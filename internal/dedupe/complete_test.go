package dedupe_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
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
		assert.True(t, c.Complete(begin), "nothing was evicted")
		assert.Empty(t, c.Incomplete(begin, begin.Add(100*time.Minute)))

		require.NoError(t, p.take(t.Context(), minutes(begin, 100, 111)...))
		evicted := begin.Add(10 * time.Minute)
		assert.False(t, c.Complete(begin))
		assert.False(t, c.Complete(evicted))
		assert.True(t, c.Complete(evicted.Add(time.Second)))
		assert.Equal(t, []dedupe.Interval{{From: begin, To: evicted.Add(time.Second)}}, c.Incomplete(begin, begin.Add(100*time.Minute)))
		assert.Equal(t, []dedupe.Interval{{From: begin, To: begin.Add(time.Minute)}}, c.Incomplete(begin, begin.Add(time.Minute)))
		assert.Empty(t, c.Incomplete(evicted.Add(time.Second), begin.Add(100*time.Minute)))

		recovered := newPipeline(c)
		require.NoError(t, recovered.take(t.Context(), fromHistory(minutes(begin, 5, 6)[0])))
		assert.Equal(t, []string{"h:created"}, recovered.changes(), "it is delivered again")
		assert.Zero(t, recovered.recovered, "it is unknown whether only the history had it")

		require.NoError(t, c.Save(t.Context()))
		c, _ = load(t, client, hundred)
		assert.False(t, c.Complete(evicted), "after a restart")
	})
}

func TestComplete_WhereOnlyTombstoneWasEvicted(t *testing.T) {
	t.Parallel()
	c := newCache(t, func(set *dedupe.Settings) { set.MaxEntries = 1 })
	p := newPipeline(c)
	require.NoError(t, p.take(t.Context(), tombstone("a", "1764601200123")))
	require.NoError(t, p.take(t.Context(), tombstone("a", "1764601200124")))
	assert.True(t, c.Complete(time.UnixMilli(1764601200123)), "history can't be compared with it")
}

func TestComplete_ExpiredEntryLeavesCacheComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().UTC()
		c := newCache(t, nil)
		defer run(t, c)()
		require.NoError(t, newPipeline(c).take(t.Context(), createdAt(item("1"), begin)))
		time.Sleep(100 * time.Hour)
		assert.True(t, c.Complete(begin))
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
		"a short one":  {20 * time.Second, true},
		"a longer one": {40 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := newFakeClient()
				c, ended := crash(t, client, time.Hour, test.down)
				began := time.Now()
				for range 2 {
					assert.Equal(t, test.complete, c.Complete(ended))
					assert.Equal(t, test.complete, c.Complete(ended.Add(-59*time.Second)))
					assert.True(t, c.Complete(ended.Add(-61*time.Second)))
					assert.True(t, c.Complete(began.Add(time.Second)))
					assert.Equal(t, test.complete, len(c.Incomplete(ended.Add(-time.Hour), began)) == 0)

					p := newPipeline(c)
					require.NoError(t, p.take(t.Context(), fromHistory(createdAt(item("1"), ended)), fromHistory(createdAt(item("2"), ended.Add(-2*time.Minute)))))
					assert.Equal(t, 1, p.recovered, "what may have been delivered before the end is not recovered")

					c, _ = load(t, client, nil) // and is remembered, if the next end is unclean, too
				}
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
		ended := time.Now()
		time.Sleep(time.Hour)
		c, _ = load(t, client, nil)
		assert.True(t, c.Complete(ended))
		assert.Empty(t, c.Incomplete(ended.Add(-time.Hour), time.Now()))
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
		failed := time.Now().UTC()
		client.intercept(failWrites)
		time.Sleep(time.Hour)
		stop()
		client.intercept(nil)
		c, _ = load(t, client, nil)
		assert.Equal(t, []dedupe.Interval{{From: failed.Add(-time.Minute), To: time.Now().UTC().Add(time.Second)}},
			c.Incomplete(failed.Add(-24*time.Hour), time.Now().Add(time.Hour)))
	})
}

func TestComplete_AfterSeveralUncleanEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// down is how long each end lasts.
		down []time.Duration
		// complete says for the hour before each end whether it is complete.
		complete []bool
	}{
		"the hour before one is complete":                  {[]time.Duration{2 * time.Minute}, []bool{true}},
		"all before the last but one counts as incomplete": {[]time.Duration{2 * time.Minute, 2 * time.Minute, 2 * time.Minute}, []bool{false, false, true}},
		"short ones do no harm":                            {[]time.Duration{time.Second, time.Second, time.Second}, []bool{true, true, true}},
		"a short one does not hide a long one":             {[]time.Duration{2 * time.Minute, time.Second}, []bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := newFakeClient()
				var ends []time.Time
				for _, down := range test.down {
					_, ended := crash(t, client, 2*time.Hour, down)
					ends = append(ends, ended)
				}
				c, _ := load(t, client, nil)
				for i, ended := range ends {
					assert.Equal(t, test.complete[i], c.Complete(ended.Add(-time.Hour)), "%d", i)
					assert.Equal(t, test.down[i] < time.Minute && test.complete[i], c.Complete(ended), "%d", i)
				}
			})
		})
	}
}

func TestIncomplete_PartsDoNotOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().UTC()
		client := newFakeClient()
		c, ended := crash(t, client, time.Hour, 2*time.Minute)
		require.NoError(t, newPipeline(c).take(t.Context(), minutes(begin, 0, 1061)...)) // evicts 61 minutes
		evicted := begin.Add(60*time.Minute + time.Second)
		assert.Equal(t, []dedupe.Interval{{From: begin, To: evicted}, {From: evicted, To: begin.Add(62*time.Minute + time.Second)}},
			c.Incomplete(begin, begin.Add(10*time.Hour)))
		assert.False(t, c.Complete(ended))
	})
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
		require.NoError(t, p.take(t.Context(), of(ben, minutes(begin, 10, 20)...)...))
		require.NoError(t, p.take(t.Context(), minutes(begin, 20, 30)...))
		require.NoError(t, p.take(t.Context(), of(anna, updated(minutes(begin, 1, 2)[0], "99"), deleted(minutes(begin, 2, 3)[0]))...))
		require.NoError(t, p.take(t.Context(), of(anna, fromHistory(minutes(begin, 30, 31)[0]))...))
		require.NoError(t, p.take(t.Context(), of(anna, updated(minutes(begin, 31, 32)[0], "99"))...))
		all := func(dedupe.UserHash) bool { return true }
		onlyAnna := func(user dedupe.UserHash) bool { return user == dedupe.HashUser(anna) }
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
		r := c.Reserve(t.Context(), append(minutes(time.Now(), 0, 2), minutes(time.Now(), 0, 1)...), dedupe.Live)
		r.New[1].UserID = anna // after the reservation
		r.Commit()
		assert.Equal(t, 1, c.Notified(time.Now(), time.Now().Add(time.Hour), func(u dedupe.UserHash) bool { return u == dedupe.HashUser(anna) }))
	})
}

func TestEntriesFor_FollowsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		assert.Zero(t, c.EntriesFor(time.Hour))
		p := newPipeline(c)
		for n := range 100 {
			require.NoError(t, p.take(t.Context(), item(strconv.Itoa(n))))
			time.Sleep(time.Minute)
		}
		assert.Equal(t, 1440, c.EntriesFor(24*time.Hour))
		assert.Zero(t, c.EntriesFor(16*time.Hour), "1000 suffice")
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
