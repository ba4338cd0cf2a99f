package webhook_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func localConfig() confighttp.ServerConfig {
	config := confighttp.NewDefaultServerConfig()
	config.NetAddr.Endpoint = "127.0.0.1:0"
	config.CompressionAlgorithms = []string{""}
	config.ReadTimeout = 10 * time.Second
	return config
}

// serve starts a server and ends it with the test.
func serve(t *testing.T, handler *webhook.Handler, config confighttp.ServerConfig) *webhook.Server {
	t.Helper()
	server := webhook.NewServer(webhook.ServerSettings{
		Config:  config,
		Handler: handler,
		Fatal:   func(err error) { t.Errorf("the listener died: %v", err) },
		Logger:  zap.NewNop(),
	})
	require.NoError(t, server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { require.NoError(t, server.Shutdown(context.WithoutCancel(t.Context()))) })
	return server
}

// post sends a notification and returns the status.
func post(ctx context.Context, client *http.Client, url, body string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// postAside does the same beside the test.
func postAside(t *testing.T, server *webhook.Server) <-chan int {
	t.Helper()
	client := newClient(t, &http.Transport{})
	answered := make(chan int, 1)
	go func() {
		status, err := post(t.Context(), client, "http://"+server.Addr().String()+path, oneItem)
		assert.NoError(t, err)
		answered <- status
	}()
	return answered
}

func newClient(t *testing.T, transport *http.Transport) *http.Client {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestServerDeliversAndEnds(t *testing.T) {
	t.Parallel()
	around := newHarness()
	server := serve(t, around.handler(), localConfig())

	assert.Equal(t, http.StatusAccepted, <-postAside(t, server))
	assert.Equal(t, counts{webhook.Delivered: 1}, around.counted())

	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, server.Shutdown(t.Context()))
	_, err := net.Dial("tcp", server.Addr().String())
	require.Error(t, err, "the listener is closed")
}

func TestShutdownWithoutStart(t *testing.T) {
	t.Parallel()
	server := webhook.NewServer(webhook.ServerSettings{Config: localConfig(), Handler: newHarness().handler(), Logger: zap.NewNop()})
	assert.Nil(t, server.Addr())
	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, server.Shutdown(t.Context()))
}

func TestStartSaysWhichKeyIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	endpoint := func(address string) func(*confighttp.ServerConfig) {
		return func(c *confighttp.ServerConfig) { c.NetAddr.Endpoint = address }
	}
	tests := map[string]struct {
		config func(*confighttp.ServerConfig)
		says   []string
	}{
		"the port is taken":                 {endpoint(taken.Addr().String()), []string{"webhook.endpoint: ", "choose another port"}},
		"the address is another machine's":  {endpoint("192.0.2.1:0"), []string{"webhook.endpoint: ", "an address of this machine"}},
		"the endpoint is not host and port": {endpoint("nonsense"), []string{"webhook.endpoint: ", "write host:port"}},
		"the certificate cannot be read": {func(c *confighttp.ServerConfig) {
			c.TLS = configoptional.Some(serverTLS("/nowhere/cert.pem", "/nowhere/key.pem"))
		}, []string{"webhook.tls: ", "check the certificate"}},
		"the authenticator does not exist": {func(c *confighttp.ServerConfig) {
			c.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: component.MustNewID("nobody")}})
		}, []string{"webhook: ", "nobody"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := localConfig()
			test.config(&config)
			server := webhook.NewServer(webhook.ServerSettings{Config: config, Handler: newHarness().handler(), Logger: zap.NewNop()})

			err := server.Start(t.Context(), map[component.ID]component.Component{}, componenttest.NewNopTelemetrySettings())

			for _, part := range test.says {
				require.ErrorContains(t, err, part)
			}
			require.NoError(t, server.Shutdown(t.Context()))
		})
	}
}

func TestShutdownLetsDeliveriesEndAndSendersHearOfIt(t *testing.T) {
	t.Parallel()
	around := newHarness()
	taking, finish := make(chan struct{}), make(chan struct{})
	around.take = func(context.Context, []interaction.Received) error {
		close(taking)
		<-finish
		return nil
	}
	server := serve(t, around.handler(), localConfig())
	address := server.Addr().String()
	status := postAside(t, server)
	<-taking

	down := make(chan error, 1)
	go func() { down <- server.Shutdown(context.WithoutCancel(t.Context())) }()
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
		}
		return err != nil
	}, 5*time.Second, time.Millisecond, "the listener closes while a delivery is under way")
	assert.Empty(t, down, "shutdown waits for the delivery")
	close(finish)

	assert.Equal(t, http.StatusAccepted, <-status)
	require.NoError(t, <-down)
}

func TestShutdownCutsDeliveriesWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	around := newHarness()
	taking := make(chan struct{})
	around.take = func(ctx context.Context, _ []interaction.Received) error {
		close(taking)
		<-ctx.Done()
		return ctx.Err()
	}
	server := serve(t, around.handler(), localConfig())
	status := postAside(t, server)
	<-taking
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	require.ErrorIs(t, server.Shutdown(ctx), context.Canceled)
	assert.Equal(t, http.StatusServiceUnavailable, <-status)
}

// A sender in the middle of its body, and one that has only connected, would hold a plain shutdown of net/http up.
func TestShutdownDoesNotWaitForSlowSenders(t *testing.T) {
	t.Parallel()
	around := newHarness()
	handler := around.handler()
	config := localConfig()
	config.ReadTimeout, config.ReadHeaderTimeout = 0, 0
	server := serve(t, handler, config)
	silent := dial(t, server)
	slow := dial(t, server)
	_, err := io.WriteString(slow, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n{")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return handler.InFlightBytes() > 0 }, 5*time.Second, time.Millisecond)

	began := time.Now()
	require.NoError(t, server.Shutdown(t.Context()))

	assert.Less(t, time.Since(began), 4*time.Second)
	said, _ := io.ReadAll(slow)
	assert.True(t, strings.HasPrefix(string(said), "HTTP/1.1 503 "), "%q", said)
	assert.Contains(t, string(said), "Retry-After: 5\r\n")
	_, err = silent.Read(make([]byte, 1))
	require.Error(t, err, "the connection is closed")
	assert.Equal(t, counts{webhook.Stopping: 1}, around.counted())
}

func TestASenderThatStallsIsCutOffByTheReadTimeout(t *testing.T) {
	t.Parallel()
	around := newHarness()
	config := localConfig()
	config.ReadTimeout = 50 * time.Millisecond
	server := serve(t, around.handler(), config)
	slow := dial(t, server)
	_, err := io.WriteString(slow, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
	require.NoError(t, err)

	said, _ := io.ReadAll(slow)

	assert.True(t, strings.HasPrefix(string(said), "HTTP/1.1 408 "), "%q", said)
	assert.Equal(t, counts{webhook.Interrupted: 1}, around.counted())
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	server := serve(t, newHarness().handler(), localConfig())
	for length, status := range map[int]string{16 << 10: "HTTP/1.1 404 ", 64 << 10: "HTTP/1.1 431 "} {
		connection := dial(t, server)
		go func() {
			_, _ = io.WriteString(connection, "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: "+strings.Repeat("x", length)+"\r\n\r\n")
		}()
		said := make([]byte, len(status))
		_, err := io.ReadFull(connection, said)
		require.NoError(t, err)
		assert.Equal(t, status, string(said))
	}
}

func TestWhatTheListenerRefusesSaysNoDetails(t *testing.T) {
	t.Parallel()
	denied := component.MustNewID("denied")
	around := newHarness()
	config := localConfig()
	config.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: denied}})
	server := webhook.NewServer(webhook.ServerSettings{Config: config, Handler: around.handler(), Logger: zaptest.NewLogger(t)})
	extensions := map[component.ID]component.Component{denied: denier{}}
	require.NoError(t, server.Start(t.Context(), extensions, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { require.NoError(t, server.Shutdown(context.WithoutCancel(t.Context()))) })

	answer, err := newClient(t, &http.Transport{}).Post("http://"+server.Addr().String()+path, "application/json", strings.NewReader(oneItem))
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	assertPlain(t, answer)
	assert.Equal(t, map[int]int{http.StatusUnauthorized: 1}, around.statuses)
}

func TestACompressedBodyIsUnsupportedBeforeTheHandlerToo(t *testing.T) {
	t.Parallel()
	around := newHarness()
	server := serve(t, around.handler(), localConfig())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Addr().String()+path, strings.NewReader("\x1f\x8b"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	answer, err := newClient(t, &http.Transport{}).Do(r)
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.StatusCode)
	assertPlain(t, answer)
	assert.Equal(t, counts{webhook.Malformed: 1}, around.counted())
}

type denier struct {
	component.StartFunc
	component.ShutdownFunc
}

func (denier) Authenticate(context.Context, map[string][]string) (context.Context, error) {
	return nil, errors.New("a detail that stays inside")
}

func dial(t *testing.T, server *webhook.Server) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}
