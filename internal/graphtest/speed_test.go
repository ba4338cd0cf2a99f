package graphtest_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// newDiscardEndpoint acknowledges everything without a look at it, so that the emulator's own speed shows.
func newDiscardEndpoint(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		if token := r.URL.Query().Get("validationToken"); token != "" {
			_, _ = io.WriteString(w, token)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	pair, err := serverPair()
	require.NoError(t, err)
	own, err := pair.TLS()
	require.NoError(t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// It runs alone, as what is measured is time.
func TestEmulator_Delivers20000InteractionsQuickly(t *testing.T) {
	const n, batch = 20_000, 10
	g, e, sink := start(t, nil), newEndpoint(t), newDiscardEndpoint(t)
	g.subscribe(e, func(body map[string]any) { body["notificationUrl"], body["lifecycleNotificationUrl"] = sink, sink })
	turns := graphtest.NewTurns(4, graphtest.TurnSettings{TenantID: tenantID, Users: 100})
	var interactions []graphtest.Interaction
	for i := 0; len(interactions) < n; i++ {
		interactions = append(interactions, turns.Next(streamStart.Add(time.Duration(i)*time.Second))...)
	}
	began := time.Now()
	for first := 0; first < n; first += batch {
		_, err := g.Publish(t.Context(), interactions[first:first+batch]...)
		require.NoError(t, err)
	}
	published := time.Since(began)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	delivered := time.Since(began)
	t.Logf("published in %s, delivered in %s", published, delivered)
	assert.Equal(t, n/batch, g.Stats().Attempts)
	assert.Less(t, delivered, 30*time.Second)
}
