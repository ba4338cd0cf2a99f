package backfill_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestBackfiller_ReadsGapForEveryUserAndClosesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(10, time.Now().Add(-150*time.Minute), time.Now().Add(-140*time.Minute))
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Startup: time.Hour}, b.Missing(time.Now()))

		advance(time.Minute)

		assert.Len(t, h.graph.historyRequests(), 10, "one request for each user")
		assert.Equal(t, 20, h.intake.distinct())
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().opened)
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
		assert.Equal(t, 20, h.telemetry.copy().found)
		assert.Equal(t, 1, h.logged("reading history"))
		assert.Equal(t, 1, h.logged("history read"))
		stop()
	})
}

func TestBackfiller_LogsNumberOfNewInteractions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(10, time.Now().Add(-30*time.Minute))
		b, stop := h.run(t)
		b.Open(backfill.Gap{Reason: backfill.Startup, From: time.Now().Add(-time.Hour), To: time.Now()})
		advance(2 * time.Hour)
		stop()
		lines := h.logs.FilterMessage("history read").All()
		require.Len(t, lines, 2, "the last hour is read twice")
		for i, want := range []struct {
			level zapcore.Level
			fresh int
		}{{zapcore.InfoLevel, 10}, {zapcore.DebugLevel, 0}} {
			assert.Equal(t, want.level, lines[i].Level)
			assert.EqualValues(t, 10, lines[i].ContextMap()["interactions"])
			assert.EqualValues(t, want.fresh, lines[i].ContextMap()["interactions_new"])
		}
	})
}

func TestBackfiller_LogsPollsAtDebugLevel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.settings.PollInterval = 5 * time.Minute
		_, stop := h.run(t)
		advance(time.Hour)
		stop()
		lines := h.logs.FilterMessage("history read").All()
		require.NotEmpty(t, lines)
		for _, line := range lines {
			assert.Equal(t, zapcore.DebugLevel, line.Level)
		}
	})
}

func TestBackfiller_ReportsProgressDuringPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.latency = time.Second
		h.settings.Concurrency = 2
		h.users(20)
		b, stop := h.run(t)
		assert.Zero(t, b.Progress())
		b.Open(gap(backfill.Startup))
		advance(5*time.Second + 100*time.Millisecond)
		got := b.Progress()
		assert.Equal(t, backfill.Progress{Done: 10, Left: 10, TimeLeft: 5 * time.Second}, got)
		advance(time.Minute)
		assert.Zero(t, b.Progress())
		stop()
	})
}

func TestBackfiller_ReadsWithOverlapAndWholeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		b, stop := h.run(t)
		from := time.Date(2026, 11, 24, 5, 0, 0, 500, time.UTC)
		to := time.Date(2026, 11, 24, 6, 0, 0, 1, time.UTC)
		b.Open(backfill.Gap{Reason: backfill.Startup, From: from, To: to})
		synctest.Wait()
		requests := h.graph.historyRequests()
		require.Len(t, requests, 1)
		assert.Equal(t, time.Date(2026, 11, 24, 4, 55, 0, 0, time.UTC), requests[0].from)
		assert.Equal(t, time.Date(2026, 11, 24, 6, 0, 2, 0, time.UTC), requests[0].to, "Graph excludes the end, so that the second of the end must be covered")
		stop()
	})
}

func TestBackfiller_SetsSourceAndUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		at := time.Now().Add(-150 * time.Minute)
		h.users(1, at)
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		synctest.Wait()
		r := h.intake.snapshot().last
		assert.Equal(t, interaction.FromHistory, r.Source)
		assert.Equal(t, interaction.Created, r.Change)
		assert.Equal(t, tenant, r.TenantID)
		assert.Equal(t, guid(0), r.UserID)
		assert.Equal(t, interaction.UserFromHistory, r.UserSource)
		assert.Equal(t, time.Now(), r.At)
		stop()
	})
}

func TestBackfiller_ReadsLastHourAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(3)
		b, stop := h.run(t)
		began := time.Now()
		b.Open(backfill.Gap{Reason: backfill.Subscription, From: began.Add(-5 * time.Hour), To: began})
		advance(time.Minute)
		require.Len(t, h.graph.historyRequests(), 3)
		assert.Empty(t, h.telemetry.copy().closed, "it is not closed before its second pass")
		assert.Empty(t, b.Missing(time.Now()), "but what was read is not missing")

		// Graph delivers an interaction late.
		h.graph.set(func() { h.graph.interactions[guid(1)] = []time.Time{began.Add(-10 * time.Minute)} })
		advance(58 * time.Minute)
		require.Len(t, h.graph.historyRequests(), 3)
		advance(2 * time.Minute)

		requests := h.graph.historyRequests()
		require.Len(t, requests, 6)
		assert.WithinDuration(t, began.Add(time.Hour), requests[3].at, 0)
		assert.WithinDuration(t, began.Add(-time.Hour-300*time.Second), requests[3].from, 0)
		assert.Equal(t, 1, h.intake.distinct())
		assert.Equal(t, map[backfill.Reason]int{backfill.Subscription: 1}, h.telemetry.copy().closed)
		advance(5 * time.Hour)
		assert.Len(t, h.graph.historyRequests(), 6, "there is no third pass")
		stop()
	})
}

func TestBackfiller_ReadsFuturePartWhenDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		b, stop := h.run(t)
		began := time.Now()
		b.Open(backfill.Gap{Reason: backfill.Startup, From: began.Add(-65 * time.Minute), To: began.Add(5 * time.Minute)})
		synctest.Wait()
		require.Len(t, h.graph.historyRequests(), 1)
		assert.WithinDuration(t, began.Add(time.Second), h.graph.historyRequests()[0].to, 0)
		advance(4 * time.Minute)
		require.Len(t, h.graph.historyRequests(), 1)
		assert.Empty(t, b.Missing(time.Now()), "the rest of the gap is in the future")
		advance(2 * time.Minute)
		requests := h.graph.historyRequests()
		require.Len(t, requests, 2)
		assert.WithinDuration(t, began.Add(5*time.Minute), requests[1].at, 0)
		assert.WithinDuration(t, began.Add(-300*time.Second), requests[1].from, 0)
		advance(3 * time.Hour)
		assert.Len(t, h.graph.historyRequests(), 3, "both are read again in one pass")
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestBackfiller_ReadsItemGapsHourly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		b, stop := h.run(t)
		for range 180 { // three hours in which every minute brings ten items that can't be used
			for range 10 {
				now := time.Now()
				b.Item(backfill.Undecryptable, interactionID(now), now)
			}
			advance(time.Minute)
		}
		assert.InDelta(t, 3, len(h.graph.historyRequests()), 1, "items and second passes are combined into one pass an hour")
		advance(3 * time.Hour)
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, b.Missing(time.Now()))
		stop()
	})
}

func TestPoll_ResumesAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.settings.PollInterval = 5 * time.Minute
		began := time.Now()
		b, stop := h.run(t)
		synctest.Wait()
		requests := h.graph.historyRequests()
		require.Len(t, requests, 1, "the first poll is at once")
		assert.WithinDuration(t, began.Add(-10*time.Minute), requests[0].from, 0, "one interval back, with overlap")
		advance(5*time.Minute + time.Second)
		requests = h.graph.historyRequests()
		require.Len(t, requests, 2)
		assert.WithinDuration(t, began.Add(-time.Second-300*time.Second), requests[1].from, 0)
		stop()
		require.NoError(t, b.Save(t.Context()))

		advance(2 * time.Hour) // The collector is down.
		_, stop = h.run(t)
		synctest.Wait()
		requests = h.graph.historyRequests()
		require.GreaterOrEqual(t, len(requests), 3)
		polled := began.Add(5*time.Minute - time.Second)
		assert.False(t, requests[2].from.After(polled), "polling resumes where it stopped")
		assert.WithinDuration(t, time.Now(), requests[2].to, time.Second)
		stop()
	})
}

func TestPoll_MergesFailedPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(2)
		h.settings.PollInterval = time.Minute
		h.graph.fail = func(request) error { return graphError(429, "", 30*time.Minute) }
		b, stop := h.run(t)
		advance(2 * time.Hour)
		h.graph.set(func() { h.graph.fail = nil; h.graph.requests = nil })
		advance(30 * time.Minute)
		first := h.graph.historyRequests()
		assert.Less(t, len(first), 2*40, "each minute one poll of two users, and what had piled up is one")
		advance(2 * time.Minute)
		assert.Less(t, b.Missing(time.Now())[backfill.Poll], 2*time.Minute)
		stop()
	})
}

func interactionID(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

func TestBackfiller_DerivesChangeFromETag(t *testing.T) {
	t.Parallel()
	for raw, wanted := range map[string]interaction.Change{
		`{"id":"1764599405123"}`:                        interaction.Created,
		`{"id":"1764599405123","etag":null}`:            interaction.Created,
		`{"id":"1764599405123","etag":"1764599405123"}`: interaction.Created,
		`{"id":"1764599405123","etag":"1764599409999"}`: interaction.Updated,
	} {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(1)
				h.graph.rewrite = func(page *graph.HistoryPage) { page.Items = []json.RawMessage{json.RawMessage(raw)} }
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				synctest.Wait()
				stop()
				assert.Equal(t, wanted, h.intake.snapshot().last.Change)
				assert.Equal(t, "1764599405123", h.intake.snapshot().last.ID)
			})
		})
	}
}

func TestBackfiller_SkipsUnreadableItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(5, time.Now().Add(-150*time.Minute))
		h.graph.rewrite = func(page *graph.HistoryPage) {
			page.Items = append([]json.RawMessage{json.RawMessage(`{"no":"id"}`), json.RawMessage(`[]`)}, page.Items...)
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(time.Minute)
		stop()
		assert.Equal(t, 5, h.intake.distinct())
		assert.Equal(t, 1, h.logged("can't be read and is skipped"))
		assert.EqualValues(t, 10, h.logs.FilterMessage("history read").All()[0].ContextMap()["unreadable"])
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
	})
}

func TestBackfiller_StopsAtOnce(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(h *harness){
		"while nothing is to do":         func(h *harness) {},
		"during a request":               func(h *harness) { h.graph.latency = time.Hour },
		"while Graph asks to stay away":  func(h *harness) { h.graph.fail = func(request) error { return graphError(429, "", time.Hour) } },
		"while the pipeline takes none":  func(h *harness) { h.intake.refuse = func() error { return errStore } },
		"while a user waits for a retry": func(h *harness) { h.graph.fail = func(request) error { return errStore } },
		"while the directory fails": func(h *harness) {
			h.settings.Users = nil
			h.graph.failList = func() error { return errStore }
		},
		"while the directory asks to stay away": func(h *harness) {
			h.settings.Users = nil
			h.graph.failList = func() error { return graphError(503, "", time.Hour) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(50, time.Now().Add(-150*time.Minute))
				prepare(h)
				b, stop := h.run(t)
				if name != "while nothing is to do" {
					b.Open(gap(backfill.Startup))
				}
				advance(1200 * time.Millisecond)
				stopped := time.Now()
				stop()
				assert.Equal(t, stopped, time.Now(), "at once")
				if name != "while nothing is to do" {
					assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup], "and the gap stays")
				}
			})
		})
	}
}

func TestBackfiller_StopsAtCyclicPageLinks(t *testing.T) {
	t.Parallel()
	for name, links := range map[string][]string{"to itself": {"7"}, "to the page before": {"7", "8"}, "to one long before": {"5", "6", "7", "8", "9"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(1)
				n := 0
				h.graph.rewrite = func(page *graph.HistoryPage) {
					page.Next = links[n%len(links)]
					n++
				}
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				advance(3 * time.Minute)
				assert.LessOrEqual(t, len(h.graph.historyRequests()), (len(links)+1)*5, "a few pages for each of five tries")
				assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup])
				stop()
			})
		})
	}
}

func TestDirectory_StopsAtCyclicPageLinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		n := 0
		h.graph.rewriteList = func(page *graph.UserPage) {
			n++
			page.Next = strconv.Itoa(n % 2)
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(3 * time.Minute)
		assert.LessOrEqual(t, len(h.graph.directoryRequests()), 3*5*2, "a few pages for each of five tries, and two minutes later once more")
		stop()
	})
}

func TestPoll_FindsLateInteractions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.settings.PollInterval = 5 * time.Minute
		_, stop := h.run(t)
		advance(3 * time.Hour)
		at := time.Now()
		advance(59 * time.Minute)
		h.graph.set(func() { h.graph.interactions[guid(0)] = []time.Time{at} })
		advance(time.Hour)
		assert.Equal(t, 1, h.intake.distinct())
		advance(20 * time.Hour)
		stop()
		assert.LessOrEqual(t, len(h.graph.historyRequests()), 24*12+24*3, "second passes are combined")
		telemetry := h.telemetry.copy()
		assert.InDelta(t, telemetry.opened[backfill.Poll], telemetry.closed[backfill.Poll], 20)
	})
}

func TestBackfiller_PersistsPassBeforeReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1)
		h.settings.PollInterval = time.Hour
		noted := false
		h.graph.fail = func(request) error {
			noted = assert.Contains(t, string(h.store.copy().values["history/gaps"]), `"pass"`)
			return nil
		}
		_, stop := h.run(t)
		advance(time.Second)
		stop()
		assert.True(t, noted)
	})
}

func TestPoll_ReadsOnlyEarlierTimeOfNewUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = 10 * time.Minute
		h.graph.failList = forbidden
		began := time.Now()
		b, stop := h.run(t)
		b.Seen(guid(1))
		advance(35 * time.Minute)
		b.Seen(guid(2)) // Polls read it from now on.
		advance(40 * time.Minute)
		stop()
		var missed []request
		for _, r := range h.graph.historyRequests() {
			if r.user == guid(2) && r.from.Before(began) {
				missed = append(missed, r)
			}
		}
		require.NotEmpty(t, missed)
		for _, r := range missed {
			if r.at.After(began.Add(59*time.Minute)) && r.from.Before(began.Add(-10*time.Minute)) {
				assert.WithinDuration(t, began.Add(35*time.Minute), r.to, 2*time.Second)
			}
		}
	})
}

func TestPoll_RetriesFailedUserBetweenBackToBackPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(60)
		h.settings.PollInterval = 2 * time.Minute
		h.graph.latency = 12 * time.Second // so that a pass takes three minutes
		unwell := true
		h.graph.fail = func(r request) error {
			if unwell && r.user == guid(7) {
				return graphError(http.StatusInternalServerError, "x", 0)
			}
			return nil
		}
		_, stop := h.run(t)
		advance(10 * time.Minute)
		h.graph.set(func() { unwell = false })
		advance(time.Hour)
		at := time.Now()
		h.graph.set(func() {
			for _, id := range guids(60) {
				h.graph.interactions[id] = []time.Time{at}
			}
		})
		advance(2 * time.Hour)
		stop()
		assert.Equal(t, 60, h.intake.distinct())
	})
}

func TestQueue_ToleratesScatteredForbiddenUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(1000, time.Now().Add(-150*time.Minute))
		bad := map[string]bool{}
		for i := 0; i < 1000; i += 10 {
			bad[guid(i)] = true
		}
		h.graph.fail = func(r request) error {
			if bad[r.user] {
				return forbidden()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(41 * time.Second)
		assert.Equal(t, 900, h.intake.distinct())
		assert.Empty(t, h.health())
		advance(10 * time.Minute)
		assert.Empty(t, h.health(), "nor are they when they alone are tried again")
		stop()
	})
}

func TestBackfiller_KeepsThenExpiresGapsWhenDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.Disabled, h.settings.PollInterval = true, time.Minute
		h.users(3, time.Now().Add(-150*time.Minute))
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(2 * time.Second)
		left := h.store.copy()
		stop()

		h.store, h.settings.Store = left, left
		b, stop = h.run(t)
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Startup: time.Hour}, b.Missing(time.Now()), "kill -9 does not forget it")
		advance(168 * time.Hour)
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
		assert.NotEmpty(t, h.telemetry.copy().lost)
		assert.Positive(t, h.logged("history is further back than"))
		assert.Empty(t, h.graph.historyRequests())
		assert.Empty(t, h.graph.directoryRequests())
		left = h.store.copy()
		stop()

		h.store, h.settings.Store = left, left
		b, stop = h.run(t)
		assert.Empty(t, b.Missing(time.Now()), "that is stored, too")
		stop()
	})
}

func TestFlush_PersistsGaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		b := backfill.New(h.settings)
		b.Item(backfill.Unverified, "", time.Now())
		require.NoError(t, b.Flush(t.Context()))
		writes := h.store.copy().writes
		require.NoError(t, b.Flush(t.Context()))
		assert.Equal(t, writes, h.store.copy().writes, "nothing is written twice")

		next := backfill.New(h.settings)
		require.NoError(t, next.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Unverified: time.Hour}, next.Missing(time.Now()))

		h.store.setBroken(true)
		b.Open(gap(backfill.Startup))
		require.ErrorIs(t, b.Flush(t.Context()), errStore)
		require.ErrorIs(t, b.Flush(t.Context()), errStore)
		assert.Equal(t, 1, h.logged("history state can't be stored"))
		h.store.setBroken(false)
		require.NoError(t, b.Flush(t.Context()))
		assert.NotEqual(t, writes, h.store.copy().writes)
	})
}
