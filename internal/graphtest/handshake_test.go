// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// newTLSEndpoint starts an endpoint that serves every request with f. It returns its URL and the change of the settings with which the
// emulator trusts its certificate.
func newTLSEndpoint(t *testing.T, f http.HandlerFunc) (endpointURL string, roots func(*graphtest.Settings)) {
	t.Helper()
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests break connections
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return server.URL, func(s *graphtest.Settings) { s.RootCAs = pool }
}

func TestHandshake_RequiresExactAnswer(t *testing.T) {
	t.Parallel()
	token := func(r *http.Request) string { return r.URL.Query().Get("validationToken") }
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		message string
		timeout time.Duration // 0 for the default
	}{
		"status 202": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, token(r))
		}, "Subscription validation request failed. HTTP status code is 'Accepted'. Notification endpoint must respond with 200 OK to validation request.", 0},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		}, "HTTP status code is 'TemporaryRedirect'.", 0},
		"another content type": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, token(r))
		}, "must be of type text/plain", 0},
		"a quoted token": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, `"`+token(r)+`"`)
		}, "must be exactly the validationToken", 0},
		"the token still encoded": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, url.QueryEscape(token(r)))
		}, "must be exactly the validationToken", 0},
		"the token with + not decoded": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			half, _ := url.PathUnescape(r.URL.RawQuery[len("validationToken="):])
			_, _ = io.WriteString(w, half)
		}, "must be exactly the validationToken", 0},
		"a trailing newline": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, token(r)+"\n")
		}, "must be exactly the validationToken", 0},
		"a late answer": {
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"Subscription validation request timed out.", 500 * time.Millisecond,
		},
		"a truncated body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}, "can't be reached", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, settings := newTLSEndpoint(t, c.answer)
			g, e := start(t, func(s *graphtest.Settings) { settings(s); s.HandshakeTimeout = c.timeout }), newEndpoint(t)
			e.url = target
			status, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, nil))
			code, message := errorOf(answer)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Equal(t, "ValidationError", code)
			assert.Contains(t, message, c.message)
			assert.Empty(t, g.Subscriptions())
			assert.Equal(t, 1, g.Stats().HandshakesFailed)
		})
	}
}

func TestHandshake_ValidatesBothURLs(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 2)
	target, settings := newTLSEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, r.URL.Query().Get("validationToken"))
	})
	g, e := start(t, settings), newEndpoint(t)
	e.url = target + "/n?code=1"
	g.subscribe(e, with("lifecycleNotificationUrl", target+"/l"))
	first, second := <-seen, <-seen
	assert.Equal(t, "/n", first.URL.Path)
	assert.Equal(t, "1", first.URL.Query().Get("code"))
	assert.Equal(t, "/l", second.URL.Path)
	assert.Equal(t, http.MethodPost, first.Method)
	assert.Equal(t, "text/plain; charset=utf-8", first.Header.Get("Content-Type"))
	for _, character := range []string{" ", ":", "+", "%"} {
		assert.Contains(t, first.URL.Query().Get("validationToken"), character)
	}
}

func TestHandshake_FailsWithUntrustedCertificate(t *testing.T) {
	t.Parallel()
	target, _ := newTLSEndpoint(t, func(http.ResponseWriter, *http.Request) {})
	g, e := start(t, nil), newEndpoint(t)
	e.url = target
	_, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, nil))
	_, message := errorOf(answer)
	assert.Contains(t, message, "certificate")
	_, err := g.Handshake(t.Context(), "https://bad host/")
	require.ErrorContains(t, err, "not a URL")
}
