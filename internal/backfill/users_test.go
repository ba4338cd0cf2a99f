package backfill_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
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
		b, stop := h.run(t)
		b.Seen(guid(9000), strings.ToUpper(guid(1)), "no id")
		b.Open(gap(backfill.Startup))
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
		h.settings.Users = []string{strings.ToUpper(guid(1)), guid(1), "Ada@Contoso.com", "ada@contoso.com"}
		b, stop := h.run(t)
		b.Seen(guid(5))
		b.Open(gap(backfill.Startup))
		advance(time.Minute)
		stop()
		assert.Equal(t, map[string]int{guid(1): 1, "ada@contoso.com": 1}, h.graph.readUsers())
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
				h.users(4)
				h.graph.fail = func(r request) error {
					if r.user == guid(2) {
						return err
					}
					return nil
				}
				b, stop := h.run(t)
				began := time.Now()
				b.Open(gap(backfill.Startup))
				advance(time.Minute)
				assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed, "that user counts as read")
				assert.EqualValues(t, 1, h.logs.FilterMessage("history read").All()[0].ContextMap()["users_without_history"])
				stop()
				require.NoError(t, b.Save(t.Context()))

				b, stop = h.run(t) // It is still known after a restart.
				for time.Since(began) < 71*time.Hour {
					b.Open(gap(backfill.Startup))
					advance(4 * time.Hour)
				}
				assert.Equal(t, 1, h.graph.readUsers()[guid(2)])
				assert.Greater(t, h.graph.readUsers()[guid(1)], 15)
				advance(2 * time.Hour)
				b.Open(gap(backfill.Startup))
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
		b, stop := h.run(t)
		b.Seen(guid(0), guid(1))
		advance(time.Minute)
		b.Open(gap(backfill.Startup))
		advance(time.Minute)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1}, h.graph.readUsers())
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.UsersUnknown: time.Hour}, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1, backfill.UsersUnknown: 1}, h.telemetry.copy().opened)
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
		assert.Equal(t, 1, h.logged("directory can't be read"))
		assert.Contains(t, h.logs.FilterMessageSnippet("directory can't be read").All()[0].ContextMap()["hint"], "User.Read.All")
		assert.Empty(t, h.health(), "a missing directory permission is a choice")

		b.Seen(guid(2)) // A prompt of a user who was not known then.
		advance(5 * time.Hour)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1, guid(2): 1}, h.graph.readUsers())
		assert.Len(t, h.graph.directoryRequests(), 6, "the directory is retried each hour")
		assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.UsersUnknown])

		h.graph.set(func() { h.graph.failList = nil; h.graph.licensed = guids(5) })
		advance(time.Hour)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1, guid(2): 1, guid(3): 1, guid(4): 1}, h.graph.readUsers(),
			"once the directory can be read, those not yet read are")
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Equal(t, 1, h.logged("directory can be read again"))
		stop()
	})
}

func TestUsers_ExpiresGapOfUnknownUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.MaxGap = 48 * time.Hour
		h.graph.failList = forbidden
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(40 * time.Hour)
		assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.UsersUnknown])
		advance(8 * time.Hour)
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.UsersUnknown: time.Hour}, h.telemetry.copy().lost)
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Equal(t, 1, h.logged("history.max_gap"))
		stop()
	})
}

func TestPoll_ReadsNewestOnlyWithoutDirectoryPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = 10 * time.Minute
		h.settings.MaxGap = 24 * time.Hour
		h.graph.failList = forbidden
		b, stop := h.run(t)
		b.Seen(guid(1))
		advance(72 * time.Hour)
		stop()
		for _, r := range h.graph.historyRequests() {
			assert.Less(t, r.to.Sub(r.from), 3*time.Hour, "what waits for the directory is not read again with each poll")
		}
		assert.GreaterOrEqual(t, len(h.graph.historyRequests()), 72*6)
		assert.LessOrEqual(t, h.logged("history.max_gap"), 20, "lost time is logged in large steps")
		assert.InDelta(t, 26, b.Missing(time.Now())[backfill.UsersUnknown].Hours(), 3)
		assert.InDelta(t, 47, h.telemetry.copy().lost[backfill.UsersUnknown].Hours(), 3)
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
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				advance(test.within + time.Second)
				stop()
				assert.Len(t, h.graph.directoryRequests(), test.tries)
				assert.Len(t, h.graph.historyRequests(), 3)
				assert.Empty(t, b.Missing(time.Now()))
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
				b, stop := h.run(t)
				b.Seen(guid(1))
				advance(time.Second)
				b.Open(gap(backfill.Startup))
				advance(30 * time.Minute)
				assert.Len(t, h.graph.historyRequests(), 1)
				assert.Less(t, len(h.graph.directoryRequests()), 80)
				assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.UsersUnknown])
				stop()
			})
		})
	}
}

func TestUsers_LosesNothingWhenLicenseIsAssigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = 5 * time.Minute
		h.users(2)
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
		assert.Equal(t, 120, h.intake.distinct())
		assert.Empty(t, h.telemetry.copy().lost)
		stop()
	})
}

func TestUsers_ReadsSkippedTimeWhenUnlicensedUserIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(2)
		licensed := false
		h.graph.fail = func(r request) error {
			if r.user == guid(0) && !licensed {
				return noLicense()
			}
			return nil
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(10 * time.Hour)
		h.graph.set(func() {
			licensed, h.graph.interactions[guid(0)] = true, []time.Time{time.Now().Add(-150 * time.Minute)}
		})
		b.Open(gap(backfill.Subscription))
		advance(3 * time.Hour)
		assert.Zero(t, h.intake.distinct(), "the user is not requested")
		requests := len(h.graph.historyRequests())
		b.Seen(guid(0), guid(0))
		b.Seen(guid(1), guid(0))
		advance(time.Minute)
		assert.Equal(t, 1, h.intake.distinct())
		assert.Len(t, h.graph.historyRequests(), requests+1, "and no other user is requested")
		assert.Equal(t, h.telemetry.copy().opened, h.telemetry.copy().closed)
		assert.Empty(t, b.Missing(time.Now()))
		stop()
	})
}

func TestStore_KeepsStateAfterFailedLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		first := backfill.New(h.settings)
		require.NoError(t, first.Load(t.Context()))
		first.Open(backfill.Gap{Reason: backfill.Lookback, From: time.Now().Add(-720 * time.Hour), To: time.Now()})
		first.Seen(guid(7))
		require.NoError(t, first.Save(t.Context()))

		h.settings.Disabled = true // so that nothing is closed
		h.store.setBroken(true)
		second := backfill.New(h.settings)
		require.ErrorIs(t, second.Load(t.Context()), errStore)
		second.Item(backfill.Empty, "", time.Now())
		require.ErrorIs(t, second.Flush(t.Context()), errStore)
		h.store.setBroken(false)
		require.NoError(t, second.Flush(t.Context()))
		require.NoError(t, second.Save(t.Context()))

		third := backfill.New(h.settings)
		require.NoError(t, third.Load(t.Context()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Lookback: 720 * time.Hour, backfill.Empty: time.Hour}, third.Missing(time.Now()))
	})
}

func TestBackfiller_ExpiresInterruptedPassWhenDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.latency = time.Hour
		h.users(3)
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		b.Open(backfill.Gap{Reason: backfill.Lookback, From: time.Now().Add(-720 * time.Hour), To: time.Now().Add(-700 * time.Hour)})
		advance(time.Minute)
		stop()
		require.NoError(t, b.Save(t.Context()))

		h.settings.Disabled = true
		b, stop = h.run(t)
		assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup])
		advance(168 * time.Hour)
		assert.Empty(t, b.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1, backfill.Lookback: 1}, h.telemetry.copy().closed)
		stop()
	})
}

func TestNeeded_CoversOpenGapsAndPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.settings.PollInterval = time.Hour
		h.graph.latency = time.Minute
		h.users(1)
		b, stop := h.run(t)
		synctest.Wait()
		began := time.Now()
		assert.Equal(t, began.Add(-time.Hour-5*time.Minute).Unix(), b.Needed().Unix(), "the current poll, with its overlap")
		b.Open(gap(backfill.Undelivered))
		assert.Equal(t, began.Add(-3*time.Hour-5*time.Minute).Unix(), b.Needed().Unix())
		advance(59 * time.Minute)
		assert.Equal(t, began.Add(-time.Hour-5*time.Minute).Unix(), b.Needed().Unix(), "the second pass is still to come")
		stop()
	})
	assert.Zero(t, backfill.New(backfill.Settings{}).Needed())
}
