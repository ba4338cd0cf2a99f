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

func TestBackfiller_WaitsForDeliveryAtShutdown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ slow, wait time.Duration }{
		"a slow pipeline accepts it, so that the next run does not deliver it again": {3 * time.Second, 2 * time.Second},
		"a stuck pipeline is given up": {time.Hour, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(100, time.Now().Add(-150*time.Minute))
				h.settings.Concurrency = 1
				h.intake.slow = test.slow
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				advance(time.Second)
				began := time.Now()
				stop()
				assert.InDelta(t, test.wait.Seconds(), time.Since(began).Seconds(), 0.1)
				assert.Equal(t, test.slow < time.Minute, h.intake.distinct() == 1, "and nothing else is begun")
			})
		})
	}
}

func TestStore_ResumesPassAfterRestart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kill   bool
		reread int // how many users are read again at worst
	}{
		"after a shutdown": {false, 0},
		"after kill -9":    {true, 2 * 25},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.graph.licensed = guids(5000)
				for _, id := range h.graph.licensed {
					h.graph.interactions[id] = []time.Time{time.Now().Add(-150 * time.Minute)}
				}
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				advance(100*time.Second + 500*time.Millisecond)
				left := h.store.copy()
				stop()
				if !test.kill {
					require.NoError(t, b.Save(t.Context()))
					left = h.store.copy()
				}
				before := len(h.graph.historyRequests())
				require.InDelta(t, 2500, before, 30)

				h.store, h.settings.Store = left, left
				h.graph.set(func() { h.graph.licensed = append(h.graph.licensed, guid(7777)) }) // Licensed meanwhile.
				b, stop = h.run(t)
				assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup])
				advance(200 * time.Second)
				stop()
				require.NoError(t, b.Save(t.Context()))

				counts := h.graph.readUsers()
				assert.Len(t, counts, 5001, "everyone was read, including those not known before")
				assert.LessOrEqual(t, len(h.graph.historyRequests())-5001, test.reread)
				assert.Equal(t, 5000, h.intake.distinct())
				assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
				assert.Empty(t, b.Missing(time.Now()))
				for key := range h.store.values {
					assert.False(t, strings.HasPrefix(key, "history/done/"), "nothing is left of the progress")
				}
			})
		})
	}
}

func TestStore_SurvivesKillAtAnyWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(60, time.Now().Add(-150*time.Minute))
		h.settings.RequestsPerSecond = 10
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		var snapshots []*fakeStore
		for range 70 {
			advance(100 * time.Millisecond)
			snapshots = append(snapshots, h.store.copy())
		}
		stop()
		require.Equal(t, 60, h.intake.distinct())
		for _, left := range snapshots {
			// Deliveries before the kill remain; the stored state must lead to the others.
			open := strings.Contains(string(left.values["history/gaps"]), "startup")
			restarted := newHarness()
			restarted.users(60, time.Now().Add(-150*time.Minute))
			restarted.settings.Store = left
			_, stop := restarted.run(t)
			advance(time.Minute)
			stop()
			done := len(left.values["history/done/0"])
			if open {
				require.NotEmpty(t, restarted.telemetry.copy().closed)
				if done > 9 {
					require.Equal(t, 60-(done-9)/16, restarted.intake.distinct())
				}
			} else {
				require.Zero(t, restarted.intake.distinct())
			}
		}
	})
}

func TestStore_KeepsFailedUsersAndSecondPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(30, time.Now().Add(-10*time.Minute))
		h.graph.fail = func(r request) error {
			if r.user == guid(4) {
				return forbidden()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(backfill.Gap{Reason: backfill.Subscription, From: time.Now().Add(-time.Hour), To: time.Now()})
		advance(3 * time.Minute)
		stop()
		require.NoError(t, b.Save(t.Context()))
		require.Equal(t, 29, h.intake.distinct())

		h.graph.set(func() { h.graph.fail = nil })
		b, stop = h.run(t)
		advance(10 * time.Minute)
		assert.Equal(t, 30, h.intake.distinct())
		assert.Empty(t, h.telemetry.copy().closed)
		advance(time.Hour)
		assert.Len(t, h.graph.historyRequests(), 30+1+30, "the second pass is not lost")
		assert.Equal(t, map[backfill.Reason]int{backfill.Subscription: 1}, h.telemetry.copy().closed)
		assert.Empty(t, b.Missing(time.Now()))
		stop()
	})
}

func TestStore_ReplacesDamagedValues(t *testing.T) {
	t.Parallel()
	damages := map[string][]byte{
		"empty": {}, "of another version": {9, '{', '}'}, "cut off": {1, '{', '"'}, "no JSON": {1, 0, 0, 0}, "null bytes": make([]byte, 300),
		"foreign": []byte("hello, I belong to somebody else"),
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.graph.licensed = guids(3)
				h.store.values["history/gaps"] = damage
				for i := range 64 {
					h.store.values["history/seen/"+strconv.Itoa(i)] = damage
					h.store.values["history/unlicensed/"+strconv.Itoa(i)] = damage
				}
				h.store.values["history/done/0"] = damage
				b, stop := h.run(t)
				assert.Equal(t, 4, h.logged("can't be read and is replaced"), "one line for each kind of value")
				b.Seen(guid(9))
				b.Open(gap(backfill.Startup))
				advance(time.Minute)
				assert.Len(t, h.graph.historyRequests(), 4)
				stop()
				require.NoError(t, b.Save(t.Context()))
				for key, value := range h.store.values {
					assert.NotEqual(t, damage, value, key)
				}
				_, stop = h.run(t)
				stop()
				assert.Equal(t, 4, h.logged("can't be read and is replaced"), "and none at the next start")
			})
		})
	}
}

func TestStore_LogsFailureOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(100)
		b, stop := h.run(t)
		h.store.setBroken(true)
		b.Open(gap(backfill.Startup))
		advance(time.Minute)
		assert.Len(t, h.graph.historyRequests(), 100)
		assert.Equal(t, 1, h.logged("can't be stored"))
		stop()
		require.ErrorIs(t, b.Save(t.Context()), errStore)
		require.ErrorIs(t, backfill.New(h.settings).Load(t.Context()), errStore)
		h.store.setBroken(false)
		require.NoError(t, b.Save(t.Context()))
		assert.NotEmpty(t, h.store.copy().values["history/gaps"])
	})
}

func TestStore_WritesGapsAtOnceAndProgressEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(2000)
		b, stop := h.run(t)
		advance(time.Minute)
		g := gap(backfill.Startup)
		g.To = time.Now().Add(-time.Hour)
		b.Open(g)
		synctest.Wait()
		assert.Contains(t, string(h.store.copy().values["history/gaps"]), "startup")
		advance(59 * time.Second)
		assert.Less(t, h.store.copy().writes, 2*62)
		assert.Equal(t, 1, h.logged("history is being read"), "one line every 30 s")
		line := h.logs.FilterMessageSnippet("history is being read").All()[0].ContextMap()
		assert.EqualValues(t, 2000, line["users"])
		assert.InDelta(t, 750, line["users_done"], 10)
		left, err := time.ParseDuration(line["time_left"].(string))
		require.NoError(t, err, "a duration has a unit")
		assert.InDelta(t, 50, left.Seconds(), 2)
		stop()
	})
}

func TestOpen_KeepsGapsOpenedBeforeLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		b := backfill.New(h.settings)
		b.Open(gap(backfill.RemovedKey), backfill.Gap{Reason: backfill.UsersUnknown, From: time.Now().Add(-time.Hour), To: time.Now()})
		b.Open(backfill.Gap{Reason: backfill.Startup, From: time.Now(), To: time.Now()})
		b.Open(backfill.Gap{Reason: backfill.Startup, From: time.Now(), To: time.Now().Add(-time.Hour)})
		require.NoError(t, b.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.RemovedKey: time.Hour, backfill.UsersUnknown: time.Hour}, b.Missing(time.Now()))
	})
}
