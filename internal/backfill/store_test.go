// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
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
				h.configure(100, time.Now().Add(-150*time.Minute))
				h.settings.Concurrency = 1
				h.pipeline.slow = test.slow
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(time.Second)
				began := time.Now()
				stop()
				assert.InDelta(t, test.wait.Seconds(), time.Since(began).Seconds(), 0.1)
				assert.Equal(t, test.slow < time.Minute, h.pipeline.distinct() == 1, "and nothing else is begun")
			})
		})
	}
}

func TestPass_ResumesPassAfterRestart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kill   bool
		reread int // how many users are read again at worst
	}{
		"after a shutdown": {false, 4},
		"after kill -9":    {true, 2*25 + 4},
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
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(100*time.Second + 500*time.Millisecond)
				left := h.client.copy()
				stop()
				if !test.kill {
					h.save(t)
					left = h.client.copy()
				}
				before := len(h.graph.historyRequests())
				require.InDelta(t, 2500, before, 30)

				h.client = left
				_, stop = h.run(t)
				assert.Equal(t, time.Hour, h.missing()[gap.Startup])
				advance(200 * time.Second)
				stop()
				h.save(t)

				counts := h.graph.readUsers()
				assert.Len(t, counts, 5000, "everyone was read")
				assert.LessOrEqual(t, len(h.graph.historyRequests())-5000, test.reread)
				assert.Equal(t, 5000, h.pipeline.distinct())
				assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
				assert.Empty(t, h.missing())
				assert.Nil(t, h.state().Pass)
			})
		})
	}
}

func TestPass_SurvivesKillAtAnyWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		at := time.Now().Add(-150 * time.Minute)
		h.configure(60, at)
		h.throttle.RequestsPerSecond = 10
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		var snapshots []*fakeClient
		for range 70 {
			advance(100 * time.Millisecond)
			snapshots = append(snapshots, h.client.copy())
		}
		stop()
		require.Equal(t, 60, h.pipeline.distinct())
		for _, left := range snapshots {
			// Deliveries before the kill remain; the stored state must lead to the others.
			before := storedState(t, left)
			restarted := newHarness()
			restarted.configure(60, at)
			restarted.client = left
			_, stop := restarted.run(t)
			advance(time.Minute)
			stop()
			want := 0
			switch {
			case len(before.Gaps) > 0:
				want = 60
			case before.Pass != nil:
				for _, id := range guids(60) {
					if u, _ := gap.ParseUser(id); before.Pass.Cursor == nil || u.Compare(*before.Pass.Cursor) > 0 {
						want++
					}
				}
			}
			require.Equal(t, want, restarted.pipeline.distinct())
			require.Empty(t, restarted.missing())
		}
	})
}

func storedState(t *testing.T, c *fakeClient) gap.State {
	t.Helper()
	payload, err := statestore.New(c).Read(t.Context(), "gaps", 1)
	require.NoError(t, err)
	var state gap.State
	require.NoError(t, json.Unmarshal(payload, &state))
	return state
}

// A user below the cursor who was not known before the restart is not read after it, so the pass stays partial.
func TestPass_StaysPartialAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.failList = forbidden
		h.graph.latency = time.Second
		h.settings.Concurrency = 1
		_, stop := h.run(t)
		all := guids(20)
		slices.Sort(all)
		h.directory.Seen(all[8:12]...)
		h.open(hour(gap.Startup))
		advance(2500 * time.Millisecond)
		stop()
		h.save(t)
		for _, id := range all {
			h.graph.interactions[id] = []time.Time{time.Now().Add(-150 * time.Minute)}
		}
		h.graph.set(func() { h.graph.failList, h.graph.licensed = nil, all })
		_, stop = h.run(t)
		advance(time.Minute)
		stop()
		assert.Len(t, h.graph.readUsers(), 20)
		assert.Empty(t, h.missing())
	})
}

func TestPass_KeepsFailedUsersAndSecondPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(30, time.Now().Add(-10*time.Minute))
		h.graph.fail = func(r request) error {
			if r.user == guid(4) {
				return forbidden()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(between(gap.Subscription, time.Now().Add(-time.Hour), time.Now()))
		advance(3 * time.Minute)
		stop()
		h.save(t)
		require.Equal(t, 29, h.pipeline.distinct())

		h.graph.set(func() { h.graph.fail = nil })
		_, stop = h.run(t)
		advance(10 * time.Minute)
		assert.Equal(t, 30, h.pipeline.distinct())
		advance(time.Hour)
		assert.Len(t, h.graph.historyRequests(), 30+1+30+1, "the second passes are not lost")
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, h.missing())
		stop()
	})
}

func TestBackfiller_ReadsWhileStorageFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(100)
		_, stop := h.run(t)
		h.client.setBroken(true)
		h.directory.Seen(guid(0))
		h.open(hour(gap.Startup))
		advance(time.Minute)
		assert.Len(t, h.graph.historyRequests(), 100)
		assert.Equal(t, 2, h.logged("can't be stored"), "the gaps and the users, each once")
		stop()
		require.ErrorIs(t, h.directory.Save(t.Context()), errStore)
		h.client.setBroken(false)
		h.save(t)
		assert.NotEmpty(t, h.client.copy().values["gaps"])
		assert.NotEmpty(t, h.client.copy().values["users"])
	})
}

func TestPass_StoresGapsAtOnceAndProgressEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(2000)
		b, stop := h.run(t)
		advance(time.Minute)
		g := hour(gap.Startup)
		g.To = time.Now().Add(-time.Hour)
		h.open(g)
		synctest.Wait()
		assert.Contains(t, string(h.client.copy().values["gaps"]), "startup")
		advance(59 * time.Second)
		assert.Less(t, h.client.copy().writes, 2*62)
		progress := b.Progress()
		assert.InDelta(t, 59*25, progress.Done, 10)
		assert.InDelta(t, 21, progress.TimeLeft.Seconds(), 2)
		assert.Equal(t, 1, h.logged("history is being read"), "one line every 30 s")
		assert.NotEmpty(t, h.logs.FilterMessageSnippet("history is being read").All()[0].ContextMap()["time_left"])
		stop()
	})
}

func TestPass_ReadsFailedUserBeyondCursorAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(10)
		order := slices.Sorted(slices.Values(h.users))
		h.graph.fail = func(r request) error {
			switch r.user {
			case order[1]:
				return graphError(500, "", 0) // It is tried again for a second or more, and the cursor waits.
			case order[3]:
				return forbidden()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Second)
		stop()
		h.save(t)
		assert.Equal(t, order[0], h.state().Pass.Cursor.String())
		h.graph.set(func() { h.graph.fail = nil })
		_, stop = h.run(t)
		advance(2 * time.Hour)
		stop()
		assert.Equal(t, 2, h.graph.readUsers()[order[3]], "once before the restart and once after it")
		assert.Empty(t, h.state().Gaps)
	})
}
