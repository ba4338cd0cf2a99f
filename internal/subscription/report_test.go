// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestReport_LogsEachFailureOnceWithDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		secretWrong := &graph.TokenError{Status: http.StatusUnauthorized, Code: "AADSTS7000215"}
		h := newHarness(t, &fakeGraph{fail: func(call) error { return fmt.Errorf("list subscriptions: %w", secretWrong) }})
		h.advance(59 * time.Minute)
		require.Equal(t, 1, h.logs.Len())
		entry := h.logs.All()[0]
		line := entry.ContextMap()
		assert.Equal(t, "list", line["operation"])
		assert.Equal(t, []any{"all"}, line["for"])
		assert.Equal(t, "AADSTS7000215", line["microsoft_code"])
		assert.Equal(t, secretWrong.Failure().Hint, line["hint"])
		assert.Contains(t, line["error"], "list subscriptions")
		wait, err := time.ParseDuration(line["retry_in"].(string))
		require.NoError(t, err, "a duration has a unit")
		assert.Positive(t, wait)
		require.Len(t, h.statuses, 1)
		require.ErrorIs(t, h.statuses[0], secretWrong)
		require.ErrorContains(t, h.statuses[0], secretWrong.Failure().Hint)

		h.graph.failWith(func(c call) error { return graphError(http.StatusForbidden, "Authorization_RequestDenied", 0) })
		h.advance(5 * time.Minute)
		require.Equal(t, 2, h.logs.Len(), "another failure is another line")
		line = h.logs.All()[1].ContextMap()
		assert.Equal(t, "Authorization_RequestDenied", line["microsoft_code"])
		assert.Contains(t, line["error"], "403")
		assert.Contains(t, line["error"], "request-id r-1")
		assert.Len(t, h.statuses, 2)

		h.graph.failWith(nil)
		h.advance(5 * time.Minute)
		assert.Len(t, h.lines("subscription failure is over"), 1)
		assert.Len(t, h.lines("subscription created"), 1)
		require.Len(t, h.statuses, 3)
		require.NoError(t, h.statuses[2])
		h.advance(24 * time.Hour)
		assert.Equal(t, 4, h.logs.Len(), "nothing is logged without failures")
		assert.Len(t, h.statuses, 3)
	})
}

// A port number that varies between attempts does not make a new failure, nor do failures that alternate make new ones.
func TestReport_IgnoresDetailsThatVaryByAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		port := 40_000
		h := newHarness(t, &fakeGraph{fail: func(call) error {
			port++
			return &net.OpError{
				Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
				Err: syscall.ECONNRESET,
			}
		}})
		h.advance(time.Hour)
		require.Equal(t, 1, h.logs.Len())
		assert.Len(t, h.statuses, 1)
		calls := 0
		h.graph.failWith(func(call) error {
			calls++
			return []error{syscall.ECONNREFUSED, context.DeadlineExceeded, graphError(http.StatusBadGateway, "", 0)}[calls%3]
		})
		h.advance(59 * time.Minute)
		assert.LessOrEqual(t, h.logs.Len(), 4, "each cause is logged once an hour")
	})
}

// A failing list does not delay a renewal.
func TestManager_RenewsWhileListFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(c call) error {
			if c.op == "list" {
				return graphError(http.StatusInternalServerError, "", 0)
			}
			return nil
		})
		h.advance(10 * 24 * time.Hour)
		assert.Equal(t, []string{"s1"}, h.graph.activeIDs())
		assertHourlyFailures(t, h, 10*24*time.Hour)
		assert.Len(t, h.checked, 1)

		patches := h.graph.callsOf("renew")
		h.graph.vanish("s1")
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		require.Len(t, h.interruptions, 2)
		assert.Equal(t, patches[len(patches)-1].at, h.interruptions[1].since, "a renewal confirms the subscription too")
	})
}

// The failure of a lost subscription ends when another one is adopted.
func TestReport_FailureEndsWithAdoptedSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{})
		h.graph.failWith(func(c call) error {
			if c.op == "renew" {
				return graphError(http.StatusForbidden, "", 0)
			}
			return nil
		})
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		require.Len(t, h.statuses, 1)
		h.graph.vanish("s1")
		h.graph.put(existing("x", 70*time.Hour))
		h.advance(5 * time.Minute)
		assert.Len(t, h.lines("subscription adopted"), 1)
		require.Len(t, h.statuses, 2)
		assert.NoError(t, h.statuses[1])
	})
}

func TestReport_LogsNoSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, &fakeGraph{}, func(s *subscription.Settings) { s.NotificationURL = ourURL + "?code=hidden" })
		h.sendEvent(subscription.ReauthorizationRequired, "s1")
		h.graph.vanish("s1")
		h.sendEvent(subscription.SubscriptionRemoved, "s1")
		h.advance(2 * time.Second)
		require.Len(t, h.lines("subscription recreated"), 1)
		for _, entry := range h.logs.All() {
			text := fmt.Sprint(entry.Message, entry.ContextMap())
			assert.NotContains(t, text, secret)
			assert.NotContains(t, text, "hidden")
		}
	})
}

func TestReport_HandshakeHintDependsOnAnswer(t *testing.T) {
	t.Parallel()
	const dns, login, equal, ingress = "public DNS name", "without login", "make webhook.path equal to", "keep the path"
	for name, test := range map[string]struct {
		answer, path string
		want         string
	}{
		"no server answered":                       {"", "/n", dns},
		"no server answered, and the paths differ": {"", "/other", dns},
		"a server does not have the path":          {"NotFound", "/other", equal},
		"another server does not have the path":    {"NotFound", "/n", ingress},
		"a server wants a login":                   {"Unauthorized", "/n", login},
		"a server redirects":                       {"Found", "/other", login},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				refused := &graph.Error{
					Status: http.StatusBadRequest, Code: "ValidationError",
					Message: "Subscription validation request failed. HTTP status code is '" + test.answer + "'.",
				}
				h := newHarness(t, &fakeGraph{fail: func(c call) error {
					if c.op == "create" {
						return refused
					}
					return nil
				}}, func(s *subscription.Settings) {
					s.NotificationURL = "https://copilot.example.com" + test.path
					s.WebhookPath, s.WebhookAddress = "/n", "127.0.0.1:8443"
				})
				line := h.lines("subscription fails, will be tried again")[0].ContextMap()
				assert.Equal(t, "ValidationError", line["microsoft_code"])
				require.ErrorIs(t, h.statuses[0], refused)
				hint := line["hint"].(string)
				require.ErrorContains(t, h.statuses[0], hint)
				for _, one := range []string{dns, login, equal, ingress} {
					if one == test.want {
						assert.Contains(t, hint, one)
					} else {
						assert.NotContains(t, hint, one)
					}
				}
				assert.Contains(t, hint, `Graph request`)
				assert.Contains(t, hint, `"`+test.path+`"`)
				assert.Contains(t, hint, `serves "/n" (webhook.path) on 127.0.0.1:8443 (webhook.endpoint)`)
				assert.NotContains(t, hint, "%!")
			})
		})
	}
}
