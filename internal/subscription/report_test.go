package subscription_test

import (
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestManager_LogsFailureWithAllThatHelps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		secretWrong := &graph.TokenError{Status: http.StatusUnauthorized, Code: "invalid_client", AADSTS: "AADSTS7000215"}
		b := begin(t, &fakeGraph{fail: func(call) error { return fmt.Errorf("list subscriptions: %w", secretWrong) }})
		b.pass(59 * time.Minute)
		require.Equal(t, 1, b.logs.Len())
		entry := b.logs.All()[0]
		assert.Equal(t, zapcore.ErrorLevel, entry.Level)
		line := entry.ContextMap()
		assert.Equal(t, "list", line["operation"])
		assert.Equal(t, "AADSTS7000215", line["code"])
		assert.Equal(t, graph.Hint(secretWrong), line["hint"])
		assert.Contains(t, line["error"], "list subscriptions")
		wait, err := time.ParseDuration(line["retry_in"].(string))
		require.NoError(t, err, "a duration says its unit")
		assert.Positive(t, wait)
		assert.NotContains(t, line, "status", "nothing is said of what has no value")
		assert.NotContains(t, line, "request_id")
		require.Len(t, b.statuses, 1)
		var failure *subscription.Failure
		require.ErrorAs(t, b.statuses[0], &failure)
		assert.Equal(t, "list", failure.Operation)
		assert.Equal(t, "list", failure.Subject)
		require.ErrorIs(t, failure, secretWrong)

		b.graph.failing(func(c call) error { return refusal(http.StatusForbidden, "Authorization_RequestDenied", 0) })
		b.pass(5 * time.Minute)
		require.Equal(t, 2, b.logs.Len(), "another failure is another line")
		line = b.logs.All()[1].ContextMap()
		assert.Equal(t, "Authorization_RequestDenied", line["code"])
		assert.EqualValues(t, 403, line["status"])
		assert.Equal(t, "r-1", line["request_id"])
		assert.Len(t, b.statuses, 2)

		b.graph.failing(nil)
		b.pass(5 * time.Minute)
		assert.Len(t, b.lines("subscription failure is over"), 1)
		assert.Len(t, b.lines("subscription created"), 1)
		require.Len(t, b.statuses, 3)
		require.NoError(t, b.statuses[2])
		b.pass(24 * time.Hour)
		assert.Equal(t, 4, b.logs.Len(), "all is well and there is nothing to say")
		assert.Len(t, b.statuses, 3)
	})
}

func TestWhatDiffersAtEachTryDoesNotMakeAnotherFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		port := 40_000
		b := begin(t, &fakeGraph{fail: func(call) error {
			port++
			return &net.OpError{
				Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
				Err: syscall.ECONNRESET,
			}
		}})
		b.pass(time.Hour)
		require.Equal(t, 1, b.logs.Len())
		assert.Equal(t, zapcore.WarnLevel, b.logs.All()[0].Level, "waiting may help")
		assert.Len(t, b.statuses, 1)
		b.graph.failing(func(call) error { return syscall.ECONNREFUSED })
		b.pass(5 * time.Minute)
		assert.Equal(t, 2, b.logs.Len())

		b.graph.failing(func(call) error { return syscall.EHOSTUNREACH })
		b.pass(5 * time.Minute)
		b.graph.failing(func(call) error { return syscall.ENETDOWN })
		b.pass(5 * time.Minute)
		assert.Equal(t, 4, b.logs.Len(), "another cause is another failure whatever its mend")
	})
}

func TestALookThatFailsDoesNotHoldUpARenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(c call) error {
			if c.op == "list" {
				return refusal(http.StatusInternalServerError, "", 0)
			}
			return nil
		})
		b.pass(10 * 24 * time.Hour)
		assert.Equal(t, []string{"s1"}, b.graph.living())
		assertHourlyFailures(t, b, 10*24*time.Hour)
		assert.Len(t, b.checked, 1)

		patches := b.graph.callsOf("renew")
		b.graph.drop("s1")
		b.wake(subscription.SubscriptionRemoved, "s1")
		require.Len(t, b.interruptions, 2)
		assert.Equal(t, patches[len(patches)-1].at, b.interruptions[1].since, "a renewal shows life too")
	})
}

func TestAFailureOfOneThatWasLostIsOverWithItsSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(c call) error {
			if c.op == "renew" {
				return refusal(http.StatusForbidden, "", 0)
			}
			return nil
		})
		b.wake(subscription.ReauthorizationRequired, "s1")
		require.Len(t, b.statuses, 1)
		b.graph.drop("s1")
		b.graph.put(existing("x", 70*time.Hour))
		b.pass(5 * time.Minute)
		assert.Len(t, b.lines("subscription adopted"), 1)
		require.Len(t, b.statuses, 2)
		assert.NoError(t, b.statuses[1])
	})
}

func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, func(s *subscription.Settings) { s.NotificationURL = ourURL + "?code=hidden" })
		b.wake(subscription.ReauthorizationRequired, "s1")
		b.graph.drop("s1")
		b.wake(subscription.SubscriptionRemoved, "s1")
		b.pass(2 * time.Second)
		require.Len(t, b.lines("subscription recreated"), 1)
		for _, entry := range b.logs.All() {
			text := fmt.Sprint(entry.Message, entry.ContextMap())
			assert.NotContains(t, text, secret)
			assert.NotContains(t, text, "hidden")
		}
	})
}

func TestWorksWithTheRequiredSettingsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, func(s *subscription.Settings) {
			s.Logger, s.Observer, s.Telemetry, s.Status = nil, nil, nil, nil
		})
		b.wake(subscription.Missed, "s1")
		b.graph.failing(func(call) error { return refusal(http.StatusInternalServerError, "", 0) })
		b.pass(80 * time.Hour)
		b.graph.failing(nil)
		b.pass(time.Hour)
		assert.Equal(t, []string{"s2"}, b.graph.living())
	})
}
