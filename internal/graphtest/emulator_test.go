// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"context"
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

func TestNew_RequiresTenantAndClient(t *testing.T) {
	t.Parallel()
	assert.Panics(t, func() { graphtest.New(graphtest.Settings{TenantID: tenantID}) })
	assert.Panics(t, func() { graphtest.New(graphtest.Settings{ClientID: clientID}) })
}

func TestStart_ListensOnce(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	_, err := g.Start("")
	require.ErrorContains(t, err, "already listening")
	other := graphtest.New(graphtest.Settings{TenantID: tenantID, ClientID: clientID})
	defer other.Close()
	_, err = other.Start(g.url[len("http://"):])
	require.ErrorContains(t, err, "listen on 127.0.0.1:")
}

func TestSetClock_MovesTheDateOfAnswers(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for _, offset := range []time.Duration{0, 3 * time.Hour, -time.Minute} {
		g.SetClock(offset)
		_, header, _ := g.exchange(http.MethodGet, "/v1.0/subscriptions", nil)
		date, err := http.ParseTime(header.Get("Date"))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now().Add(offset), date, 10*time.Second)
	}
}

func TestServeHTTP_WorksBehindAnyServer(t *testing.T) {
	t.Parallel()
	emulator := graphtest.New(graphtest.Settings{TenantID: tenantID, ClientID: clientID})
	defer emulator.Close()
	server := httptest.NewTLSServer(emulator)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/common/.well-known/openid-configuration", http.NoBody)
	require.NoError(t, err)
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	assert.Equal(t, http.StatusOK, response.StatusCode)
}

func TestWait_EndsWithContext(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := g.WaitSubscribed(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, g.WaitDelivered(ctx, 1), context.DeadlineExceeded)
}

func TestWaitSubscribed_ReturnsSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	found := make(chan graphtest.Subscription, 1)
	ctx := deadline(t)
	go func() {
		s, _ := g.WaitSubscribed(ctx)
		found <- s
	}()
	want := g.subscribe(e, nil)
	got := <-found
	assert.Equal(t, want, got)
	assert.Equal(t, "state", got.ClientState)
	assert.Equal(t, e.der, got.EncryptionCertificate)
	assert.Equal(t, 1, g.Stats().Subscriptions)
}

func TestCertificates_FitTheirPurpose(t *testing.T) {
	t.Parallel()
	server, err := graphtest.ServerCertificate(time.Hour)
	require.NoError(t, err)
	_, err = server.TLS()
	require.NoError(t, err)
	certificate, err := server.X509()
	require.NoError(t, err)
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		require.NoError(t, certificate.VerifyHostname(host))
	}
	_, err = graphtest.Pair{Certificate: []byte("notes")}.Pool()
	require.ErrorContains(t, err, "no certificate in PEM")
	_, err = graphtest.EncryptionCertificate(1, time.Hour)
	require.Error(t, err)
}

func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// newDiscardEndpoint starts an endpoint that acknowledges everything unread, so that only the emulator's speed is measured, and
// returns its URL.
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

// It is not parallel because it measures time.
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
