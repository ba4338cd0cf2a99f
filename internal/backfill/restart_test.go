package backfill_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

func TestAnEndWaitsForWhatThePipelineIsTakingInMeasure(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ slow, wait time.Duration }{
		"a slow pipeline takes it, so that the next run does not deliver it again": {3 * time.Second, 2 * time.Second},
		"a stuck one is left": {time.Hour, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(100, time.Now().Add(-150*time.Minute))
				w.settings.Concurrency = 1
				w.intake.slow = test.slow
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(time.Second)
				began := time.Now()
				stop()
				assert.InDelta(t, test.wait.Seconds(), time.Since(began).Seconds(), 0.1)
				assert.Equal(t, test.slow < time.Minute, w.intake.distinct() == 1, "and nothing else is begun")
			})
		})
	}
}

func TestARestartGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kill  bool
		again int // how many users are read again at worst
	}{
		"after a shutdown": {false, 0},
		"after kill -9":    {true, 2 * 25},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.graph.licensed = guids(5000)
				for _, id := range w.graph.licensed {
					w.graph.happened[id] = []time.Time{time.Now().Add(-150 * time.Minute)}
				}
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(100*time.Second + 500*time.Millisecond)
				left := w.store.copy()
				stop()
				if !test.kill {
					require.NoError(t, f.Save(t.Context()))
					left = w.store.copy()
				}
				before := len(w.graph.asked())
				require.InDelta(t, 2500, before, 30)

				w.store, w.settings.Store = left, left
				w.graph.set(func() { w.graph.licensed = append(w.graph.licensed, guid(7777)) }) // Licensed meanwhile.
				f, stop = w.run(t)
				assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.Startup])
				pass(200 * time.Second)
				stop()
				require.NoError(t, f.Save(t.Context()))

				counts := w.graph.readUsers()
				assert.Len(t, counts, 5001, "everyone was read, also who was not known before")
				assert.LessOrEqual(t, len(w.graph.asked())-5001, test.again)
				assert.Equal(t, 5000, w.intake.distinct())
				assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
				assert.Empty(t, f.Missing(time.Now()))
				for key := range w.store.values {
					assert.False(t, strings.HasPrefix(key, "history/done/"), "nothing is left of the progress")
				}
			})
		})
	}
}

func TestKilledAtAnyWriteNothingIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(60, time.Now().Add(-150*time.Minute))
		w.settings.RequestsPerSecond = 10
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		var snapshots []*fakeStore
		for range 70 {
			pass(100 * time.Millisecond)
			snapshots = append(snapshots, w.store.copy())
		}
		stop()
		require.Equal(t, 60, w.intake.distinct())
		for _, left := range snapshots {
			// What was delivered before the kill stays delivered; what remains must bring the rest.
			open := strings.Contains(string(left.values["history/gaps"]), "startup")
			again := newHarness()
			again.users(60, time.Now().Add(-150*time.Minute))
			again.settings.Store = left
			_, stop := again.run(t)
			pass(time.Minute)
			stop()
			done := len(left.values["history/done/0"])
			if open {
				require.NotEmpty(t, again.telemetry.copy().closed)
				if done > 9 {
					require.Equal(t, 60-(done-9)/16, again.intake.distinct())
				}
			} else {
				require.Zero(t, again.intake.distinct())
			}
		}
	})
}

func TestLaggardsAndWaitingGapsSurviveARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(30, time.Now().Add(-10*time.Minute))
		w.graph.fail = func(r request) error {
			if r.user == guid(4) {
				return forbidden()
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(backfill.Gap{Reason: backfill.Subscription, From: time.Now().Add(-time.Hour), To: time.Now()})
		pass(3 * time.Minute)
		stop()
		require.NoError(t, f.Save(t.Context()))
		require.Equal(t, 29, w.intake.distinct())

		w.graph.set(func() { w.graph.fail = nil })
		f, stop = w.run(t)
		pass(10 * time.Minute)
		assert.Equal(t, 30, w.intake.distinct())
		assert.Empty(t, w.telemetry.copy().closed)
		pass(time.Hour)
		assert.Len(t, w.graph.asked(), 30+1+30, "the second reading is not forgotten")
		assert.Equal(t, map[backfill.Reason]int{backfill.Subscription: 1}, w.telemetry.copy().closed)
		assert.Empty(t, f.Missing(time.Now()))
		stop()
	})
}

func TestAStoredValueThatCannotBeReadIsReplaced(t *testing.T) {
	t.Parallel()
	damages := map[string][]byte{
		"empty": {}, "of another version": {9, '{', '}'}, "cut off": {1, '{', '"'}, "no JSON": {1, 0, 0, 0}, "null bytes": make([]byte, 300),
		"foreign": []byte("hello, I belong to somebody else"),
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.graph.licensed = guids(3)
				w.store.values["history/gaps"] = damage
				for i := range 64 {
					w.store.values["history/seen/"+strconv.Itoa(i)] = damage
					w.store.values["history/unlicensed/"+strconv.Itoa(i)] = damage
				}
				w.store.values["history/done/0"] = damage
				f, stop := w.run(t)
				assert.Equal(t, 4, w.said("can't be read and is replaced"), "one line for each kind of value")
				f.Seen(guid(9))
				f.Open(gap(backfill.Startup))
				pass(time.Minute)
				assert.Len(t, w.graph.asked(), 4)
				stop()
				require.NoError(t, f.Save(t.Context()))
				for key, value := range w.store.values {
					assert.NotEqual(t, damage, value, key)
				}
				_, stop = w.run(t)
				stop()
				assert.Equal(t, 4, w.said("can't be read and is replaced"), "and none at the next start")
			})
		})
	}
}

func TestAStoreThatFailsIsSaidOnceAndStopsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(100)
		f, stop := w.run(t)
		w.store.breaks(true)
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		assert.Len(t, w.graph.asked(), 100)
		assert.Equal(t, 1, w.said("can't be stored"))
		stop()
		require.ErrorIs(t, f.Save(t.Context()), errStore)
		require.ErrorIs(t, backfill.New(w.settings).Load(t.Context()), errStore)
		w.store.breaks(false)
		require.NoError(t, f.Save(t.Context()))
		assert.NotEmpty(t, w.store.copy().values["history/gaps"])
	})
}

func TestGapsAreStoredAtOnceAndProgressAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(2000)
		f, stop := w.run(t)
		pass(time.Minute)
		g := gap(backfill.Startup)
		g.To = time.Now().Add(-time.Hour)
		f.Open(g)
		synctest.Wait()
		assert.Contains(t, string(w.store.copy().values["history/gaps"]), "startup")
		pass(59 * time.Second)
		assert.Less(t, w.store.copy().writes, 2*62)
		assert.Equal(t, 1, w.said("history is being read"), "one line each 30 s")
		line := w.logs.FilterMessageSnippet("history is being read").All()[0].ContextMap()
		assert.EqualValues(t, 2000, line["users"])
		assert.InDelta(t, 750, line["users_done"], 10)
		left, err := time.ParseDuration(line["time_left"].(string))
		require.NoError(t, err, "a duration says its unit")
		assert.InDelta(t, 50, left.Seconds(), 2)
		stop()
	})
}

func TestOpenBeforeLoadIsNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		f := backfill.New(w.settings)
		f.Open(gap(backfill.RemovedKey), backfill.Gap{Reason: backfill.UsersUnknown, From: time.Now().Add(-time.Hour), To: time.Now()})
		f.Open(backfill.Gap{Reason: backfill.Startup, From: time.Now(), To: time.Now()})
		f.Open(backfill.Gap{Reason: backfill.Startup, From: time.Now(), To: time.Now().Add(-time.Hour)})
		require.NoError(t, f.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.RemovedKey: time.Hour, backfill.UsersUnknown: time.Hour}, f.Missing(time.Now()))
	})
}
