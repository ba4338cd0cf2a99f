// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// yesterday returns the gap of a comparison.
func yesterday() gap.Gap {
	return between(gap.Reconcile, time.Now().Add(-30*time.Hour), time.Now().Add(-6*time.Hour))
}

// notify notes that notifications have brought interactions of a user.
func (h *harness) notify(user string, at ...time.Time) {
	for _, one := range at {
		h.pipeline.notified[user+" "+interactionID(one)] = true
	}
}

func (h *harness) reconciled(t *testing.T) []observer.LoggedEntry {
	t.Helper()
	return h.logs.FilterMessage("history reconciled").All()
}

func TestReconcile_RecoversWhatOnlyTheHistoryHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		inside, outside := day.From.Add(10*time.Minute), day.From.Add(-2*time.Minute)
		h.configure(10, inside, outside)
		for _, user := range guids(9) {
			h.notify(user, inside)
		}
		h.cache.notified = func(from, to time.Time, users []gap.User) int {
			assert.Equal(t, []time.Time{day.From, day.To}, []time.Time{from, to})
			assert.Len(t, users, 10)
			return 9
		}
		_, stop := h.run(t)
		h.open(day)
		advance(time.Minute)
		stop()
		assert.Equal(t, 10, h.pipeline.distinct(), "what is outside is ignored")
		assert.Equal(t, map[gap.Reason]int{gap.Reconcile: 1}, h.telemetry.copy().recovered)
		require.Len(t, h.reconciled(t), 1)
		line := h.reconciled(t)[0]
		assert.Equal(t, zapcore.InfoLevel, line.Level)
		assert.Equal(t, map[string]any{
			"from": day.From, "to": day.To, "users": int64(10), "all_users_known": true, "interactions": int64(10), "recovered": int64(1),
			"users_failed": int64(0), "notified": int64(9), "result": "complete",
		}, line.ContextMap())
		assert.Equal(t, gap.Result{Outcome: gap.Complete, To: day.To}, h.state().Result)
		assert.Equal(t, 1, h.logs.FilterLevelExact(zapcore.InfoLevel).Len(), "one line")
	})
}

// An interaction that was edited after its delivery is delivered as updated, and proves that its creation was not missing.
func TestReconcile_ChangedETagIsNotRecovered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		h.configure(1, day.From.Add(time.Hour))
		h.pipeline.answer = &backfill.Delivered{New: 1}
		_, stop := h.run(t)
		h.open(day)
		advance(time.Minute)
		stop()
		assert.Equal(t, 1, h.pipeline.distinct())
		assert.Empty(t, h.telemetry.copy().recovered)
		assert.EqualValues(t, 0, h.reconciled(t)[0].ContextMap()["recovered"])
		assert.EqualValues(t, 1, h.logs.FilterMessage("history read").All()[0].ContextMap()["interactions_new"])
	})
}

// What the cache does not know any more is neither delivered again nor proved.
func TestReconcile_MaxEntriesTooSmallForDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		evicted := day.From.Add(20 * time.Hour)
		var at []time.Time
		for n := range 24 {
			at = append(at, day.From.Add(time.Duration(n)*time.Hour+time.Minute))
		}
		h.configure(10, at...)
		for _, user := range guids(10) {
			h.notify(user, at...)
		}
		h.cache.completeFrom = evicted
		h.cache.entries = 2_000_000
		h.cache.notified = func(from, _ time.Time, _ []gap.User) int {
			assert.Equal(t, evicted, from)
			return 40
		}
		_, stop := h.run(t)
		h.open(day)
		advance(time.Minute)
		stop()
		for _, r := range h.graph.historyRequests() {
			assert.WithinDuration(t, evicted.Add(-300*time.Second), r.from, time.Second)
		}
		assert.Equal(t, 40, h.pipeline.distinct(), "only what can be compared")
		assert.Empty(t, h.telemetry.copy().recovered)
		line := h.reconciled(t)[0]
		assert.Equal(t, zapcore.WarnLevel, line.Level)
		for key, want := range map[string]any{
			"result": "incomplete", "max_entries": int64(2_000_000), "incomplete_to": evicted, "interactions": int64(40),
		} {
			assert.Equal(t, want, line.ContextMap()[key], key)
		}
		assert.Contains(t, line.ContextMap()["hint"], "raise dedupe.max_entries to 2000000")
		assert.Equal(t, gap.Incomplete, h.state().Result.Outcome)
		assert.Empty(t, h.state().Gaps)
	})
}

// A number that the configuration refuses is not named.
func TestReconcile_DayNeedsMoreEntriesThanAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		h.cache.completeFrom = day.To.Add(time.Hour)
		h.cache.entries, h.cache.tooMany = 20_000_000, true
		_, stop := h.run(t)
		h.open(day)
		advance(time.Minute)
		stop()
		line := h.reconciled(t)[0].ContextMap()
		assert.Equal(t, "incomplete", line["result"])
		assert.Equal(t, "COP511", line["code"])
		assert.Contains(t, line["hint"], "shorten history.reconcile.interval")
		assert.NotContains(t, line["hint"], "20000000")
		assert.NotContains(t, line, "max_entries")
	})
}

func TestReconcile_IgnoresWhatIsEvictedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.latency = time.Second
		h.settings.Concurrency = 1
		day := yesterday()
		h.configure(10, day.From.Add(time.Hour), day.From.Add(20*time.Hour))
		_, stop := h.run(t)
		h.open(day)
		advance(5*time.Second + 500*time.Millisecond)
		h.cache.setCompleteFrom(day.From.Add(2 * time.Hour))
		advance(time.Minute)
		stop()
		assert.Equal(t, 5*2+5, h.pipeline.distinct())
		assert.Equal(t, "incomplete", h.reconciled(t)[0].ContextMap()["result"])
	})
}

func TestReconcile_RequestsNothingThatCanNotBeCompared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		h.graph.licensed = guids(5)
		h.cache.completeFrom = day.To.Add(time.Hour)
		_, stop := h.run(t)
		h.open(day)
		advance(time.Minute)
		stop()
		assert.Empty(t, h.graph.historyRequests())
		assert.Empty(t, h.graph.directoryRequests())
		line := h.reconciled(t)[0].ContextMap()
		assert.Equal(t, "incomplete", line["result"])
		assert.NotContains(t, line, "max_entries")
		assert.Contains(t, line["hint"], "storage extension")
		assert.Equal(t, gap.Incomplete, h.state().Result.Outcome)
	})
}

// A comparison that had to wait for longer than history.max_gap reads what is left of it, and says so.
func TestReconcile_OlderThanMaxGapIsIncomplete(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		maxGap time.Duration
		read   int
	}{
		"a part of it":   {24 * time.Hour, 1},
		"the whole time": {5 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.rules.MaxGap = test.maxGap
				day := yesterday()
				horizon := time.Now().Add(-test.maxGap)
				h.configure(1, day.From.Add(time.Hour), horizon.Add(time.Hour))
				_, stop := h.run(t)
				h.open(day)
				advance(time.Minute)
				stop()
				assert.Equal(t, test.read, h.pipeline.distinct())
				require.Len(t, h.reconciled(t), 1)
				line := h.reconciled(t)[0].ContextMap()
				require.Equal(t, "incomplete", line["result"])
				assert.Equal(t, string(failure.HistoryTooOld), line["code"])
				assert.Equal(t, day.From, line["incomplete_from"])
				assert.WithinDuration(t, gap.Earlier(horizon, day.To), line["incomplete_to"].(time.Time), time.Second)
				assert.Equal(t, gap.Result{Outcome: gap.Incomplete, To: day.To}, h.state().Result)
				assert.Empty(t, h.telemetry.copy().lost)
			})
		})
	}
}

// A history that answers with nothing proves nothing, so the same time is compared once more a day later.
func TestReconcile_HistoryThatAnswersWithNothing(t *testing.T) {
	t.Parallel()
	for name, recovers := range map[string]bool{"it answers on the next day": true, "it never answers": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.rules.ReconcileInterval, h.rules.ReconcileDelay = 24*time.Hour, 330*time.Minute
				began := time.Now()
				at := began.Add(time.Hour)
				h.configure(10, at)
				silent := true
				h.graph.rewrite = func(page *graph.HistoryPage) {
					if silent {
						page.Items = nil
					}
				}
				h.cache.notified = func(from, to time.Time, users []gap.User) int {
					if at.Before(from) || !at.Before(to) {
						return 0
					}
					return len(users)
				}
				_, stop := h.run(t)
				h.gaps.Update(t.Context(), func(s *gap.State, now time.Time) { s.FirstConfirmed = now })
				advance(30 * time.Hour)
				require.Len(t, h.reconciled(t), 1)
				first := h.reconciled(t)[0]
				assert.Equal(t, zapcore.WarnLevel, first.Level)
				assert.Equal(t, "inconclusive", first.ContextMap()["result"])
				assert.EqualValues(t, 10, first.ContextMap()["notified"])
				assert.Equal(t, gap.Inconclusive, h.state().Result.Outcome)

				h.graph.set(func() { silent = !recovers })
				advance(24 * time.Hour)
				require.Len(t, h.reconciled(t), 2)
				second := h.reconciled(t)[1].ContextMap()
				assert.WithinDuration(t, began, second["from"].(time.Time), time.Second)
				assert.Equal(t, map[bool]string{true: "complete", false: "inconclusive"}[recovers], second["result"])
				advance(24 * time.Hour)
				require.Len(t, h.reconciled(t), 3)
				from := map[bool]time.Time{true: began.Add(48 * time.Hour), false: began.Add(24 * time.Hour)}[recovers]
				assert.WithinDuration(t, from, h.reconciled(t)[2].ContextMap()["from"].(time.Time), time.Minute, "each day at most twice")
				stop()
			})
		})
	}
}

func TestReconcile_DayWithFailedUsersIsIncomplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		h.configure(30, day.From.Add(time.Hour))
		h.cache.notified = func(_, _ time.Time, users []gap.User) int { return len(users) }
		h.graph.fail = func(r request) error {
			switch r.user {
			case guid(3):
				return graphError(http.StatusInternalServerError, "", 0)
			case guid(4):
				return noLicense()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(day)
		advance(2 * time.Minute)
		line := h.reconciled(t)[0].ContextMap()
		assert.Equal(t, "incomplete", line["result"])
		assert.EqualValues(t, 1, line["users_failed"])
		assert.EqualValues(t, 28, line["users"], "one has no history, one could not be read, and neither is expected to have any")
		assert.Equal(t, gap.Incomplete, h.state().Result.Outcome)
		h.graph.set(func() { h.graph.fail = nil })
		advance(10 * time.Minute)
		stop()
		assert.Equal(t, 29, h.pipeline.distinct())
		require.Len(t, h.reconciled(t), 2)
		assert.Equal(t, "complete", h.reconciled(t)[1].ContextMap()["result"], "they are compared later")
		assert.EqualValues(t, 1, h.reconciled(t)[1].ContextMap()["users"])
		assert.Equal(t, gap.Result{Outcome: gap.Incomplete, To: day.To}, h.state().Result)
	})
}

func TestReconcile_IsCompleteForUsersSeenWithoutDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.failList = forbidden
		_, stop := h.run(t)
		h.directory.Seen(guids(3)...)
		h.open(yesterday())
		advance(time.Minute)
		stop()
		line := h.reconciled(t)[0].ContextMap()
		assert.Equal(t, "complete", line["result"])
		assert.EqualValues(t, 3, line["users"])
		assert.Equal(t, false, line["all_users_known"])
		assert.Empty(t, h.state().Gaps)
	})
}

func TestReconcile_100000UsersRestartedInTheMiddle(t *testing.T) {
	const users = 100_000
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		h.graph.licensed = guids(users)
		slices.Sort(h.graph.licensed)
		for n := 0; n < users; n += 100 {
			h.graph.interactions[guid(n)] = []time.Time{day.From.Add(time.Hour)}
		}
		_, stop := h.run(t)
		h.open(day)
		advance(35 * time.Minute)
		h.client = h.client.copy() // kill -9
		stop()
		before := len(h.graph.historyRequests())
		require.InDelta(t, users/2, before, users/20)

		_, stop = h.run(t)
		advance(40 * time.Minute)
		stop()
		requests := len(h.graph.historyRequests())
		assert.GreaterOrEqual(t, requests, users)
		assert.LessOrEqual(t, requests, users+3*25, "it goes on where it stopped")
		assert.Equal(t, users/100, h.pipeline.distinct())
		require.Len(t, h.reconciled(t), 1)
		line := h.reconciled(t)[0].ContextMap()
		assert.EqualValues(t, users, line["users"], "each once")
		assert.EqualValues(t, users/100, line["interactions"])
		assert.InDelta(t, users/100, line["recovered"], 3, "what was delivered in the second before the kill is not new")
		assert.Equal(t, "complete", line["result"])
		assert.Nil(t, h.state().Pass)
	})
}

func TestReconcile_CountsWhatFailedAttemptsRecovered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		day := yesterday()
		var at []time.Time
		for n := range 30 {
			at = append(at, day.From.Add(time.Duration(n)*time.Minute))
		}
		h.configure(1, at...)
		h.graph.pageSize = 10
		failed := false
		h.graph.fail = func(r request) error {
			if r.next == "20" && !failed {
				failed = true
				return graphError(500, "", 0)
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(day)
		advance(time.Minute)
		stop()
		line := h.reconciled(t)[0].ContextMap()
		assert.EqualValues(t, 30, line["interactions"])
		assert.EqualValues(t, 30, line["recovered"])
		assert.Equal(t, map[gap.Reason]int{gap.Reconcile: 30}, h.telemetry.copy().recovered)
	})
}
