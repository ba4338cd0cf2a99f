package m365copilotreceiver

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"
)

// connectionCount is how many connections a server has open, and has had in all.
type connectionCount struct {
	mu          sync.Mutex // guards what follows
	open, total int
}

func (c *connectionCount) note(_ net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open++
		c.total++
	case http.StateClosed, http.StateHijacked:
		c.open--
	case http.StateActive, http.StateIdle:
	}
}

func (c *connectionCount) now() (open, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.total
}

func TestReceiver_ShutdownClosesConnectionsToGraph(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *harness){
		"with a client secret": func(*testing.T, *harness) {},
		"with headers": func(_ *testing.T, h *harness) {
			h.config.Graph.Headers = configopaque.MapList{{Name: "X-Proxy", Value: "a"}}
		},
		"with an authenticator extension": func(t *testing.T, h *harness) {
			t.Helper()
			host := strings.TrimPrefix(h.config.Graph.Endpoint, "http://")
			// The extension's own connections are not the receiver's to close.
			authority := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
				r.Host = host
				h.emulator.ServeHTTP(writer, r)
			}))
			t.Cleanup(authority.Close)
			h.withAuthenticator(t, authority.URL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			counted := &connectionCount{}
			graph := httptest.NewUnstartedServer(h.emulator)
			graph.Config.ConnState = counted.note
			graph.Start()
			t.Cleanup(graph.Close)
			h.config.Graph.Endpoint, h.config.Auth.Authority = graph.URL, graph.URL
			change(t, h)
			h.run(t)
			h.deliver(t, newTurns(2)...)
			h.stop(t)
			_, total := counted.now()
			require.Positive(t, total)
			require.Eventually(t, func() bool { open, _ := counted.now(); return open == 0 }, 5*time.Second, 10*time.Millisecond,
				"a connection stays open for 90 s")
			assert.Empty(t, h.emulator.Violations())
		})
	}
}
