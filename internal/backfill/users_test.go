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
	for _, r := range g.asked() {
		counts[r.user]++
	}
	return counts
}

func TestUsersAreThoseOfTheDirectoryAndThoseSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.graph.licensed = guids(2500)
		f, stop := w.run(t)
		f.Seen(guid(9000), strings.ToUpper(guid(1)), "no id")
		f.Open(gap(backfill.Startup))
		pass(3 * time.Minute)
		stop()
		counts := w.graph.readUsers()
		assert.Len(t, counts, 2501)
		assert.Equal(t, 1, counts[guid(1)], "a user of both is read once")
		assert.Equal(t, 1, counts[guid(9000)])
		assert.Len(t, w.graph.lists(), 3)
	})
}

func TestConfiguredUsersAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.Users = []string{strings.ToUpper(guid(1)), guid(1), "Ada@Contoso.com", "ada@contoso.com"}
		f, stop := w.run(t)
		f.Seen(guid(5))
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		stop()
		assert.Equal(t, map[string]int{guid(1): 1, "ada@contoso.com": 1}, w.graph.readUsers())
		assert.Empty(t, w.graph.lists(), "the directory is not asked")
	})
}

func TestAUserWithoutLicenseIsLeftAloneFor72Hours(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no valid license": noLicense(),
		"not found":        refusal(http.StatusNotFound, "", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(4)
				w.graph.fail = func(r request) error {
					if r.user == guid(2) {
						return err
					}
					return nil
				}
				f, stop := w.run(t)
				began := time.Now()
				f.Open(gap(backfill.Startup))
				pass(time.Minute)
				assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed, "that user counts as read")
				assert.EqualValues(t, 1, w.logs.FilterMessage("history read").All()[0].ContextMap()["users_without_history"])
				stop()
				require.NoError(t, f.Save(t.Context()))

				f, stop = w.run(t) // It is known after a restart, too.
				for time.Since(began) < 71*time.Hour {
					f.Open(gap(backfill.Startup))
					pass(4 * time.Hour)
				}
				assert.Equal(t, 1, w.graph.readUsers()[guid(2)])
				assert.Greater(t, w.graph.readUsers()[guid(1)], 15)
				pass(2 * time.Hour)
				f.Open(gap(backfill.Startup))
				pass(time.Minute)
				assert.Equal(t, 2, w.graph.readUsers()[guid(2)])
				stop()
			})
		})
	}
}

func TestWithoutDirectoryPermissionUsersSeenAreReadAndTheGapStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		at := time.Now().Add(-150 * time.Minute)
		for i := range 5 {
			w.graph.happened[guid(i)] = []time.Time{at}
		}
		w.graph.failList = forbidden
		f, stop := w.run(t)
		f.Seen(guid(0), guid(1))
		pass(time.Minute)
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1}, w.graph.readUsers())
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.UsersUnknown: time.Hour}, f.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1, backfill.UsersUnknown: 1}, w.telemetry.copy().opened)
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		assert.Equal(t, 1, w.said("directory can't be read"))
		assert.Contains(t, w.logs.FilterMessageSnippet("directory can't be read").All()[0].ContextMap()["hint"], "User.Read.All")
		assert.Empty(t, w.health(), "a directory that may not be read is a choice")

		f.Seen(guid(2)) // A prompt of somebody who was not known then.
		pass(5 * time.Hour)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1, guid(2): 1}, w.graph.readUsers())
		assert.Len(t, w.graph.lists(), 6, "the directory is tried again each hour")
		assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.UsersUnknown])

		w.graph.set(func() { w.graph.failList = nil; w.graph.licensed = guids(5) })
		pass(time.Hour)
		assert.Equal(t, map[string]int{guid(0): 1, guid(1): 1, guid(2): 1, guid(3): 1, guid(4): 1}, w.graph.readUsers(),
			"once the directory can be read, those not yet read are")
		assert.Empty(t, f.Missing(time.Now()))
		assert.Equal(t, w.telemetry.copy().opened, w.telemetry.copy().closed)
		assert.Equal(t, 1, w.said("directory can be read again"))
		stop()
	})
}

func TestAGapOfUnknownUsersIsGivenUpWhenItIsTooOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.MaxGap = 48 * time.Hour
		w.graph.failList = forbidden
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(40 * time.Hour)
		assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.UsersUnknown])
		pass(8 * time.Hour)
		assert.Empty(t, f.Missing(time.Now()))
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.UsersUnknown: time.Hour}, w.telemetry.copy().lost)
		assert.Equal(t, w.telemetry.copy().opened, w.telemetry.copy().closed)
		assert.Equal(t, 1, w.said("history.max_gap"))
		stop()
	})
}

func TestPollsWithoutDirectoryPermissionReadTheNewestOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.settings.PollInterval = 10 * time.Minute
		w.settings.MaxGap = 24 * time.Hour
		w.graph.failList = forbidden
		f, stop := w.run(t)
		f.Seen(guid(1))
		pass(72 * time.Hour)
		stop()
		for _, r := range w.graph.asked() {
			assert.Less(t, r.to.Sub(r.from), 3*time.Hour, "what waits for the directory is not read again with each poll")
		}
		assert.GreaterOrEqual(t, len(w.graph.asked()), 72*6)
		assert.LessOrEqual(t, w.said("history.max_gap"), 20, "what is lost is said a good piece at a time")
		assert.InDelta(t, 26, f.Missing(time.Now())[backfill.UsersUnknown].Hours(), 3)
		assert.InDelta(t, 47, w.telemetry.copy().lost[backfill.UsersUnknown].Hours(), 3)
	})
}

func TestADirectoryThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		tries  int
		within time.Duration
	}{
		"throttled: after the time it was given": {refusal(429, "", 40*time.Second), 2, 41 * time.Second},
		"no token yet: soon":                     {refusal(401, "", 0), 2, 2 * time.Second},
		"broken: soon":                           {refusal(500, "", 0), 2, 2 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.graph.licensed = guids(3)
				n := 0
				w.graph.failList = func() error {
					if n++; n == 1 {
						return test.err
					}
					return nil
				}
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(test.within + time.Second)
				stop()
				assert.Len(t, w.graph.lists(), test.tries)
				assert.Len(t, w.graph.asked(), 3)
				assert.Empty(t, f.Missing(time.Now()))
			})
		})
	}
}

func TestADirectoryThatKeepsFailingDoesNotHoldUpUsersSeen(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]func(w *harness){
		"with errors": func(w *harness) { w.graph.failList = func() error { return graph.ErrUnreadable } },
		"for a cloud that has none": func(w *harness) {
			w.graph.failList = func() error { return refusal(404, "Requested API is not supported.", 0) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				list(w)
				f, stop := w.run(t)
				f.Seen(guid(1))
				pass(time.Second)
				f.Open(gap(backfill.Startup))
				pass(30 * time.Minute)
				assert.Len(t, w.graph.asked(), 1)
				assert.Less(t, len(w.graph.lists()), 80)
				assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.UsersUnknown])
				stop()
			})
		})
	}
}
