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

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestPass_PausesAfterTwentyForbiddenUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1000, time.Now().Add(-150*time.Minute))
		h.graph.fail = func(request) error { return forbidden() }
		h.graph.latency = time.Millisecond
		h.settings.Concurrency = 1
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(4 * time.Minute)
		assert.Len(t, h.graph.historyRequests(), 20)
		advance(2 * time.Minute)
		assert.Len(t, h.graph.historyRequests(), 40, "tried again after 5 minutes")
		advance(9 * time.Minute)
		assert.Len(t, h.graph.historyRequests(), 40)
		advance(2 * time.Minute)
		assert.Len(t, h.graph.historyRequests(), 60, "then after 10")
		require.Len(t, h.health(), 1)
		assert.Contains(t, h.health()[0].Error(), "AiEnterpriseInteraction.Read.All")
		assert.Equal(t, 1, h.logged("history can't be read"))
		h.graph.set(func() { h.graph.fail = nil })
		advance(30 * time.Minute)
		assert.Equal(t, 1000, h.pipeline.distinct())
		require.NoError(t, h.health()[1])
		stop()
	})
}

func TestPass_ContinuesPastForbiddenUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(100, time.Now().Add(-150*time.Minute))
		bad := map[string]bool{guid(3): true, guid(50): true, guid(99): true}
		h.graph.fail = func(r request) error {
			if bad[r.user] {
				return forbidden()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Minute)
		assert.Equal(t, 97, h.pipeline.distinct())
		assert.Len(t, h.graph.historyRequests(), 100)
		assert.Equal(t, time.Hour, h.missing()[gap.Startup])
		assert.Empty(t, h.health())

		advance(12 * time.Hour)
		assert.Less(t, len(h.graph.historyRequests()), 100+3*17, "they are tried again ever more seldom, down to once an hour")
		h.graph.set(func() { bad = nil })
		advance(time.Hour)
		assert.Equal(t, 100, h.pipeline.distinct())
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, h.missing())
		stop()
	})
}

func TestPass_ContinuesPastManyForbiddenUsersInARow(t *testing.T) {
	t.Parallel()
	for name, readable := range map[string]func(n int) bool{
		"after one who may":  func(n int) bool { return n < 3 || n > 40 },
		"after many who may": func(n int) bool { return n < 30 || n > 58 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(60, time.Now().Add(-150*time.Minute))
				bad, good := map[string]bool{}, 0
				order := slices.Sorted(slices.Values(h.users)) // in the order in which they are read
				for n, user := range order {
					if bad[user] = !readable(n); !bad[user] {
						good++
					}
				}
				h.graph.fail = func(r request) error {
					if bad[r.user] {
						return forbidden()
					}
					return nil
				}
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(31 * time.Minute)
				assert.Equal(t, good, h.pipeline.distinct())
				line := h.logs.FilterMessageSnippet("history of some users can't be read").All()
				require.Len(t, line, 1)
				assert.EqualValues(t, 60-good, line[0].ContextMap()["users"])
				assert.Contains(t, line[0].ContextMap()["hint"], "AiEnterpriseInteraction.Read.All")
				assert.Contains(t, line[0].ContextMap()["error"], "403")
				stop()
			})
		})
	}
}

func TestPass_EndsPassWithForbiddenTail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(300, time.Now().Add(-150*time.Minute))
		good := slices.Min(h.users)
		h.graph.fail = func(r request) error {
			if r.user != good {
				return forbidden()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Hour)
		h.graph.set(func() {
			h.graph.interactions[good] = append(h.graph.interactions[good], time.Now().Add(-125*time.Minute))
		})
		h.open(hour(gap.Subscription))
		advance(time.Hour)
		assert.Equal(t, 2, h.pipeline.distinct(), "the next gap is read as well")
		advance(10 * time.Hour)
		assert.Less(t, len(h.graph.historyRequests()), 300*20, "and they are retried once an hour")
		stop()
	})
}

func TestPoll_ContinuesPastFailingUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(10)
		h.rules.PollInterval = 5 * time.Minute
		failing := slices.Max(h.users) // nobody is read after this one
		h.graph.fail = func(r request) error {
			if r.user == failing {
				return graphError(500, "Failed to execute request.", 0)
			}
			return nil
		}
		_, stop := h.run(t)
		advance(24 * time.Hour)
		stop()
		others, bad := 0, 0
		for _, r := range h.graph.historyRequests() {
			if r.user == failing {
				bad++
			} else {
				others++
			}
		}
		assert.GreaterOrEqual(t, others, 9*280, "polls go on")
		assert.Empty(t, h.health(), "and the history can be read")
		assert.Less(t, bad, 3*2*(290+24*5), "three times in each poll and second pass, and when its failures are tried again")
	})
}

func TestPass_PausesWhenAllOfFewUsersAreForbidden(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(3)
		h.graph.fail = func(request) error { return forbidden() }
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(4 * time.Minute)
		assert.Len(t, h.graph.historyRequests(), 3)
		assert.Len(t, h.health(), 1)
		stop()
	})
}

func TestBackfiller_GivesUpFailedUsersWithTheirGap(t *testing.T) {
	t.Parallel()
	for _, reason := range []gap.Reason{gap.Startup, gap.Lookback} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(30)
				h.graph.fail = func(r request) error {
					if r.user == guid(3) {
						return forbidden()
					}
					return nil
				}
				_, stop := h.run(t)
				h.open(hour(reason))
				advance(164 * time.Hour)
				assert.Equal(t, time.Hour, h.missing()[reason])
				advance(30 * time.Hour)
				assert.Empty(t, h.missing())
				assert.Equal(t, map[gap.Reason]time.Duration{reason: time.Hour}, h.telemetry.copy().lost)
				assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
				assert.EqualValues(t, 1, h.logs.FilterMessageSnippet("history.max_gap").All()[0].ContextMap()["users"])
				stop()
			})
		})
	}
}

func TestPass_PausesWhenPermissionIsRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(5000, time.Now().Add(-150*time.Minute))
		allowed := 500
		h.graph.fail = func(request) error {
			if allowed--; allowed < 0 {
				return forbidden()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(24 * time.Hour)
		assert.Less(t, len(h.graph.historyRequests()), 500+30*300, "a try after each pause, which grows to an hour")
		assert.InDelta(t, 24, h.logged("history can't be read"), 2, "reported once an hour while it lasts")
		h.graph.set(func() { h.graph.fail = nil })
		advance(2 * time.Hour)
		assert.Equal(t, 5000, h.pipeline.distinct())
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		stop()
	})
}

func TestPass_EndsForbiddenTailAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(40, time.Now().Add(-150*time.Minute))
		good := slices.Sorted(slices.Values(h.users))[:10]
		h.graph.fail = func(r request) error {
			if !slices.Contains(good, r.user) {
				return forbidden()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(time.Second)
		stop()
		h.save(t)
		require.Equal(t, 10, h.pipeline.distinct())

		_, stop = h.run(t)
		h.open(hour(gap.Subscription))
		advance(2 * time.Hour)
		assert.Positive(t, h.logged("the history of some users"), "the others are left for later")
		assert.Less(t, len(h.graph.historyRequests()), 400)
		h.graph.set(func() { h.graph.fail = nil })
		advance(2 * time.Hour)
		assert.Equal(t, 40, h.pipeline.distinct())
		assert.Empty(t, h.missing())
		stop()
	})
}

func TestRest_ReadsAtMostMaxGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.rules.MaxGap = 48 * time.Hour
		h.configure(1)
		h.graph.fail = func(request) error { return noLicense() }
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(73 * time.Hour)
		stop()
		assert.Empty(t, h.telemetry.copy().lost)
		requests := h.graph.historyRequests()
		require.Len(t, requests, 2)
		assert.Equal(t, 47*time.Hour-10*time.Minute, requests[1].to.Sub(requests[1].from).Round(time.Minute))
	})
}

// While a permission is missing few requests are made, and afterwards nothing is missing.
func TestBackfiller_ConsentMissingForThreeDays(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{
		"Graph refuses each user":    forbidden(),
		"Entra ID refuses the token": &graph.TokenError{Status: 400, Code: "AADSTS65001"},
		"Graph refuses the token":    graphError(http.StatusUnauthorized, "", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.rules.PollInterval = 5 * time.Minute
				h.configure(30)
				h.graph.fail = func(request) error { return refusal }
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				for n := range 72 {
					h.graph.set(func() {
						for _, user := range guids(30) {
							h.graph.interactions[user] = append(h.graph.interactions[user], time.Now())
						}
					})
					advance(time.Hour)
					if n == 36 { // a restart changes nothing
						stop()
						h.save(t)
						_, stop = h.run(t)
					}
				}
				assert.Zero(t, h.pipeline.distinct())
				assert.Less(t, len(h.graph.historyRequests()), 2500, "no loop of readings")
				assert.InDelta(t, 72, h.logged("history can't be read"), 5, "said hourly")
				assert.Len(t, slices.DeleteFunc(h.health(), func(err error) bool { return err == nil }), 2, "in each run once")
				for _, id := range h.users {
					assert.NotContains(t, h.health()[0].Error(), id)
				}

				h.graph.set(func() { h.graph.fail = nil })
				advance(3 * time.Hour)
				assert.Equal(t, 72*30, h.pipeline.distinct())
				assert.Less(t, h.missing()[gap.Poll], 10*time.Minute)
				assert.Empty(t, h.missing()[gap.Startup])
				assert.Empty(t, h.telemetry.copy().lost)
				stop()
			})
		})
	}
}
