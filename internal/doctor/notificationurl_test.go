// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// runCollector starts the webhook of a collector on the site's endpoint.
func (s *site) runCollector(path string) {
	t := s.t
	t.Helper()
	config := confighttp.NewDefaultServerConfig()
	config.NetAddr.Endpoint = s.webhook
	server := webhook.New(webhook.Settings{
		Config: config, Path: path, Telemetry: webhookTelemetry{}, Fatal: func(error) {}, Logger: zap.NewNop(), MaxInFlightBytes: 64 << 20,
	})
	require.NoError(t, server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { require.NoError(t, server.Shutdown(context.WithoutCancel(t.Context()))) })
}

type webhookTelemetry struct{}

func (webhookTelemetry) Notifications(context.Context, webhook.Outcome, int) {}
func (webhookTelemetry) Acknowledged(context.Context, int, time.Duration)    {}
func (webhookTelemetry) Handshake(context.Context, int)                      {}

// answer returns a handler that answers each request alike.
func answer(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// echo returns a handler that answers a validation request, with text behind the token.
func echo(kind, behind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, r.URL.Query().Get("validationToken")+behind)
	}
}

func TestNotificationURL_HandshakeIsAnswered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(s *site) http.Handler
		webhook string
		found   string
	}{
		"by the doctor where nothing listens": {
			prepare: func(s *site) http.Handler { return s.forward(nil) },
			found:   "answered by the doctor",
		},
		"by the doctor behind an ingress that rewrites the path": {
			prepare: func(s *site) http.Handler {
				return s.forward(func(r *http.Request) { r.URL.Path = "/inner" })
			},
			webhook: ", path: /inner",
			found:   "answered by the doctor",
		},
		"by the running collector": {
			prepare: func(s *site) http.Handler {
				s.runCollector(publicPath)
				return s.forward(nil)
			},
			found: "answered; a collector with this configuration listens on",
		},
		"by a server elsewhere": {
			prepare: func(*site) http.Handler { return echo("text/plain; charset=utf-8", "") },
			found:   "answered by another machine",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			g := s.checkURL(s.serve(test.prepare(s)), s.endpoint()+test.webhook)
			require.Equal(t, doctor.OK, g.Mark(), "%+v", g)
			assert.Contains(t, g.Checks[len(g.Checks)-1].Found, test.found)
			if !strings.Contains(test.found, "collector") {
				assertFree(t, s.webhook)
			}
		})
	}
}

func TestNotificationURL_HandshakeFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ingress func(s *site) http.Handler
		webhook string
		warning bool
		code    failure.Code
		found   string
		hint    string
	}{
		"an ingress rewrites the path": {
			ingress: func(s *site) http.Handler {
				return s.forward(func(r *http.Request) { r.URL.Path = "/inner" })
			},
			code:  failure.HandshakePathsDiffer,
			found: `arrived at webhook.endpoint with the path "/inner", while webhook.path is "/graph/notifications"`,
			hint:  "make webhook.path equal to the path that requests arrive with",
		},
		"webhook.path is another one": {
			ingress: func(s *site) http.Handler { return s.forward(nil) },
			webhook: ", path: /other",
			code:    failure.HandshakePathsDiffer,
			found:   `arrived at webhook.endpoint with the path "/graph/notifications", while webhook.path is "/other"`,
			hint:    "make webhook.path equal to the path that requests arrive with",
		},
		"the ingress has no route": {
			ingress: func(*site) http.Handler { return answer(http.StatusNotFound) },
			code:    failure.HandshakeNotRouted,
			found:   "answered with 404 Not Found; it did not arrive at webhook.endpoint",
			hint:    "make the ingress route to the webhook",
		},
		"the ingress has no route, and the paths differ": {
			ingress: func(*site) http.Handler { return answer(http.StatusNotFound) },
			webhook: ", path: /other",
			code:    failure.HandshakePathsDiffer,
			found:   "answered with 404 Not Found; it did not arrive at webhook.endpoint",
			hint:    `while the webhook serves "/other" (webhook.path)`,
		},
		"the ingress wants a login": {
			ingress: func(*site) http.Handler { return answer(http.StatusUnauthorized) },
			code:    failure.HandshakeRefused,
			found:   "answered with 401 Unauthorized; it did not arrive at webhook.endpoint",
			hint:    "without login and redirect",
		},
		"the ingress has no collector that is healthy yet": {
			ingress: func(*site) http.Handler { return answer(http.StatusServiceUnavailable) },
			warning: true,
			code:    failure.HandshakeRefused,
			found:   "answered with 503 Service Unavailable; it did not arrive at webhook.endpoint",
			hint:    "let a POST with a query string through",
		},
		"the ingress redirects": {
			ingress: func(*site) http.Handler { return answer(http.StatusFound, "Location", "/login") },
			code:    failure.HandshakeRefused,
			found:   "answered with 302 Found; it did not arrive at webhook.endpoint",
			hint:    "without login and redirect",
		},
		"the ingress drops the query": {
			ingress: func(s *site) http.Handler {
				return s.forward(func(r *http.Request) { r.URL.RawQuery = "" })
			},
			code:  failure.HandshakeRefused,
			found: "answered with 503 Service Unavailable; it arrived at webhook.endpoint without its query",
			hint:  "let a POST with a query string through",
		},
		"the ingress adds a line break": {
			ingress: func(*site) http.Handler { return echo("text/plain", "\n") },
			code:    failure.HandshakeAltered,
			found:   "it is not exactly the decoded validation token",
			hint:    "return the decoded validation token as text/plain and nothing else",
		},
		"the ingress changes the content type": {
			ingress: func(*site) http.Handler { return echo("text/html", "") },
			code:    failure.HandshakeAltered,
			found:   `its type is "text/html" instead of text/plain`,
			hint:    "return the decoded validation token as text/plain and nothing else",
		},
		"the ingress does not answer": {
			ingress: func(*site) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			},
			code:  failure.NotificationURLUnreachable,
			found: "got no answer: no answer within 4s; it did not arrive at webhook.endpoint",
			hint:  "within 10 s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			g := s.checkURL(s.serve(test.ingress(s)), s.endpoint()+test.webhook)
			c := only(t, g)
			assert.Equal(t, test.warning, c.Mark == doctor.Warn)
			assert.Equal(t, test.code, c.Code, c.Found)
			assert.Contains(t, c.Found, test.found)
			assert.Contains(t, c.Hint, test.hint)
			assertFree(t, s.webhook)
		})
	}
}

func TestNotificationURL_ConnectionFails(t *testing.T) {
	t.Parallel()
	valid := echo("text/plain", "")
	wrongName := func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"www.example.com"}, nil }
	expired := func(c *x509.Certificate) {
		c.NotAfter = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
		c.NotBefore = c.NotAfter.AddDate(0, -3, 0)
	}
	for name, test := range map[string]struct {
		host  func(s *site) string
		code  failure.Code
		found string
	}{
		"the name does not exist": {
			host: func(*site) string { return "copilot.invalid" },
			code: failure.PublicNameNotResolved, found: "copilot.invalid",
		},
		"nothing listens": {
			host: func(s *site) string { return freeAddress(s.t) },
			code: failure.PublicAddressUnreachable, found: "refused",
		},
		"the connection is accepted and never answered": {
			host: func(s *site) string { return acceptAll(s.t, func(net.Conn) {}) },
			code: failure.PublicAddressUnreachable, found: "no answer within 4s",
		},
		"the connection is closed": {
			host: func(s *site) string { return acceptAll(s.t, func(c net.Conn) { _ = c.Close() }) },
			code: failure.PublicAddressUnreachable, found: "TLS with 127.0.0.1",
		},
		"the server speaks HTTP without TLS": {
			host: func(s *site) string {
				server := httptest.NewServer(answer(http.StatusOK))
				s.t.Cleanup(server.Close)
				return server.Listener.Addr().String()
			},
			code: failure.PublicTLSVersion, found: "TLS handshake",
		},
		"the server has TLS 1.1 at most": {
			host: func(s *site) string {
				return serveTLS(s.t, valid, &tls.Config{
					Certificates: []tls.Certificate{s.ca.issue(s.t)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
				})
			},
			code: failure.PublicTLSVersion, found: "answers with TLS 1.1",
		},
		"the certificate has expired": {
			host: func(s *site) string { return s.serveWith(s.ca.issue(s.t, expired), valid) },
			code: failure.PublicCertificate, found: "127.0.0.1: it expired on 2026-01-02",
		},
		"the certificate is for another name": {
			host: func(s *site) string { return s.serveWith(s.ca.issue(s.t, wrongName), valid) },
			code: failure.PublicCertificate, found: "127.0.0.1: it is for www.example.com",
		},
		"the certificate is for another name and has expired": {
			host: func(s *site) string { return s.serveWith(s.ca.issue(s.t, wrongName, expired), valid) },
			code: failure.PublicCertificate, found: "127.0.0.1: it is for www.example.com, and it expired on 2026-01-02",
		},
		"the certificate is signed by itself": {
			host: func(s *site) string {
				own := newAuthority(s.t, "self", nil)
				return s.serveWith(tls.Certificate{Certificate: [][]byte{own.certificate.Raw}, PrivateKey: own.key}, valid)
			},
			code: failure.PublicCertificate, found: "it is signed by itself and not by a public CA",
		},
		"the CA is not public": {
			host: func(s *site) string {
				return s.serveWith(newAuthority(s.t, "company issuer", newAuthority(s.t, "company root", nil)).issue(s.t), valid)
			},
			code: failure.PublicCertificate, found: `the chain from "company issuer" leads to no public CA`,
		},
		"the intermediate certificate is missing": {
			host: func(s *site) string {
				pair := newAuthority(s.t, "public issuer", s.ca).issue(s.t)
				pair.Certificate = pair.Certificate[:1]
				return s.serveWith(pair, valid)
			},
			code: failure.PublicCertificate, found: `the server sends no intermediate certificate of "public issuer"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			g := s.checkURL(test.host(s), s.endpoint())
			c := only(t, g)
			assert.Equal(t, doctor.Fail, c.Mark)
			assert.Equal(t, test.code, c.Code, c.Found)
			assert.Contains(t, c.Found, test.found)
			assert.NotEmpty(t, c.Hint)
			assert.Contains(t, g.Checks, doctor.Check{Mark: doctor.Skip, Found: "without a valid connection no validation request is sent"})
			assertFree(t, s.webhook)
		})
	}
}

// acceptAll accepts connections and passes each to handle, until the test ends.
func acceptAll(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			handle(conn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return listener.Addr().String()
}

func TestNotificationURL_CertificateIsValid(t *testing.T) {
	t.Parallel()
	t.Run("a chain with an intermediate certificate is valid", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.ca = newAuthority(t, "public issuer", s.ca)
		pair := s.ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Date(2199, 1, 2, 3, 0, 0, 0, time.UTC) })
		g := s.checkURL(s.serveWith(pair, s.forward(nil)), s.endpoint())
		require.Equal(t, doctor.OK, g.Mark(), "%+v", g)
		// The root is valid for a year, and its end is that of the chain.
		assert.Contains(t, g.Checks[1].Found, "valid until "+s.ca.certificate.NotAfter.UTC().Format(time.DateOnly))
		assert.Equal(t, "TLS 1.3", g.Checks[2].Found)
	})
	t.Run("a certificate for six days, of which two are left, is valid", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		pair := s.ca.issue(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-4*24*time.Hour), time.Now().Add(2*24*time.Hour)
		})
		g := s.checkURL(s.serveWith(pair, s.forward(nil)), s.endpoint())
		assert.Equal(t, doctor.OK, g.Mark(), "%+v", g)
	})
	t.Run("a certificate that ends within 14 days is a warning, and the handshake is made", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		pair := s.ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(13 * 24 * time.Hour) })
		host := s.serveWith(pair, s.forward(nil))
		g := s.checkURL(host, s.endpoint())
		c := only(t, g)
		assert.Equal(t, doctor.Warn, c.Mark)
		assert.Equal(t, failure.PublicCertificate, c.Code)
		assert.Contains(t, g.Checks[len(g.Checks)-1].Found, "the validation request was answered")
	})
}

// The doctor serves the certificate of webhook.tls, which is the public one where nothing stands before the webhook.
func TestNotificationURL_DoctorListensWithTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	certFile, keyFile := writeFiles(t, s.dir, s.ca.issue(t))
	g := s.checkURL(s.webhook, s.endpoint()+", tls: {cert_file: '"+certFile+"', key_file: '"+keyFile+"'}")
	require.Equal(t, doctor.OK, g.Mark(), "%+v", g)
	assert.Contains(t, g.Checks[len(g.Checks)-1].Found, "answered by the doctor")
	assertFree(t, s.webhook)
}

func TestNotificationURL_ListenerFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		webhook func(s *site) string
		code    failure.Code
		found   string
	}{
		"webhook.endpoint is an address of another machine": {
			webhook: func(*site) string { return "endpoint: '203.0.113.1:8443', tls_terminated_upstream: true" },
			code:    failure.ListenAddressInvalid, found: "webhook.endpoint",
		},
		"the certificate of webhook.tls is missing": {
			webhook: func(s *site) string {
				return s.endpoint() + ", tls: {cert_file: '" + s.dir + "/none.pem', key_file: '" + s.dir + "/none.pem'}"
			},
			code: failure.ListenerCertificate, found: "webhook.tls",
		},
		"another program listens on webhook.endpoint": {
			webhook: func(s *site) string {
				server := httptest.NewServer(answer(http.StatusForbidden))
				s.t.Cleanup(server.Close)
				s.webhook = server.Listener.Addr().String()
				return s.endpoint()
			},
			code: failure.ListenAddressInUse, found: `a validation request for "/graph/notifications" is answered there with 403`,
		},
		"a collector with another webhook.path runs": {
			webhook: func(s *site) string {
				s.runCollector("/before")
				return s.endpoint()
			},
			code: failure.ListenAddressInUse, found: "a collector with another configuration",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			webhook := test.webhook(s)
			c := only(t, s.checkURL(s.serve(echo("text/plain", "")), webhook))
			assert.Equal(t, doctor.Fail, c.Mark)
			assert.Equal(t, test.code, c.Code, c.Found)
			assert.Contains(t, c.Found, test.found)
		})
	}
}

// The extension is that of the collector, so this program can't do what it does.
func TestNotificationURL_ListenerNeedsExtension(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	g := s.checkURL(s.serve(echo("text/plain", "")), s.endpoint()+", auth: {authenticator: basicauth}")
	assert.Equal(t, doctor.Skip, g.Mark(), "%+v", g)
	assert.Equal(t, "the validation request was answered", g.Checks[3].Found)
	assert.Contains(t, g.Checks[4].Found, "the doctor can't listen on webhook.endpoint: webhook: ")
}

// Graph sends again what comes while the doctor listens in place of the collector.
func TestNotificationURL_NotificationsAreNotAccepted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	status := make(chan int, 1)
	forward := s.forward(nil)
	host := s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		notification := httptest.NewRecorder()
		n := httptest.NewRequestWithContext(r.Context(), http.MethodPost, publicPath, strings.NewReader(`{"value":[{}]}`))
		n.Header.Set("Content-Type", "application/json")
		forward.ServeHTTP(notification, n)
		status <- notification.Code
		forward.ServeHTTP(w, r)
	}))
	require.Equal(t, doctor.OK, s.checkURL(host, s.endpoint()).Mark())
	assert.Equal(t, http.StatusServiceUnavailable, <-status)
}

func TestNotificationURL_NoneIsConfigured(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	r := h.check(t, "    subscription: {notification_url: ''}\n    history: {poll_interval: 5m}\n    storage: file_storage",
		"extensions: {file_storage: {directory: '"+h.dir+"'}}\nservice: {extensions: [file_storage]}")
	for name, found := range map[string]string{
		"notification URL": "none is configured, the history is polled",
		"subscriptions":    "none is needed, the history is polled",
	} {
		assert.Equal(t, []doctor.Check{{Mark: doctor.Skip, Found: found}}, group(t, r, name).Checks)
	}
}
