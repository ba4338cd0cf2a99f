package graphtest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
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
