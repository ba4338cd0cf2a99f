// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// readUsers counts the requests for each user.
func (g *fakeGraph) readUsers() map[string]int {
	counts := map[string]int{}
	for _, r := range g.historyRequests() {
		counts[r.user]++
	}
	return counts
}

func TestUsers_CombinesDirectoryAndSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.licensed = guids(2500)
		_, stop := h.run(t)
		h.directory.Seen(guid(9000), strings.ToUpper(guid(1)), "no id")
		h.open(hour(gap.Startup))
		advance(3 * time.Minute)
		stop()
		counts := h.graph.readUsers()
		assert.Len(t, counts, 2501)
		assert.Equal(t, 1, counts[guid(1)], "a user of both is read once")
		assert.Equal(t, 1, counts[guid(9000)])
		assert.Len(t, h.graph.directoryRequests(), 3)
	})
}

func TestUsers_ReadsConfiguredUsersOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users = []string{guid(1), guid(2)}
		_, stop := h.run(t)
		h.directory.Seen(guid(5))
		h.open(hour(gap.Startup))
		advance(time.Minute)
		stop()
		assert.Equal(t, map[string]int{guid(1): 1, guid(2): 1}, h.graph.readUsers())
		assert.Empty(t, h.graph.directoryRequests(), "the directory is not requested")
	})
}

func TestUsers_SkipsUnlicensedUserFor72Hours(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no valid license": noLicense(),
		"not found":        graphError(http.StatusNotFound, "", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.configure(4)
				h.graph.fail = func(r request) error {
					if r.user == guid(2) {
						return err
					}
					return nil
				}
				_, stop := h.run(t)
				began := time.Now()
				h.open(hour(gap.Startup))
				advance(time.Minute)
				assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed, "that user counts as read")
				assert.EqualValues(t, 1, h.logs.FilterMessage("history read").All()[0].ContextMap()["users_without_history"])
				stop()
				h.save(t)

				_, stop = h.run(t) // It is still known after a restart.
				for time.Since(began) < 71*time.Hour {
					h.open(hour(gap.Startup))
					advance(4 * time.Hour)
				}
				assert.Equal(t, 1, h.graph.readUsers()[guid(2)])
				assert.Greater(t, h.graph.readUsers()[guid(1)], 15)
				advance(2 * time.Hour)
				h.open(hour(gap.Startup))
				advance(time.Minute)
				assert.Equal(t, 2, h.graph.readUsers()[guid(2)])
				stop()
			})
		})
	}
}

func TestUsers_ReadsSeenUsersWithoutDirectoryPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		at := time.Now().Add(-150 * time.Minute)
		for i := range 5 {
			h.graph.interactions[guid(i)] = []time.Time{at}
		}
		h.graph.failList = forbidden
		_, stop := h.run(t)
		h.directory.Seen(guid(0), guid(1))
		advance(time.Minute)
		h.open(hour(gap.Startup))
		advance(time.Minute)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1}, h.graph.readUsers())
		assert.Equal(t, map[gap.Reason]time.Duration{gap.UsersUnknown: time.Hour}, h.missing())
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1, gap.UsersUnknown: 1}, h.telemetry.copy().opened)
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
		assert.Equal(t, 1, h.logged("directory can't be read"))
		assert.Contains(t, h.logs.FilterMessageSnippet("directory can't be read").All()[0].ContextMap()["hint"], "User.Read.All")
		assert.Empty(t, h.health(), "a missing directory permission is a choice")

		h.directory.Seen(guid(2)) // A prompt of a user who was not known then.
		advance(5 * time.Hour)
		late := h.graph.readUsers()[guid(2)]
		assert.Positive(t, late)
		assert.LessOrEqual(t, late, 3, "also by a pass that begins at the very time at which the user is seen")
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1, guid(2): late}, h.graph.readUsers())
		assert.InDelta(t, 5*4, len(h.graph.directoryRequests()), 1, "the directory is retried each quarter of an hour")
		assert.Equal(t, time.Hour, h.missing()[gap.UsersUnknown])

		h.graph.set(func() { h.graph.failList = nil; h.graph.licensed = guids(5) })
		advance(time.Hour)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1, guid(2): late, guid(3): 1, guid(4): 1}, h.graph.readUsers(),
			"once the directory can be read, those not yet read are")
		assert.Empty(t, h.missing())
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Equal(t, 1, h.logged("directory can be read again"))
		stop()
	})
}

func TestUsers_ExpiresGapOfUnknownUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.rules.MaxGap = 48 * time.Hour
		h.graph.failList = forbidden
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(40 * time.Hour)
		assert.Equal(t, time.Hour, h.missing()[gap.UsersUnknown])
		advance(8 * time.Hour)
		assert.Empty(t, h.missing())
		assert.Empty(t, h.telemetry.copy().lost, "it was read for the users seen")
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Zero(t, h.logged("history.max_gap"))
		stop()
	})
}

func TestPoll_ReadsNewestOnlyWithoutDirectoryPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.rules.PollInterval = 10 * time.Minute
		h.rules.MaxGap = 24 * time.Hour
		h.graph.failList = forbidden
		_, stop := h.run(t)
		h.directory.Seen(guid(1))
		advance(72 * time.Hour)
		stop()
		for _, r := range h.graph.historyRequests() {
			assert.Less(t, r.to.Sub(r.from), 3*time.Hour, "what waits for the directory is not read again with each poll")
		}
		assert.GreaterOrEqual(t, len(h.graph.historyRequests()), 72*6)
		assert.Zero(t, h.logged("history.max_gap"), "it was read for the users seen")
		assert.InDelta(t, 26, h.missing()[gap.UsersUnknown].Hours(), 3)
		assert.Empty(t, h.telemetry.copy().lost)
	})
}

func TestDirectory_RetriesAfterFailure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		tries  int
		within time.Duration
	}{
		"throttled: after the time it was given": {graphError(429, "", 40*time.Second), 2, 41 * time.Second},
		"no token yet: soon":                     {graphError(401, "", 0), 2, 2 * time.Second},
		"broken: soon":                           {graphError(500, "", 0), 2, 2 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.graph.licensed = guids(3)
				n := 0
				h.graph.failList = func() error {
					if n++; n == 1 {
						return test.err
					}
					return nil
				}
				_, stop := h.run(t)
				h.open(hour(gap.Startup))
				advance(test.within + time.Second)
				stop()
				assert.Len(t, h.graph.directoryRequests(), test.tries)
				assert.Len(t, h.graph.historyRequests(), 3)
				assert.Empty(t, h.missing())
			})
		})
	}
}

func TestDirectory_FailureDoesNotBlockSeenUsers(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]func(h *harness){
		"with errors": func(h *harness) { h.graph.failList = func() error { return graph.ErrUnreadable } },
		"for a cloud that has none": func(h *harness) {
			h.graph.failList = func() error { return graphError(404, "Requested API is not supported.", 0) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				list(h)
				_, stop := h.run(t)
				h.directory.Seen(guid(1))
				advance(time.Second)
				h.open(hour(gap.Startup))
				advance(30 * time.Minute)
				assert.Len(t, h.graph.historyRequests(), 1)
				assert.Less(t, len(h.graph.directoryRequests()), 80)
				assert.Equal(t, time.Hour, h.missing()[gap.UsersUnknown])
				stop()
			})
		})
	}
}

func TestUsers_LosesNothingWhenLicenseIsAssigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.rules.PollInterval = 5 * time.Minute
		h.configure(2)
		failed := guid(1)
		h.graph.fail = func(r request) error {
			if r.user == failed && len(h.graph.interactions[failed]) == 0 {
				return noLicense()
			}
			return nil
		}
		_, stop := h.run(t)
		advance(time.Hour)
		for range 120 { // five days of prompts, one each hour
			h.graph.set(func() { h.graph.interactions[failed] = append(h.graph.interactions[failed], time.Now()) })
			advance(time.Hour)
		}
		assert.Equal(t, 120, h.pipeline.distinct())
		assert.Empty(t, h.telemetry.copy().lost)
		stop()
	})
}

func TestBackfiller_ExpiresInterruptedPassWhenDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.latency = time.Hour
		h.configure(3)
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		h.open(between(gap.Lookback, time.Now().Add(-720*time.Hour), time.Now().Add(-700*time.Hour)))
		advance(time.Minute)
		stop()
		h.save(t)

		h.rules.Disabled = true
		_, stop = h.run(t)
		assert.Equal(t, time.Hour, h.missing()[gap.Startup])
		advance(168 * time.Hour)
		assert.Empty(t, h.missing())
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1, gap.Lookback: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestRest_EndsWithPromptAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(2)
		licensed := false
		h.graph.fail = func(r request) error {
			if r.user == guid(0) && !licensed {
				return noLicense()
			}
			return nil
		}
		_, stop := h.run(t)
		first := hour(gap.Startup)
		h.open(first)
		advance(20 * time.Hour)
		h.graph.set(func() {
			licensed, h.graph.interactions[guid(0)] = true, []time.Time{time.Now().Add(-150 * time.Minute)}
		})
		h.open(hour(gap.Subscription)) // an outage in the middle of the rest
		advance(3 * time.Hour)
		h.directory.Seen(guid(0))
		advance(time.Minute)
		assert.Zero(t, h.pipeline.distinct(), "within a day the user is not requested")
		advance(time.Hour)
		requests := len(h.graph.historyRequests())
		h.directory.Seen(guid(0), guid(0))
		h.directory.Seen(guid(1), guid(0))
		advance(time.Minute)
		assert.Equal(t, 1, h.pipeline.distinct())
		require.Len(t, h.graph.historyRequests(), requests+1, "and no other user is requested")
		last := h.graph.historyRequests()[requests]
		assert.Equal(t, guid(0), last.user)
		assert.WithinDuration(t, first.From.Add(-300*time.Second), last.from, time.Second, "from the start of the interval that was answered so")
		advance(2 * time.Hour)
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, h.missing())
		stop()
	})
}

func TestRest_SecondAnswerClosesInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.rules.MaxGap = 1000 * time.Hour
		h.configure(1)
		h.graph.fail = func(request) error { return noLicense() }
		_, stop := h.run(t)
		began := time.Now()
		h.open(hour(gap.Startup))
		advance(200 * time.Hour)
		stop()
		requests := h.graph.historyRequests()
		require.Len(t, requests, 3, "each 72 h once")
		assert.WithinDuration(t, began.Add(72*time.Hour), requests[1].at, 30*time.Minute)
		assert.WithinDuration(t, began.Add(-3*time.Hour), requests[1].from, 10*time.Minute)
		assert.WithinDuration(t, requests[1].at, requests[2].from, 70*time.Minute, "what was answered twice is not read again, but for the last hour")
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
	})
}

func TestRest_SurvivesRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		h.graph.fail = func(request) error { return noLicense() }
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(11 * time.Second) // users are stored every 10 s
		h.client = h.client.copy()
		stop()
		h.graph.set(func() { h.graph.fail = nil; h.graph.interactions[guid(0)] = []time.Time{time.Now()} })
		_, stop = h.run(t)
		h.open(hour(gap.Startup))
		advance(70 * time.Hour)
		assert.Len(t, h.graph.historyRequests(), 1)
		advance(3 * time.Hour)
		assert.Len(t, h.graph.historyRequests(), 2)
		assert.Equal(t, 1, h.pipeline.distinct())
		stop()
	})
}

func TestRest_CoversEarlierGapsOfItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1)
		h.graph.fail = func(request) error { return noLicense() }
		_, stop := h.run(t)
		began := time.Now()
		h.open(hour(gap.Startup))
		advance(time.Minute)
		h.open(between(gap.Undelivered, began.Add(-20*time.Hour), began.Add(-19*time.Hour)))
		advance(73 * time.Hour)
		stop()
		requests := h.graph.historyRequests()
		require.Len(t, requests, 2)
		assert.WithinDuration(t, began.Add(-20*time.Hour), requests[1].from, 10*time.Minute)
	})
}

// A user without history counts as read, so the rest must survive whatever kill finds the user counted.
func TestRest_IsStoredBeforeProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(1000)
		h.graph.fail = func(request) error { return noLicense() }
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		var snapshots []*fakeClient
		for range 450 {
			advance(100 * time.Millisecond)
			snapshots = append(snapshots, h.client.copy())
		}
		stop()
		for _, left := range snapshots {
			state, done := storedState(t, left), 1000
			switch {
			case state.Pass != nil && state.Pass.Cursor == nil, len(state.Gaps) > 0, state.Pass == nil && !state.Started:
				done = 0
			case state.Pass != nil:
				done = len(slices.DeleteFunc(slices.Clone(h.users), func(id string) bool { return id > state.Pass.Cursor.String() }))
			case len(state.NotBefore) == 0:
				done = 0
			}
			payload, err := statestore.New(left).Read(t.Context(), "users", 1)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(payload)/40, done)
		}
	})
}

// Many users without history make no large gap, and none is reported as missing.
func TestRest_EndsForAtMost1000UsersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(2500)
		h.graph.fail = func(request) error { return noLicense() }
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(72*time.Hour - time.Minute)
		require.Len(t, h.graph.historyRequests(), 2500)
		for n := range 400 {
			advance(6 * time.Second)
			h.directory.Seen(guid(10_000 + n)) // so that it is often looked what is due
			assert.Empty(t, h.missing())
			for _, g := range h.state().Gaps {
				assert.LessOrEqual(t, len(g.Scope.Users), 1000)
			}
			assert.LessOrEqual(t, len(h.state().Gaps), 1)
		}
		stop()
		counts := h.graph.readUsers()
		for _, id := range guids(2500) {
			assert.Equal(t, 2, counts[id])
		}
	})
}

// One unlicensed user neither holds up the others nor the gap.
func TestRest_OneUnlicensedUserOf10000(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.configure(10_000, time.Now().Add(-150*time.Minute))
		h.graph.fail = func(r request) error {
			if r.user == guid(5000) {
				return noLicense()
			}
			return nil
		}
		_, stop := h.run(t)
		h.open(hour(gap.Startup))
		advance(7 * time.Minute)
		assert.Equal(t, 9_999, h.pipeline.distinct())
		assert.Len(t, h.graph.historyRequests(), 10_000)
		assert.Empty(t, h.missing())
		assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, h.telemetry.copy().closed)
		assert.Empty(t, h.state().Gaps)
		assert.Empty(t, h.health())
		assert.Zero(t, h.logged("can't be read"))
		stop()
	})
}
