// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// clientThroughProxy returns a client of Graph at an https endpoint behind the proxy.
func clientThroughProxy(t *testing.T, proxy string) *graph.Client {
	t.Helper()
	address, err := url.Parse(proxy)
	require.NoError(t, err)
	transport := &http.Transport{Proxy: http.ProxyURL(address)}
	t.Cleanup(transport.CloseIdleConnections)
	return newGraph(graph.Settings{Endpoint: "https://graph.invalid", HTTP: &http.Client{Transport: graph.ThroughProxy(transport)}})
}

func TestThroughProxy_NamesRefusingProxy(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]failure.Code{
		http.StatusForbidden:         failure.ProxyRefusing,
		http.StatusUnauthorized:      failure.ProxyLoginMissing,
		http.StatusProxyAuthRequired: failure.ProxyLoginMissing,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, http.MethodConnect, r.Method)
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		address := server.Listener.Addr().String()
		_, err := clientThroughProxy(t, "http://scott:tiger@"+address).ListSubscriptions(t.Context())
		refused := fmt.Sprintf("proxy %s refused to connect: %d %s", address, status, http.StatusText(status))
		require.EqualError(t, err, "list subscriptions: graph.invalid: "+refused)
		assert.Equal(t, failure.New(code, address), failure.Of(err))
	}
}

// closedAddress is an address that nothing listens on, and that nobody gets who asks for any port.
const closedAddress = "127.0.0.1:1"

func TestThroughProxy_NamesUnreachableProxy(t *testing.T) {
	t.Parallel()
	_, err := clientThroughProxy(t, "http://scott:tiger@"+closedAddress).ListSubscriptions(t.Context())
	assert.Equal(t, failure.New(failure.ProxyUnreachable), failure.Of(err))
	assert.Contains(t, err.Error(), closedAddress)
	assert.NotContains(t, err.Error(), "tiger")
}

func TestThroughProxy_LeavesOtherFailuresUnchanged(t *testing.T) {
	t.Parallel()
	direct := newGraph(graph.Settings{Endpoint: "https://" + closedAddress, HTTP: &http.Client{Transport: graph.ThroughProxy(&http.Transport{})}})
	_, err := direct.ListSubscriptions(t.Context())
	require.Error(t, err)
	assert.Equal(t, failure.New(failure.Unreachable, "graph.endpoint"), failure.Of(err))
}
