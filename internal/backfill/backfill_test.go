// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"context"
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
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestBackfiller_ReadsGapForEveryUserAndClosesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(10, time.Now().Add(-150*time.Minute), time.Now().Add(-140*time.Minute))
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		assert.Equal(t, map[gap.Reason]time.Duration{gap.Startup: time.Hour}, h.missing())

		advance(time.Minute)

		assert.Len(t, h.graph.historyRequests(), 10, "one request for each user")
		assert.Equal(t, 20, h.pipeline.distinct())
		assert.Empty(t, h.missing())
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().opened)
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
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
		h.configure(10, time.Now().Add(-30*time.Minute))
		_, stop := h.run(t)
		h.open(between(gap.Startup, time.Now().Add(-time.Hour), time.Now()))
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
		h.configure(1)
		h.rules.PollInterval = 5 * time.Minute
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
		h.configure(20)
		b, stop := h.run(t)
		assert.Zero(t, b.Progress())
		h.open(hour(gap.Startup))
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
		h.configure(1)
		_, stop := h.run(t)
		from := time.Date(2026, 11, 24, 5, 0, 0, 500, time.UTC)
		to := time.Date(2026, 11, 24, 6, 0, 0, 1, time.UTC)
		h.open(between(gap.Startup, from, to))
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
		h.configure(1, at)
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		synctest.Wait()
		r := h.pipeline.snapshot().last
		assert.Equal(t, interaction.FromHistory, r.Source)
		assert.Equal(t, interaction.Created, r.Change)
		assert.Equal(t, tenant, r.TenantID)
		assert.Equal(t, guid(0), r.UserID)
		assert.Equal(t, interaction.UserFromHistory, r.UserSource)
		assert.Equal(t, time.Now(), r.At)
		stop()
	})
}

// The newest page comes first, so the prompts of its oldest responses may be on the next one.
func TestBackfiller_LearnsNextPageBeforeDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		start := time.Now().Add(-150 * time.Minute)
		h.configure(1, start, start.Add(time.Second), start.Add(2*time.Second))
		h.graph.pageSize = 1
		var calls []string
		note := func(what string, received []interaction.Received) {
			assert.Equal(t, interaction.UserFromHistory, received[0].UserSource)
			at, _ := received[0].CreatedAt()
			calls = append(calls, what+strconv.Itoa(int(at.Sub(start).Seconds())))
		}
		h.settings.Learn = func(received []interaction.Received) { note("learn ", received) }
		h.settings.Deliver = func(_ context.Context, received []interaction.Received, _ gap.Reason) (backfill.Delivered, error) {
			note("deliver ", received)
			return backfill.Delivered{New: len(received)}, nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Minute)
		stop()
		assert.Equal(t, []string{"learn 0", "learn 1", "deliver 0", "learn 2", "deliver 1", "deliver 2"}, calls)
	})
}

// The user is tried again, but one page may fail for good.
func TestBackfiller_DeliversPagesBeforeFailingOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		start := time.Now().Add(-150 * time.Minute)
		h.configure(1, start, start.Add(time.Second), start.Add(2*time.Second))
		h.graph.pageSize = 1
		h.graph.fail = func(r request) error {
			if r.next == "2" {
				return graphError(http.StatusInternalServerError, "", 0)
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Hour)
		stop()
		assert.Len(t, h.pipeline.times, 2)
	})
}

func TestBackfiller_ReadsLastHourAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(3)
		_, stop := h.run(t)
		began := time.Now()
		h.open(between(gap.Subscription, began.Add(-5*time.Hour), began))
		advance(time.Minute)
		require.Len(t, h.graph.historyRequests(), 3)
		assert.Empty(t, h.missing(), "what was read is not missing")

		// Graph delivers an interaction late.
		h.graph.set(func() { h.graph.interactions[guid(1)] = []time.Time{began.Add(-10 * time.Minute)} })
		advance(58 * time.Minute)
		require.Len(t, h.graph.historyRequests(), 3)
		advance(2 * time.Minute)

		requests := h.graph.historyRequests()
		require.Len(t, requests, 6)
		assert.WithinDuration(t, began.Add(time.Hour), requests[3].at, 0)
		assert.WithinDuration(t, began.Add(-time.Hour-300*time.Second), requests[3].from, 0)
		assert.Equal(t, 1, h.pipeline.distinct())
		assert.Equal(t, map[gap.Reason]int{gap.Subscription: 1}, h.telemetry.copy().closed)
		advance(5 * time.Hour)
		assert.Len(t, h.graph.historyRequests(), 6, "there is no third pass")
		stop()
	})
}

func TestBackfiller_ReadsFuturePartWhenDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		_, stop := h.run(t)
		began := time.Now()
		h.open(between(gap.Startup, began.Add(-65*time.Minute), began.Add(5*time.Minute)))
		synctest.Wait()
		require.Len(t, h.graph.historyRequests(), 1)
		assert.WithinDuration(t, began.Add(time.Second), h.graph.historyRequests()[0].to, 0)
		advance(4 * time.Minute)
		require.Len(t, h.graph.historyRequests(), 1)
		assert.Empty(t, h.missing(), "the rest of the gap is in the future")
		advance(2 * time.Minute)
		requests := h.graph.historyRequests()
		require.Len(t, requests, 2)
		assert.WithinDuration(t, began.Add(5*time.Minute), requests[1].at, 0)
		assert.WithinDuration(t, began.Add(-300*time.Second), requests[1].from, 0)
		advance(3 * time.Hour)
		assert.Len(t, h.graph.historyRequests(), 4, "both are read again")
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestBackfiller_ReadsItemGapsHourly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		_, stop := h.run(t)
		for range 180 { // three hours in which every minute brings ten items that can't be used
			for range 10 {
				h.gaps.Update(t.Context(), func(s *gap.State, now time.Time) {
					s.Item(h.rules, gap.Undecryptable, interactionID(now), now)
				})
			}
			advance(time.Minute)
		}
		assert.InDelta(t, 3, len(h.graph.historyRequests()), 1, "items and second passes are combined into one pass an hour")
		advance(3 * time.Hour)
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, h.missing())
		stop()
	})
}

func TestPoll_ResumesAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		h.rules.PollInterval = 5 * time.Minute
		began := time.Now()
		_, stop := h.run(t)
		synctest.Wait()
		requests := h.graph.historyRequests()
		require.Len(t, requests, 1, "the first poll is at once")
		assert.WithinDuration(t, began.Add(-10*time.Minute), requests[0].from, 0, "one interval back, with overlap")
		advance(5*time.Minute + time.Second)
		requests = h.graph.historyRequests()
		require.Len(t, requests, 2)
		assert.WithinDuration(t, began.Add(-time.Second-300*time.Second), requests[1].from, 0)
		stop()
		h.save(t)

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
		h.configure(2)
		h.rules.PollInterval = time.Minute
		h.graph.fail = func(request) error { return graphError(429, "", 30*time.Minute) }
		_, stop := h.run(t)
		advance(2 * time.Hour)
		h.graph.set(func() { h.graph.fail = nil; h.graph.requests = nil })
		advance(30 * time.Minute)
		first := h.graph.historyRequests()
		assert.Less(t, len(first), 2*40, "each minute one poll of two users, and what had piled up is one")
		advance(2 * time.Minute)
		assert.Less(t, h.missing()[gap.Poll], 2*time.Minute)
		stop()
	})
}

func interactionID(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

func TestBackfiller_SkipsUnreadableItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(5, time.Now().Add(-150*time.Minute))
		h.graph.rewrite = func(page *graph.HistoryPage) {
			page.Items = append([]json.RawMessage{json.RawMessage(`{"no":"id"}`), json.RawMessage(`[]`)}, page.Items...)
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Minute)
		stop()
		assert.Equal(t, 5, h.pipeline.distinct())
		assert.Equal(t, 1, h.logged("can't be read and is skipped"))
		assert.EqualValues(t, 10, h.logs.FilterMessage("history read").All()[0].ContextMap()["unreadable"])
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
	})
}

func TestBackfiller_StopsAtOnce(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(h *harness){
		"while nothing is to do":         func(h *harness) {},
		"during a request":               func(h *harness) { h.graph.latency = time.Hour },
		"while Graph asks to stay away":  func(h *harness) { h.graph.fail = func(request) error { return graphError(429, "", time.Hour) } },
		"while the pipeline takes none":  func(h *harness) { h.pipeline.refuse = func() error { return errStore } },
		"while a user waits for a retry": func(h *harness) { h.graph.fail = func(request) error { return errStore } },
		"while the directory fails": func(h *harness) {
			h.users = nil
			h.graph.failList = func() error { return errStore }
		},
		"while the directory asks to stay away": func(h *harness) {
			h.users = nil
			h.graph.failList = func() error { return graphError(503, "", time.Hour) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(50, time.Now().Add(-150*time.Minute))
				prepare(h)
				_, stop := h.run(t)
				if name != "while nothing is to do" {
					h.open(hour(gap.Startup))
				}
				advance(1200 * time.Millisecond)
				stopped := time.Now()
				stop()
				assert.Equal(t, stopped, time.Now(), "at once")
				if name != "while nothing is to do" {
					assert.Equal(t, time.Hour, h.missing()[gap.Startup], "and the gap stays")
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
				h.configure(1)
				n := 0
				h.graph.rewrite = func(page *graph.HistoryPage) {
					page.Next = links[n%len(links)]
					n++
				}
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(3 * time.Minute)
				assert.LessOrEqual(t, len(h.graph.historyRequests()), (len(links)+1)*5, "a few pages for each of five tries")
				assert.Equal(t, time.Hour, h.missing()[gap.Startup])
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
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(3 * time.Minute)
		assert.LessOrEqual(t, len(h.graph.directoryRequests()), 3*5*2, "a few pages for each of five tries, and two minutes later once more")
		stop()
	})
}

func TestPoll_FindsLateInteractions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		h.rules.PollInterval = 5 * time.Minute
		_, stop := h.run(t)
		advance(3 * time.Hour)
		at := time.Now()
		advance(59 * time.Minute)
		h.graph.set(func() { h.graph.interactions[guid(0)] = []time.Time{at} })
		advance(time.Hour)
		assert.Equal(t, 1, h.pipeline.distinct())
		advance(20 * time.Hour)
		stop()
		assert.LessOrEqual(t, len(h.graph.historyRequests()), 24*12+24*5, "second passes are combined")
		telemetry := h.telemetry.copy()
		assert.InDelta(t, telemetry.opened[gap.Poll], telemetry.closed[gap.Poll], 20)
	})
}

func TestBackfiller_PersistsPassBeforeReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		h.rules.PollInterval = time.Hour
		noted := false
		h.graph.fail = func(request) error {
			noted = assert.Contains(t, string(h.client.copy().values["gaps"]), `"pass"`)
			return nil
		}
		_, stop := h.run(t)
		advance(time.Second)
		stop()
		assert.True(t, noted)
	})
}

func TestPoll_RetriesFailedUserBetweenBackToBackPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(60)
		h.rules.PollInterval = 2 * time.Minute
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
		assert.Equal(t, 60, h.pipeline.distinct())
	})
}

func TestPass_ToleratesScatteredForbiddenUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1000, time.Now().Add(-150*time.Minute))
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
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(41 * time.Second)
		assert.Equal(t, 900, h.pipeline.distinct())
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
		h.rules.Disabled, h.rules.PollInterval = true, time.Minute
		h.configure(3, time.Now().Add(-150*time.Minute))
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(2 * time.Second)
		left := h.client.copy()
		stop()

		h.client = left
		_, stop = h.run(t)
		assert.Equal(t, map[gap.Reason]time.Duration{gap.Startup: time.Hour}, h.missing(), "kill -9 does not forget it")
		advance(168 * time.Hour)
		assert.Empty(t, h.missing())
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
		assert.NotEmpty(t, h.telemetry.copy().lost)
		assert.Positive(t, h.logged("history is further back than"))
		assert.Empty(t, h.graph.historyRequests())
		assert.Empty(t, h.graph.directoryRequests())
		left = h.client.copy()
		stop()

		h.client = left
		_, stop = h.run(t)
		assert.Empty(t, h.missing(), "that is stored, too")
		stop()
	})
}

func TestBackfiller_LeavesChangeToCache(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"no etag":          `{"id":"1764599405123"}`,
		"the etag is null": `{"id":"1764599405123","etag":null}`,
		"a newer etag":     `{"id":"1764599405123","etag":"1764599409999"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(1)
				h.graph.rewrite = func(page *graph.HistoryPage) { page.Items = []json.RawMessage{json.RawMessage(raw)} }
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				synctest.Wait()
				stop()
				assert.Equal(t, interaction.Created, h.pipeline.snapshot().last.Change)
				assert.Equal(t, "1764599405123", h.pipeline.snapshot().last.ID)
			})
		})
	}
}

func TestBackfiller_DeliversWithReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[gap.Reason]struct{ found, recovered int }{
		gap.Lookback: {3, 0},
		gap.Replay:   {0, 0},
		gap.Poll:     {3, 0},
		gap.Startup:  {3, 3},
	} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(3, time.Now().Add(-150*time.Minute))
				_, stop := h.run(t)
				h.open(hour(reason))
				advance(time.Second)
				stop()
				assert.Equal(t, 3, h.pipeline.distinct())
				for _, delivered := range h.pipeline.snapshot().reasons {
					assert.Equal(t, reason, delivered)
				}
				assert.Equal(t, want.found, h.telemetry.copy().found)
				assert.Equal(t, want.recovered, h.telemetry.copy().recovered[reason])
			})
		})
	}
}

func TestBackfiller_ReplaysOnlyOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1, time.Now().Add(-10*time.Minute))
		_, stop := h.run(t)
		h.open(between(gap.Replay, time.Now().Add(-time.Hour), time.Now()))
		advance(2 * time.Hour)
		stop()
		assert.Equal(t, []gap.Reason{gap.Replay}, h.pipeline.snapshot().reasons, "there is no second reading")
		assert.Zero(t, h.telemetry.copy().found)
	})
}

func TestBackfiller_ReplaysOnlyTheTimeAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		from, to := time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		h.configure(1, from.Add(-time.Millisecond), from, to.Add(-time.Millisecond), to)
		_, stop := h.run(t)
		h.open(between(gap.Replay, from, to))
		advance(time.Minute)
		stop()
		assert.Equal(t, 2, h.pipeline.distinct(), "neither what is before its beginning nor what is at its end")
	})
}

// Entries that are read in one pass bring neither the time between them nor that of each other's users.
func TestBackfiller_ReplaysOnlyTheEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		start := time.Now().Add(-10 * time.Hour)
		hours := func(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Hour))) }
		h.configure(2, hours(0.5), hours(1.2), hours(1.7), hours(4.2), hours(6.2), hours(8.2))
		_, stop := h.run(t)
		entries := []gap.Gap{
			between(gap.Replay, hours(0), hours(1)), between(gap.Replay, hours(1.5), hours(2)),
			between(gap.Replay, hours(4), hours(8)), between(gap.Replay, hours(4.5), hours(8.5)),
		}
		for n, id := range h.users {
			user, _ := gap.ParseUser(id)
			entries[2+n].Scope.Users = []gap.User{user}
		}
		h.open(entries...)
		advance(time.Minute)
		stop()
		assert.Equal(t, 2*2+2+2, h.pipeline.distinct())
	})
}

// The end of an entry that is in the future when its first part is read: what the history shows late comes with the next part.
func TestBackfiller_ReplayThatIsReadInPartsLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		began := time.Now()
		h.rules.Replays = []gap.Interval{{From: began.Add(-time.Hour), To: began.Add(30 * time.Minute)}}
		h.configure(1)
		_, stop := h.run(t)
		advance(time.Minute)
		h.graph.set(func() {
			h.graph.interactions[h.users[0]] = []time.Time{began.Add(-time.Minute), began.Add(time.Minute)}
		})
		advance(3 * time.Hour)
		stop()
		assert.Equal(t, 2, h.pipeline.distinct())
	})
}

// A replay that lasts is followed in the log, at the level that operators see.
func TestBackfiller_LogsProgressOfReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(2000) // 80 s at 25 a second
		_, stop := h.run(t)
		h.open(between(gap.Replay, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))
		advance(2 * time.Minute)
		stop()
		var lines []string
		for _, line := range h.logs.FilterLevelExact(zapcore.InfoLevel).All() {
			assert.Equal(t, []gap.Reason{gap.Replay}, line.ContextMap()["reasons"])
			lines = append(lines, line.Message)
		}
		assert.Equal(t, []string{"reading history", "history is being read", "history is being read", "history read"}, lines)
	})
}
