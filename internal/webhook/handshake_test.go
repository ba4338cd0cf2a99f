// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// unreadBody is a body that must not be read.
type unreadBody struct{ read bool }

func (u *unreadBody) Read([]byte) (int, error) {
	u.read = true
	return 0, errors.New("the body was read")
}

func TestHandshake_EchoesToken(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		query  string
		status int
		body   string
	}{
		"a token is echoed":                                {"validationToken=abc", http.StatusOK, "abc"},
		"a plus is a space":                                {"validationToken=Validation%3a+Testing+client", http.StatusOK, "Validation: Testing client"},
		"an escaped plus is a plus":                        {"validationToken=a%2Bb", http.StatusOK, "a+b"},
		"markup is echoed as it is, not escaped":           {"validationToken=%3Cb%3E%22%26", http.StatusOK, `<b>"&`},
		"bytes that are not UTF-8 stay as they are":        {"validationToken=%ff%00%0a", http.StatusOK, "\xff\x00\n"},
		"the notification URL may have a query of its own": {"code=1&validationToken=abc", http.StatusOK, "abc"},
		"a token of 4 KiB is echoed":                       {"validationToken=" + strings.Repeat("x", 4096), http.StatusOK, strings.Repeat("x", 4096)},
		"the decoded length counts":                        {"validationToken=" + strings.Repeat("%20", 4096), http.StatusOK, strings.Repeat(" ", 4096)},
		"a longer token is refused":                        {"validationToken=" + strings.Repeat("x", 4097), http.StatusBadRequest, "Bad Request\n"},
		"an empty token is refused":                        {"validationToken=", http.StatusBadRequest, "Bad Request\n"},
		"a token without a value is refused":               {"validationToken", http.StatusBadRequest, "Bad Request\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness()
			body := &unreadBody{}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path+"?"+test.query, body)
			r.Header.Set("Content-Type", "text/plain; charset=utf-8")

			answer := answerTo(h.handler(), r)

			echoed, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, test.body, string(echoed))
			assert.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"))
			if test.status == http.StatusOK {
				assert.Equal(t, "text/plain", answer.Header.Get("Content-Type"))
			}
			assert.False(t, body.read)
			assert.Equal(t, map[int]int{test.status: 1}, h.handshakes)
			assert.Empty(t, h.statuses, "a handshake is not counted as acknowledged")
		})
	}
}

func TestHandshake_IsAnsweredWhenFullAndStopping(t *testing.T) {
	t.Parallel()
	h := newHarness()
	settings := h.settings()
	settings.MaxInFlightBytes = 0
	handler := webhook.NewHandler(settings)
	handler.Refuse()

	answer := answerTo(handler, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path+"?validationToken=abc", http.NoBody))

	assert.Equal(t, http.StatusOK, answer.StatusCode)
}

func TestHandshake_LogsOtherPathOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		h := newHarness()
		settings := h.settings()
		settings.Logger = zap.New(core)
		handler := webhook.NewHandler(settings)
		request := func(method, target string) {
			answerTo(handler, httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody))
		}
		for _, other := range []struct{ method, target string }{
			{http.MethodPost, path + "?validationToken=abc"},
			{http.MethodPost, "/elsewhere"},
			{http.MethodPost, "/elsewhere?token=abc"},
			{http.MethodGet, "/elsewhere?validationToken=abc"},
		} {
			request(other.method, other.target)
		}
		require.Empty(t, logs.All(), "none of these is a handshake at another path")

		long := "/a%0Ab%22" + strings.Repeat("x", 1000)
		for range 1000 {
			request(http.MethodPost, long+"?validationToken=abc")
		}
		require.Len(t, logs.All(), 1)
		line := logs.All()[0]
		assert.Equal(t, zapcore.WarnLevel, line.Level)
		assert.Equal(t, path, line.ContextMap()["served_path"])
		assert.Equal(t, `"/a\nb\"`+strings.Repeat("x", 195)+`"`, line.ContextMap()["requested_path"], "200 bytes, quoted")
		assert.Contains(t, line.ContextMap()["hint"], "webhook.path")

		time.Sleep(time.Minute)
		request(http.MethodPost, long+"?validationToken=abc")
		request(http.MethodPost, long+"?validationToken=abc")
		assert.Len(t, logs.All(), 2)
	})
}

// FuzzHandshake sends any token, escaped in a query, and expects it back byte for byte.
func FuzzHandshake(f *testing.F) {
	f.Add("Validation: Testing client application reachability for subscription Request-Id: 7c0d3a1e")
	f.Add("a+b&c=d;e%20f\r\n\x00\xff<script>")
	handler := newHarness().handler()
	f.Fuzz(func(t *testing.T, token string) {
		query := url.Values{"validationToken": {token}}.Encode()
		answer := answerTo(handler, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path+"?"+query, http.NoBody))
		if token == "" || len(token) > 4096 {
			require.Equal(t, http.StatusBadRequest, answer.StatusCode)
			return
		}
		echoed, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Equal(t, token, string(echoed))
	})
}
