package m365copilotreceiver

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
)

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

// closedAddress returns a host:port that refuses connections.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
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
		"a proxy that refuses connections": {closedAddress, []string{"connection refused"}},
	}
	for name, proxy := range proxies {
		for call, prepare := range map[string]func(*Config, string){
			"the token call": func(c *Config, address string) {
				c.Auth.Authority, c.Graph.Endpoint = "https://login.invalid", "https://graph.invalid"
				c.Graph.ProxyURL = "http://scott:tiger@" + address
			},
			"the call of Graph": func(c *Config, address string) {
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
				for _, said := range []string{line, event.Err().Error()} {
					for _, want := range append(proxy.want, address, "graph.proxy_url", "HTTPS_PROXY", "NO_PROXY") {
						assert.Contains(t, said, want)
					}
					for _, misleading := range []string{"tenant_id", "tiger", "scott", "auth.authority"} {
						assert.NotContains(t, said, misleading)
					}
				}
			})
		}
	}
}
