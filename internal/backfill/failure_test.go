package backfill_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestRequestsNeverExceedTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(500)
		w.settings.Concurrency = 16
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		stop()

		asked := w.graph.asked()
		require.Len(t, asked, 500)
		for i := 25; i < len(asked); i++ {
			assert.GreaterOrEqual(t, asked[i].at.Sub(asked[i-25].at), time.Second-time.Millisecond, "26 requests take at least a second")
		}
		assert.Less(t, asked[499].at.Sub(asked[0].at), 21*time.Second, "and the limit is made use of")
	})
}

func TestRetryAfterHoldsAllWorkersToTheSecond(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"too many requests": 429, "unavailable": 503, "another status with the header": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(200)
				w.graph.took = 10 * time.Millisecond
				n := 0
				var told time.Time
				w.graph.fail = func(request) error {
					if n++; n == 50 {
						told = time.Now()
						return refusal(status, "", 37*time.Second)
					}
					return nil
				}
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(5 * time.Minute)
				stop()

				asked := w.graph.asked()
				require.Len(t, asked, 201, "the refused page is asked for once more, and nothing else is")
				resumed := time.Time{}
				for _, r := range asked[50:] {
					// One answer may have been under way.
					if r.at.Sub(told) > 100*time.Millisecond && resumed.IsZero() {
						resumed = r.at
					}
				}
				assert.InDelta(t, 37, resumed.Sub(told).Seconds(), 0.1)
				assert.Empty(t, w.health(), "being throttled is no failure")
			})
		})
	}
}

func TestBackfiller_SaysThatThrottlingLastsAndEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(3)
		n, ended := 0, false
		w.graph.fail = func(request) error {
			if ended {
				return nil
			}
			n++
			return refusal([]int{429, 503}[n%2], "", 30*time.Second)
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(14 * time.Minute)
		assert.Empty(t, w.health())
		pass(24 * time.Hour)
		assert.Len(t, w.health(), 1)
		assert.InDelta(t, 24, w.said("history can't be read"), 1, "once an hour while it lasts")
		w.graph.set(func() { ended = true })
		pass(time.Minute)
		stop()
		require.Len(t, w.health(), 2)
		require.NoError(t, w.health()[1])
		assert.Equal(t, 1, w.logs.FilterMessageSnippet("history can be read again").Len())
	})
}

func TestGraphThatFailsIsNotStormed(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"429 without Retry-After":  refusal(429, "", 0),
		"503 without Retry-After":  refusal(503, "", 0),
		"500":                      refusal(500, "", 0),
		"401":                      refusal(401, "", 0),
		"no token":                 &graph.TokenError{Status: 400, Code: "invalid_client", AADSTS: "AADSTS7000215"},
		"an unreadable credential": &graph.CredentialError{},
		"connection reset":         errors.New("read tcp 127.0.0.1:1: connection reset by peer"),
		"an endless body":          graph.ErrTooLarge,
		"invalid JSON":             graph.ErrUnreadable,
		"a missing permission":     forbidden(),
		"a cloud that does not have this history": refusal(404, "Requested API is not supported. Please check the path.", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(300, time.Now().Add(-150*time.Minute))
				w.graph.fail = func(request) error { return err }
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(time.Hour)
				asked := w.graph.asked()
				assert.Less(t, len(asked), 400, "an hour of failure sees few requests")
				late := 0
				for _, r := range asked {
					if r.at.After(asked[0].at.Add(30 * time.Minute)) {
						late++
					}
				}
				assert.Less(t, late, 150)
				assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Startup: time.Hour}, f.Missing(time.Now()), "the gap stays")
				assert.LessOrEqual(t, w.said("can't be read, its gaps"), 1, "it is said once")

				w.graph.set(func() { w.graph.fail = nil })
				pass(3 * time.Hour)
				assert.Equal(t, 300, w.intake.distinct(), "everyone is read in the end")
				assert.Empty(t, f.Missing(time.Now()))
				assert.Equal(t, w.telemetry.copy().opened, w.telemetry.copy().closed)
				health := w.health()
				if len(health) > 0 {
					require.Len(t, health, 2)
					require.Error(t, health[0])
					require.NoError(t, health[1])
					require.ErrorIs(t, health[0], err)
					assert.Contains(t, health[0].Error(), graph.Hint(err))
				}
				stop()
			})
		})
	}
}

func TestAFailureBetweenPagesReadsTheUserAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		start := time.Now().Add(-150 * time.Minute)
		var at []time.Time
		for i := range 35 {
			at = append(at, start.Add(time.Duration(i)*time.Second))
		}
		w.users(1, at...)
		w.graph.pageSize = 10
		failed := false
		w.graph.fail = func(r request) error {
			if r.next == "20" && !failed {
				failed = true
				return refusal(500, "", 0)
			}
			return nil
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		var pages []string
		for _, r := range w.graph.asked() {
			pages = append(pages, r.next)
		}
		assert.Equal(t, []string{"", "10", "20", "", "10", "20", "30"}, pages)
		assert.Equal(t, 35, w.intake.distinct())
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
		stop()
	})
}

func TestAPipelineThatDoesNotTakeInteractions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err      error
		taken    int
		requests int
		missing  time.Duration
		said     string
	}{
		"for now: they are handed in until it does, and Graph is left alone": {errors.New("queue is full"), 0, 2, time.Hour, "handed in again"},
		"for good: they count as read":                                       {consumererror.NewPermanent(errors.New("no")), 0, 10, 0, "for good"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(10, time.Now().Add(-150*time.Minute))
				w.settings.Concurrency = 2
				w.intake.refuse = func() error { return test.err }
				f, stop := w.run(t)
				f.Open(gap(backfill.Undelivered))
				pass(10 * time.Minute)
				assert.Len(t, w.graph.asked(), test.requests)
				assert.Equal(t, test.missing, f.Missing(time.Now())[backfill.Undelivered])
				assert.Less(t, w.intake.seen().tries, 2*40+10)
				assert.Equal(t, 1, w.said(test.said))
				w.intake.mu.Lock()
				w.intake.refuse = nil
				w.intake.mu.Unlock()
				pass(time.Minute)
				assert.Empty(t, f.Missing(time.Now()))
				stop()
			})
		})
	}
}

func TestNoUserIsNamedInALogLineOrAnError(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"Graph repeats it":         refusal(http.StatusUnauthorized, "user "+strings.ToUpper(guid(0))+" is unknown", 0),
		"it is in the URL":         errors.New(`Get "https://graph.microsoft.com/v1.0/copilot/users/` + guid(0) + `/x": EOF`),
		"the transport says it so": errors.New("EOF while reading " + guid(0)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(8)
				w.graph.fail = func(request) error { return err }
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(20 * time.Minute)
				stop()
				require.NotEmpty(t, w.health())
				for _, id := range w.settings.Users {
					assert.NotContains(t, strings.ToLower(w.health()[0].Error()), id)
					for _, line := range w.logs.All() {
						for _, value := range line.ContextMap() {
							if text, ok := value.(string); ok {
								assert.NotContains(t, strings.ToLower(text), id)
							}
						}
					}
				}
			})
		})
	}
}
