// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	cryptotls "crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// warnings returns the lines of level warn or above, without those about the generated key.
func (h *harness) warnings() []observer.LoggedEntry {
	return h.lines.Filter(func(e observer.LoggedEntry) bool {
		return e.Level >= zapcore.WarnLevel && !strings.Contains(e.Message, "encryption key")
	}).All()
}

// lineText returns a line with all of its fields.
func lineText(t *testing.T, line observer.LoggedEntry) string {
	t.Helper()
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	buffer, err := encoder.EncodeEntry(line.Entry, line.Context)
	require.NoError(t, err)
	return buffer.String()
}

// A failure is one line with its code and hint until it is over, however often the operation is retried.
func TestFailure_IsOneLineWithCodeAndHint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fail func(*harness)
		fix  func(*harness)
		// tries is an operation that is retried while the failure lasts.
		tries graphtest.Operation
		want  []string
	}{
		"a wrong secret": {
			fail:  func(h *harness) { h.config.Auth.ClientSecret = "the-wrong-secret" },
			tries: graphtest.OpToken,
			want:  []string{"AADSTS7000215", "client secret"},
		},
		"an unknown application": {
			fail:  func(h *harness) { h.config.Auth.ClientID = "99999999-0000-4000-8000-000000000009" },
			tries: graphtest.OpToken,
			want:  []string{"AADSTS700016", "client_id"},
		},
		"a missing permission": {
			fail:  func(h *harness) { h.emulator.SetRoles("User.Read.All") },
			fix:   func(h *harness) { h.emulator.SetRoles(graphtest.RoleReadAll); h.emulator.RevokeTokens() },
			tries: graphtest.OpCreate,
			want:  []string{"AiEnterpriseInteraction.Read.All", "consent"},
		},
		"a notification URL that Graph can't reach": {
			fail:  func(h *harness) { h.config.Subscription.NotificationURL = "https://127.0.0.1:1/graph/notifications" },
			tries: graphtest.OpCreate,
			want:  []string{"notification_url", "127.0.0.1:1"},
		},
		"a full quota": {
			fail: func(h *harness) {
				_, err := h.emulator.AddSubscription(graphtest.Subscription{
					Resource: "copilot/interactionHistory/getAllEnterpriseInteractions", ChangeType: "created",
					NotificationURL: "https://elsewhere.example.com/n", Expiration: time.Now().Add(time.Hour),
				})
				if err != nil {
					panic(err)
				}
			},
			fix: func(h *harness) {
				for _, s := range h.emulator.Subscriptions() {
					if err := h.emulator.ExpireSubscription(s.ID, time.Now()); err != nil {
						panic(err)
					}
				}
			},
			tries: graphtest.OpList,
			want:  []string{"elsewhere.example.com", "replace_foreign"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			test.fail(h)
			h.start(t)
			h.host.await(t, componentstatus.StatusRecoverableError)
			ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
			defer cancel()
			require.NoError(t, h.emulator.WaitRequests(ctx, test.tries, 3))

			lines := h.warnings()
			require.Len(t, lines, 1, "however often it is tried")
			line := lineText(t, lines[0])
			t.Log(line)
			for _, want := range test.want {
				assert.Contains(t, line, want)
			}
			assert.Empty(t, lines[0].Stack)
			assert.NotContains(t, line, secret)
			assert.NotContains(t, line, "the-wrong-secret")

			if test.fix != nil {
				before := h.lines.FilterLevelExact(zapcore.InfoLevel).Len()
				test.fix(h)
				h.host.await(t, componentstatus.StatusOK)
				assert.Greater(t, h.lines.FilterLevelExact(zapcore.InfoLevel).Len(), before, "its end is logged as well")
				assert.Len(t, h.warnings(), 1)
			}
		})
	}
}

func TestFailure_NamesMismatchedWebhookPath(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Webhook.Path = "/copilot"
	h.start(t)
	h.host.await(t, componentstatus.StatusRecoverableError)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpCreate, 3))

	lines := h.warnings()
	require.Len(t, lines, 2, "however often it is tried")
	for _, line := range lines {
		logged := lineText(t, line)
		t.Log(logged)
		for _, want := range []string{"/graph/notifications", "/copilot", "notification_url", "webhook.path"} {
			assert.Contains(t, logged, want)
		}
	}
	failed := lineText(t, h.lines.FilterMessage("subscription fails, will be tried again").All()[0])
	assert.Contains(t, failed, h.config.Webhook.ServerConfig.NetAddr.Endpoint)
	assert.NotContains(t, failed, "DNS")
	assert.NotContains(t, failed, "a certificate")
}

func TestFailure_NamesListenAddressWhenGraphReachesOther(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	h := newHarness(t)
	tls := h.config.Webhook.ServerConfig.TLS.Get()
	pair, err := cryptotls.X509KeyPair([]byte(tls.CertPem), []byte(tls.KeyPem))
	require.NoError(t, err)
	elsewhere.TLS = &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}, MinVersion: cryptotls.VersionTLS12}
	elsewhere.StartTLS()
	t.Cleanup(elsewhere.Close)
	h.config.Subscription.NotificationURL = "https://" + elsewhere.Listener.Addr().String() + "/graph/notifications"
	h.start(t)
	h.host.await(t, componentstatus.StatusRecoverableError)

	lines := h.warnings()
	require.Len(t, lines, 1)
	logged := lineText(t, lines[0])
	t.Log(logged)
	for _, want := range []string{"with Forbidden", "/graph/notifications", h.config.Webhook.ServerConfig.NetAddr.Endpoint, "webhook.endpoint"} {
		assert.Contains(t, logged, want)
	}
	assert.NotContains(t, logged, "DNS")
}

func TestFailure_UnreadableDirectoryKeepsReceiverHealthy(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Identity.Directory = true
	h.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpUsers, 1))
	asks, _ := turnAt(t, time.Now().Add(-time.Minute), "19:a@thread.v2", "r2", testUser)
	h.deliver(t, asks)
	require.Len(t, h.records(), 1)
	require.Eventually(t, func() bool { return len(h.warnings()) > 0 }, waitTimeout, 10*time.Millisecond)
	h.stop(t)

	lines := h.warnings()
	require.Len(t, lines, 1)
	line := lineText(t, lines[0])
	for _, want := range []string{"directory can't be read", "COP302", "User.Read.All"} {
		assert.Contains(t, line, want)
	}
	for _, event := range h.host.events {
		assert.NotEqual(t, componentstatus.StatusRecoverableError, event.Status(), event.Err())
	}
}

// Graph can't sign what it sends while "Assignment required" is Yes. Each notification is answered, and none is accepted.
func TestFailure_RejectedNotificationsAreTheStatus(t *testing.T) {
	skipIfShort(t, "the rejections last for a minute")
	t.Parallel()
	h := newHarness(t)
	h.run(t)
	unsigned, err := h.emulator.Collection(newTurns(1)...)
	require.NoError(t, err)
	unsigned.ValidationTokens = nil
	require.Eventually(t, func() bool {
		status, err := h.emulator.Post(t.Context(), unsigned)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, status)
		return h.host.reports(componentstatus.StatusRecoverableError)
	}, 2*time.Minute, 5*time.Second)
	event := h.host.await(t, componentstatus.StatusRecoverableError)
	require.ErrorContains(t, event.Err(), "(COP412: ")

	h.deliver(t, newTurns(2)...)
	h.host.await(t, componentstatus.StatusOK)
}

func TestLogs_ContainNoContentOrSecrets(t *testing.T) {
	t.Parallel()
	const marker = "Zanzibar"
	h := newHarness(t)
	h.run(t)
	json := []byte(`{"id": "1764599405123", "sessionId": "19:` + marker + `", "requestId": "` + marker + `", "interactionType": "userPrompt",
		"body": {"contentType": "text", "content": "` + marker + `"}, "from": {"user": {"id": "` + marker + `"}},
		"links": [{"linkUrl": "https://` + marker + `", "displayName": "` + marker + `"}]}`)
	h.deliver(t, graphtest.Created(json)...)
	for _, spoil := range []func(*graphtest.Collection){
		func(c *graphtest.Collection) { c.Value[0].ClientState = marker },
		func(c *graphtest.Collection) { c.Value[0].EncryptedContent.DataSignature = marker },
		func(c *graphtest.Collection) { c.Value[0].EncryptedContent = nil },
		func(c *graphtest.Collection) { c.ValidationTokens = []string{marker} },
		func(c *graphtest.Collection) { c.ValidationTokens = nil },
	} {
		c, err := h.emulator.Collection(graphtest.Created(json)...)
		require.NoError(t, err)
		spoil(&c)
		status, err := h.emulator.Post(t.Context(), c)
		require.NoError(t, err)
		assert.Equal(t, 202, status)
	}
	assert.Equal(t, 5, h.lines.FilterMessage("notification rejected").Len())
	for _, line := range h.lines.All() {
		logged := lineText(t, line)
		assert.NotContains(t, logged, marker)
		assert.NotContains(t, logged, secret)
	}
}

// refusingProxy passes plain requests on, as those to the emulator are, and refuses every CONNECT with the status. It
// returns its host:port.
func refusingProxy(t *testing.T, status int) string {
	t.Helper()
	forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			forward.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestFailure_NamesRefusingProxy(t *testing.T) {
	t.Parallel()
	refuses := func(status int) func(*testing.T) string {
		return func(t *testing.T) string { t.Helper(); return refusingProxy(t, status) }
	}
	proxies := map[string]struct {
		start func(*testing.T) string
		want  []string
	}{
		"a proxy that answers 401":         {refuses(http.StatusUnauthorized), []string{"401", "login"}},
		"a proxy that answers 403":         {refuses(http.StatusForbidden), []string{"403", "rules"}},
		"a proxy that answers 407":         {refuses(http.StatusProxyAuthRequired), []string{"407", "login"}},
		"a proxy that refuses connections": {func(t *testing.T) string { t.Helper(); return freeAddress(t) }, []string{"connection refused"}},
	}
	for name, proxy := range proxies {
		for call, prepare := range map[string]func(*m365copilotreceiver.Config, string){
			"the token call": func(c *m365copilotreceiver.Config, address string) {
				c.Auth.Authority, c.Graph.Endpoint = "https://login.invalid", "https://graph.invalid"
				c.Graph.ProxyURL = "http://scott:tiger@" + address
			},
			"the call of Graph": func(c *m365copilotreceiver.Config, address string) {
				c.Auth.Scope, c.Graph.Endpoint = c.Graph.Endpoint+"/.default", "https://graph.invalid"
				c.Graph.ProxyURL = "http://scott:tiger@" + address
			},
		} {
			if call == "the call of Graph" && len(proxy.want) == 1 {
				continue // the token comes through the same proxy
			}
			t.Run(name+" to "+call, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t)
				address := proxy.start(t)
				prepare(h.config, address)
				h.start(t)
				event := h.host.await(t, componentstatus.StatusRecoverableError)
				lines := h.warnings()
				require.NotEmpty(t, lines)
				line := lineText(t, lines[0])
				t.Log(line)
				for _, logged := range []string{line, event.Err().Error()} {
					for _, want := range append(proxy.want, address, "graph.proxy_url", "HTTPS_PROXY", "NO_PROXY") {
						assert.Contains(t, logged, want)
					}
					for _, misleading := range []string{"tenant_id", "tiger", "scott", "auth.authority"} {
						assert.NotContains(t, logged, misleading)
					}
				}
			})
		}
	}
}
