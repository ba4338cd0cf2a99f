package backfill_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestTwentyRefusalsInARowMeanAMissingPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(1000, time.Now().Add(-150*time.Minute))
		w.graph.fail = func(request) error { return forbidden() }
		w.graph.took = time.Millisecond
		w.settings.Concurrency = 1
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(4 * time.Minute)
		assert.Len(t, w.graph.asked(), 20)
		pass(2 * time.Minute)
		assert.Len(t, w.graph.asked(), 40, "tried again after 5 minutes")
		pass(9 * time.Minute)
		assert.Len(t, w.graph.asked(), 40)
		pass(2 * time.Minute)
		assert.Len(t, w.graph.asked(), 60, "then after 10")
		require.Len(t, w.health(), 1)
		assert.Contains(t, w.health()[0].Error(), "AiEnterpriseInteraction.Read.All")
		assert.Equal(t, 1, w.said("history can't be read"))
		w.graph.set(func() { w.graph.fail = nil })
		pass(30 * time.Minute)
		assert.Equal(t, 1000, w.intake.distinct())
		require.NoError(t, w.health()[1])
		stop()
	})
}

func TestARefusalOfSomeUsersDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(100, time.Now().Add(-150*time.Minute))
		bad := map[string]bool{guid(3): true, guid(50): true, guid(99): true}
		w.graph.fail = func(r request) error {
			if bad[r.user] {
				return forbidden()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		assert.Equal(t, 97, w.intake.distinct())
		assert.Len(t, w.graph.asked(), 100)
		assert.Empty(t, w.telemetry.copy().closed, "the gap stays open for them")
		assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.Startup])
		assert.Empty(t, w.health())

		pass(12 * time.Hour)
		assert.Less(t, len(w.graph.asked()), 100+3*17, "they are tried again ever more seldom, down to once an hour")
		w.graph.set(func() { bad = nil })
		pass(time.Hour)
		assert.Equal(t, 100, w.intake.distinct())
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		assert.Empty(t, f.Missing(time.Now()))
		stop()
	})
}

func TestManyUsersInARowWhoMayNotBeReadDoNotKeepTheOthersFromBeing(t *testing.T) {
	t.Parallel()
	for name, readable := range map[string]func(n int) bool{
		"after one who may":            func(n int) bool { return n < 3 || n > 40 },
		"before the first one who may": func(n int) bool { return n > 50 },
		"after many who may":           func(n int) bool { return n < 30 || n > 58 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(60, time.Now().Add(-150*time.Minute))
				bad, good := map[string]bool{}, 0
				order := slices.Sorted(slices.Values(w.settings.Users)) // as they are read
				for n, user := range order {
					if bad[user] = !readable(n); !bad[user] {
						good++
					}
				}
				w.graph.fail = func(r request) error {
					if bad[r.user] {
						return forbidden()
					}
					return nil
				}
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(31 * time.Minute)
				assert.Equal(t, good, w.intake.distinct())
				line := w.logs.FilterMessageSnippet("history of some users can't be read").All()
				require.Len(t, line, 1)
				assert.EqualValues(t, 60-good, line[0].ContextMap()["users"])
				assert.Contains(t, line[0].ContextMap()["hint"], "AiEnterpriseInteraction.Read.All")
				assert.Contains(t, line[0].ContextMap()["error"], "403")
				stop()
			})
		})
	}
}

func TestManyUsersBehindTheLastOneWhoMayBeReadEndNoReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(300, time.Now().Add(-150*time.Minute))
		good := slices.Min(w.settings.Users)
		w.graph.fail = func(r request) error {
			if r.user != good {
				return forbidden()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(time.Hour)
		w.graph.set(func() { w.graph.happened[good] = append(w.graph.happened[good], time.Now().Add(-125*time.Minute)) })
		f.Open(gap(backfill.Subscription))
		pass(time.Hour)
		assert.Equal(t, 2, w.intake.distinct(), "the next gap is read as well")
		pass(10 * time.Hour)
		assert.Less(t, len(w.graph.asked()), 300*20, "and they are tried again once an hour")
		stop()
	})
}

func TestAUserWhoseHistoryAlwaysFailsDoesNotHoldUpPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(10)
		w.settings.PollInterval = 5 * time.Minute
		w.graph.fail = func(r request) error {
			if r.user == guid(7) {
				return refusal(500, "Failed to execute request.", 0)
			}
			return nil
		}
		_, stop := w.run(t)
		pass(24 * time.Hour)
		stop()
		others, bad := 0, 0
		for _, r := range w.graph.asked() {
			if r.user == guid(7) {
				bad++
			} else {
				others++
			}
		}
		assert.GreaterOrEqual(t, others, 9*280, "polls go on")
		assert.Less(t, bad, 5*40)
	})
}

func TestFewUsersOfWhomNoneMayBeReadMeanAMissingPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(3)
		w.graph.fail = func(request) error { return forbidden() }
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(4 * time.Minute)
		assert.Len(t, w.graph.asked(), 3)
		assert.Len(t, w.health(), 1)
		stop()
	})
}

func TestUsersWhoCannotBeReadAreGivenUpWithTheirGap(t *testing.T) {
	t.Parallel()
	for _, reason := range []backfill.Reason{backfill.Startup, backfill.Lookback} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(30)
				w.graph.fail = func(r request) error {
					if r.user == guid(3) {
						return forbidden()
					}
					return nil
				}
				f, stop := w.run(t)
				f.Open(gap(reason))
				pass(164 * time.Hour)
				assert.Equal(t, time.Hour, f.Missing(time.Now())[reason])
				pass(30 * time.Hour)
				assert.Empty(t, f.Missing(time.Now()))
				assert.Equal(t, map[backfill.Reason]time.Duration{reason: time.Hour}, w.telemetry.copy().lost)
				assert.Equal(t, w.telemetry.copy().opened, w.telemetry.copy().closed)
				assert.EqualValues(t, 1, w.logs.FilterMessageSnippet("history.max_gap").All()[0].ContextMap()["users"])
				stop()
			})
		})
	}
}
