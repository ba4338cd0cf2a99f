// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// requireFinding requires a check of the group with the mark and the code that contains all texts, in what was found or in the hint.
func requireFinding(t *testing.T, r doctor.Report, name string, mark doctor.Mark, code failure.Code, texts ...string) {
	t.Helper()
	var reasons []string
	for _, c := range group(t, r, name).Checks {
		all := fmt.Sprintf("%s %s %s: %s", c.Mark, c.Code, c.Found, c.Hint)
		missing := ""
		for _, text := range texts {
			if !strings.Contains(all, text) {
				missing = text
			}
		}
		if c.Mark == mark && c.Code == code && missing == "" {
			return
		}
		reasons = append(reasons, all)
	}
	require.Failf(t, "no such finding", "%s %s with %q in\n%s", mark, code, texts, strings.Join(reasons, "\n"))
}

// requireAllWell requires that all checks of the group are well and returns what they found.
func requireAllWell(t *testing.T, r doctor.Report, name string) string {
	t.Helper()
	var found []string
	for _, c := range group(t, r, name).Checks {
		require.Equal(t, doctor.OK, c.Mark, "%s: %s", name, c.Found)
		found = append(found, c.Found)
	}
	return strings.Join(found, "; ")
}

// printed returns the report with every check, in both forms.
func printed(t *testing.T, r doctor.Report) string {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, r.WriteText(&text, true))
	require.NoError(t, r.WriteJSON(&text))
	return text.String()
}

// startServer starts a server that answers with the handler. Tests break its connections, so it logs nothing.
func startServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func TestNetwork_IsWell(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	found := requireAllWell(t, h.check(t, "", ""), "network")
	host := strings.TrimPrefix(h.url, "http://")
	assert.Regexp(t, "^"+host+" answers; "+host+" answers; the clock is (right|[1-9]s ahead of Microsoft's)$", found)
	for _, r := range h.emulator.Requests(graphtest.OpKeys, graphtest.OpUnknown) {
		assert.Empty(t, r.Header.Get("Authorization"))
	}
}

func TestNetwork_FailsForEachService(t *testing.T) {
	t.Parallel()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	redirecting := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://sign-in.example.com", http.StatusFound)
	})
	plain := startServer(t, func(http.ResponseWriter, *http.Request) {})
	closed := freeAddress(t)
	for name, test := range map[string]struct {
		address string
		code    failure.Code
		text    string
	}{
		"the name is not resolved":       {"https://service.invalid", failure.NameNotResolved, "service.invalid"},
		"the connection is refused":      {"https://" + closed, failure.Unreachable, "refused"},
		"the certificate is not trusted": {untrusted.URL, failure.CertificateNotTrusted, "graph.tls.ca_file"},
		"there is no TLS":                {strings.Replace(plain.URL, "http:", "https:", 1), failure.NotTLS, "TLS"},
		"a sign-in page redirects":       {redirecting.URL, failure.Redirected, "302 Found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			scope := h.url + "/.default" // that of the address would be unknown
			r := h.check(t, fmt.Sprintf("    auth: {scope: %q}\n    graph: {endpoint: %q}", scope, test.address), "")
			requireFinding(t, r, "network", doctor.Fail, test.code, test.text, "graph.endpoint")
			requireFinding(t, r, "network", doctor.OK, "", "answers")
			requireAllWell(t, r, "token")
			requireFinding(t, r, "licenses", doctor.Skip, "", "Microsoft Graph was not reached")
			assert.Contains(t, requireAllWell(t, r, "credentials"), "Microsoft Graph was not reached")

			r = h.check(t, fmt.Sprintf("    auth: {authority: %q}", test.address), "")
			requireFinding(t, r, "network", doctor.Fail, test.code, test.text, "auth.authority")
			requireFinding(t, r, "token", doctor.Skip, "", "the login service was not reached")
			requireFinding(t, r, "permissions", doctor.Skip, "", "no access token")
			requireFinding(t, r, "licenses", doctor.Skip, "", "no access token")
			requireFinding(t, r, "credentials", doctor.Skip, "", "no access token")
		})
	}
}

// firstRequest returns the time of the first request for an operation.
func (h *harness) firstRequest(t *testing.T, operation graphtest.Operation) time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, operation, 1), operation)
	return h.emulator.Requests(operation)[0].At
}

func TestNetwork_FailsWithoutAnswerInTime(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.emulator.Fail(graphtest.OpKeys, graphtest.Fault{Delay: time.Minute})
	h.emulator.Fail(graphtest.AnyGraph, graphtest.Fault{Delay: time.Minute})
	r := h.check(t, "", "")
	login, graph := h.firstRequest(t, graphtest.OpKeys), h.firstRequest(t, graphtest.OpUnknown)
	assert.Less(t, login.Sub(graph).Abs(), 4*time.Second, "both services are asked at the same time")
	requireFinding(t, r, "network", doctor.Fail, failure.Unreachable, "no answer within 4s", "auth.authority")
	requireFinding(t, r, "network", doctor.Fail, failure.Unreachable, "no answer within 4s", "graph.endpoint")
	requireFinding(t, r, "network", doctor.Skip, "", "the clock was not checked")
}

// The signing keys of validation tokens come from the authority, whatever the token endpoint.
func TestNetwork_ChecksTokenURLOfAnotherHost(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	closed := freeAddress(t)
	r := h.check(t, fmt.Sprintf("    auth: {token_url: %q}", "http://"+closed+"/token"), "")
	requireFinding(t, r, "network", doctor.Fail, failure.Unreachable, closed, "auth.token_url")
	requireFinding(t, r, "token", doctor.Skip, "", "the login service was not reached")

	r = h.check(t, fmt.Sprintf("    auth: {token_url: %q, authority: %q}", h.url+"/"+tenant+"/oauth2/v2.0/token", "http://"+closed), "")
	requireFinding(t, r, "network", doctor.Fail, failure.Unreachable, closed, "auth.authority")
	requireAllWell(t, r, "token")
}

// The login of the proxy is in no report, whether the proxy works or not.
func TestNetwork_NamesProxy(t *testing.T) {
	t.Parallel()
	const login = "canary-proxy-password"
	forwarding := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host }})
	t.Cleanup(forwarding.Close)
	refusing := func(status int) string {
		return startServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }).Listener.Addr().String()
	}
	forbidding, unauthorized, closed := refusing(http.StatusForbidden), refusing(http.StatusProxyAuthRequired), freeAddress(t)
	h := newHarness(t)
	elsewhere := "    auth: {authority: \"https://login.invalid\"}\n    graph: {endpoint: \"https://graph.invalid\", proxy_url: %q}"

	address := forwarding.Listener.Addr().String()
	r := h.check(t, fmt.Sprintf("    graph: {proxy_url: %q}", "http://scott:"+login+"@"+address), "")
	assert.Contains(t, requireAllWell(t, r, "network"), "through the proxy "+address+" answers")
	assert.NotContains(t, printed(t, r), login)

	for _, test := range []struct {
		proxy string
		code  failure.Code
	}{
		{forbidding, failure.ProxyRefusing},
		{unauthorized, failure.ProxyLoginMissing},
		{closed, failure.ProxyUnreachable},
	} {
		r := h.check(t, fmt.Sprintf(elsewhere, "http://scott:"+login+"@"+test.proxy), "")
		requireFinding(t, r, "network", doctor.Fail, test.code, "login.invalid", test.proxy, "graph.proxy_url")
		requireFinding(t, r, "network", doctor.Fail, test.code, "graph.invalid", test.proxy, "graph.proxy_url")
		assert.NotContains(t, printed(t, r), login)
	}
}

func TestNetwork_TrustsConfiguredCA(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	server := httptest.NewTLSServer(h.emulator)
	t.Cleanup(server.Close)
	file := filepath.Join(h.dir, "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, ca, 0o600))
	r := h.check(t, fmt.Sprintf("    auth: {authority: %q}\n    graph: {endpoint: %q, tls: {ca_file: %q}}", server.URL, server.URL, file), "")
	requireAllWell(t, r, "network")
	requireAllWell(t, r, "token")
}

func TestNetwork_ComparesClocks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ahead time.Duration
		mark  doctor.Mark
	}{
		"30 seconds are no problem":                 {30 * time.Second, doctor.OK},
		"2 minutes ahead are to be looked at":       {2 * time.Minute, doctor.Warn},
		"2 minutes behind are to be looked at":      {-2 * time.Minute, doctor.Warn},
		"10 minutes ahead exceed the leeway":        {10 * time.Minute, doctor.Fail},
		"10 minutes behind exceed the leeway":       {-10 * time.Minute, doctor.Fail},
		"a clock that was never set exceeds it too": {-30 * 365 * day, doctor.Fail},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.emulator.SetClock(-test.ahead)
			r := h.check(t, "", "")
			code, text, direction := failure.ClockWrong, "check the clock of this machine", " ahead of Microsoft's"
			if test.mark == doctor.OK {
				code, text = "", ""
			}
			if test.ahead < 0 {
				direction = " behind Microsoft's"
			}
			requireFinding(t, r, "network", test.mark, code, "the clock is ", direction, text)
			found := regexp.MustCompile(`the clock is (\S+)`).FindStringSubmatch(printed(t, r))
			require.NotNil(t, found)
			shown, err := time.ParseDuration(found[1])
			require.NoError(t, err)
			assert.InDelta(t, test.ahead.Abs().Seconds(), shown.Seconds(), 5)
		})
	}
}

// A response from the cache of a proxy has the date at which it was cached.
func TestNetwork_IgnoresOneOldDate(t *testing.T) {
	t.Parallel()
	cached := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	})
	h := newHarness(t)
	r := h.check(t, fmt.Sprintf("    auth: {authority: %q, token_url: %q}", cached.URL, h.url+"/"+tenant+"/oauth2/v2.0/token"), "")
	requireAllWell(t, r, "network")
}
