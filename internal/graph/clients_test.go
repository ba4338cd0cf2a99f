// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// newClients returns the clients of a configuration with a header for Graph.
func newClients(t *testing.T, change func(*confighttp.ClientConfig)) *graph.Clients {
	t.Helper()
	config := confighttp.NewDefaultClientConfig()
	config.Endpoint = "https://graph.invalid"
	config.Headers.Set("X-Key", configopaque.String("hush"))
	if change != nil {
		change(&config)
	}
	clients, err := graph.NewClients(t.Context(), config, &graph.CredentialSettings{}, nil, componenttest.NewNopTelemetrySettings(), &recordingTelemetry{})
	require.NoError(t, err)
	t.Cleanup(clients.Close)
	return clients
}

func TestReach_AcceptsAnyAnswer(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	for status, code := range map[int]failure.Code{
		200: "", 400: "", 401: "", 404: "", 500: "", 503: "", 302: failure.Redirected, 407: failure.ProxyLoginMissing,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Empty(t, r.Header.Get("X-Key"), "the headers for Graph are for Graph alone")
			w.Header().Set("Date", date.Format(http.TimeFormat))
			w.Header().Set("Location", "https://sign-in.invalid")
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		got, err := newClients(t, nil).Reach(t.Context(), server.URL, "the.key")
		assert.Equal(t, code, failure.Of(err).Code, status)
		if code == "" {
			require.NoError(t, err)
			assert.True(t, date.Equal(got), status)
		} else {
			assert.Contains(t, failure.Of(err).Hint, "the.key")
		}
	}
}

func TestProxy_IsThatOfTheConfiguration(t *testing.T) {
	t.Parallel()
	configured := newClients(t, func(c *confighttp.ClientConfig) { c.ProxyURL = "http://scott:tiger@proxy.example.com:3128" })
	assert.Equal(t, "proxy.example.com:3128", configured.Proxy("https://graph.invalid/v1.0"))
	assert.Empty(t, configured.Proxy("://"))
	assert.Empty(t, newClients(t, nil).Proxy("http://127.0.0.1:1"), "the environment's is not for this machine")
}
