// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"golang.org/x/net/http2"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
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

// serve starts a server and shuts it down at the end of the test.
func serve(t *testing.T, h *harness, config confighttp.ServerConfig) *webhook.Server {
	t.Helper()
	settings := h.settings()
	settings.Config = config
	settings.Fatal = func(err error) { t.Errorf("the listener died: %v", err) }
	server := webhook.New(settings)
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

// postAsync sends a notification in a goroutine and returns a channel with the status.
func postAsync(t *testing.T, server *webhook.Server) <-chan int {
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

func TestServer_DeliversAndShutsDown(t *testing.T) {
	t.Parallel()
	h := newHarness()
	server := serve(t, h, localConfig())

	assert.Equal(t, http.StatusAccepted, <-postAsync(t, server))
	assert.Equal(t, counts{webhook.Delivered: 1}, h.counted())

	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, server.Shutdown(t.Context()))
	_, err := net.Dial("tcp", server.Addr().String())
	require.Error(t, err, "the listener is closed")
}

func TestServer_ShutdownWithoutStart(t *testing.T) {
	t.Parallel()
	server := webhook.New(newHarness().settings())
	assert.Nil(t, server.Addr())
	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, server.Shutdown(t.Context()))
}

func TestServer_StartErrorNamesKeyAndFix(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	endpoint := func(address string) func(*confighttp.ServerConfig) {
		return func(c *confighttp.ServerConfig) { c.NetAddr.Endpoint = address }
	}
	tests := map[string]struct {
		config func(*confighttp.ServerConfig)
		want   []string
		code   failure.Code
	}{
		"the port is taken":                 {endpoint(taken.Addr().String()), []string{"webhook.endpoint: ", "another port"}, failure.ListenAddressInUse},
		"the address is another machine's":  {endpoint("192.0.2.1:0"), []string{"webhook.endpoint: ", "of this machine"}, failure.ListenAddressInvalid},
		"the endpoint is not host and port": {endpoint("nonsense"), []string{"webhook.endpoint: ", "host:port"}, failure.ListenAddressInvalid},
		"the certificate cannot be read": {func(c *confighttp.ServerConfig) {
			c.TLS = configoptional.Some(serverTLS("/nowhere/cert.pem", "/nowhere/key.pem"))
		}, []string{"webhook.tls: ", "check the certificate"}, failure.ListenerCertificate},
		"the authenticator does not exist": {func(c *confighttp.ServerConfig) {
			c.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: component.MustNewID("missing")}})
		}, []string{"webhook: ", "missing"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := newHarness().settings()
			test.config(&settings.Config)
			server := webhook.New(settings)

			err := server.Start(t.Context(), map[component.ID]component.Component{}, componenttest.NewNopTelemetrySettings())

			for _, part := range test.want {
				require.ErrorContains(t, failure.Explain(err), part)
			}
			assert.Equal(t, test.code, failure.Of(err).Code)
			require.NoError(t, server.Shutdown(t.Context()))
		})
	}
}

func TestServer_ShutdownWaitsForDeliveries(t *testing.T) {
	t.Parallel()
	h := newHarness()
	h.ackTimeout = time.Minute
	called, finish := make(chan struct{}), make(chan struct{})
	h.deliver = func(context.Context, []interaction.Received) error {
		close(called)
		<-finish
		return nil
	}
	server := serve(t, h, localConfig())
	address := server.Addr().String()
	status := postAsync(t, server)
	<-called

	down := make(chan error, 1)
	go func() { down <- server.Shutdown(context.WithoutCancel(t.Context())) }()
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
		}
		return err != nil
	}, 5*time.Second, time.Millisecond, "the listener is closed while a delivery is running")
	select {
	case err := <-down:
		assert.Fail(t, "shutdown does not wait for the delivery")
		down <- err
	case <-time.After(webhook.FlushTimeout + 200*time.Millisecond): // open connections alone are waited for until then
	}
	close(finish)

	assert.Equal(t, http.StatusAccepted, <-status)
	require.NoError(t, <-down)
}

func TestServer_ShutdownCancelsDeliveriesWithContext(t *testing.T) {
	t.Parallel()
	h := newHarness()
	called := make(chan struct{})
	h.deliver = func(ctx context.Context, _ []interaction.Received) error {
		close(called)
		<-ctx.Done()
		return ctx.Err()
	}
	server := serve(t, h, localConfig())
	status := postAsync(t, server)
	<-called
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	require.ErrorIs(t, server.Shutdown(ctx), context.Canceled)
	assert.Equal(t, http.StatusServiceUnavailable, <-status)
}

// A sender that has not finished its body and one that has only connected would delay a shutdown of net/http alone.
func TestServer_ShutdownDoesNotWaitForSlowSenders(t *testing.T) {
	t.Parallel()
	h := newHarness()
	config := localConfig()
	config.ReadTimeout, config.ReadHeaderTimeout = 0, 0
	server := serve(t, h, config)
	idle := dial(t, server)
	slow := dial(t, server)
	_, err := io.WriteString(slow, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n{")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return server.Handler().InFlightBytes() > 0 }, 5*time.Second, time.Millisecond)

	start := time.Now()
	require.NoError(t, server.Shutdown(t.Context()))

	assert.Less(t, time.Since(start), 4*time.Second)
	response, _ := io.ReadAll(slow)
	assert.True(t, strings.HasPrefix(string(response), "HTTP/1.1 503 "), "%q", response)
	assert.Contains(t, string(response), "Retry-After: 5\r\n")
	_, err = idle.Read(make([]byte, 1))
	require.Error(t, err, "the connection is closed")
	assert.Equal(t, counts{webhook.Stopping: 1}, h.counted())
}

func TestServer_ReadTimeoutEndsStalledRequest(t *testing.T) {
	t.Parallel()
	h := newHarness()
	config := localConfig()
	config.ReadTimeout = 50 * time.Millisecond
	server := serve(t, h, config)
	slow := dial(t, server)
	_, err := io.WriteString(slow, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
	require.NoError(t, err)

	response, _ := io.ReadAll(slow)

	assert.True(t, strings.HasPrefix(string(response), "HTTP/1.1 408 "), "%q", response)
	assert.Equal(t, counts{webhook.Interrupted: 1}, h.counted())
}

// A proxy that keeps idle connections for longer than the server can use HTTP/1.0, which has one for each request.
func TestServer_ClosesHTTP10Connections(t *testing.T) {
	t.Parallel()
	server := serve(t, newHarness(), localConfig())
	connection := dial(t, server)
	require.NoError(t, connection.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := fmt.Fprintf(connection, "POST %s HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, len(oneItem), oneItem)
	require.NoError(t, err)

	response, err := io.ReadAll(connection)

	require.NoError(t, err, "it is closed after the answer")
	assert.True(t, strings.HasPrefix(string(response), "HTTP/1.0 202 "), "%q", response)
}

func TestServer_LimitsHeaderSize(t *testing.T) {
	t.Parallel()
	server := serve(t, newHarness(), localConfig())
	for length, status := range map[int]string{16 << 10: "HTTP/1.1 404 ", 64 << 10: "HTTP/1.1 431 "} {
		connection := dial(t, server)
		go func() {
			_, _ = io.WriteString(connection, "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: "+strings.Repeat("x", length)+"\r\n\r\n")
		}()
		response := make([]byte, len(status))
		_, err := io.ReadFull(connection, response)
		require.NoError(t, err)
		assert.Equal(t, status, string(response))
	}
}

func TestServer_AuthenticationFailureHidesDetails(t *testing.T) {
	t.Parallel()
	denied := component.MustNewID("denied")
	h := newHarness()
	settings := h.settings()
	settings.Config.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: denied}})
	server := webhook.New(settings)
	extensions := map[component.ID]component.Component{denied: denier{}}
	require.NoError(t, server.Start(t.Context(), extensions, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { require.NoError(t, server.Shutdown(context.WithoutCancel(t.Context()))) })

	answer, err := newClient(t, &http.Transport{}).Post("http://"+server.Addr().String()+path, "application/json", strings.NewReader(oneItem))
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	assertPlain(t, answer)
	assert.Equal(t, map[int]int{http.StatusUnauthorized: 1}, h.statuses)
}

func TestServer_RejectsCompressedBody(t *testing.T) {
	t.Parallel()
	h := newHarness()
	server := serve(t, h, localConfig())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Addr().String()+path, strings.NewReader("\x1f\x8b"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	answer, err := newClient(t, &http.Transport{}).Do(r)
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.StatusCode)
	assertPlain(t, answer)
	assert.Equal(t, counts{webhook.Malformed: 1}, h.counted())
}

type denier struct {
	component.StartFunc
	component.ShutdownFunc
}

func (denier) Authenticate(context.Context, map[string][]string) (context.Context, error) {
	return nil, errors.New("a detail that must not be disclosed")
}

func dial(t *testing.T, server *webhook.Server) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func TestServer_LimitsHTTP2Streams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	server := serve(t, newHarness(), tlsConfig(dir, 0))
	connection := tls.Client(dial(t, server), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	_, err := io.WriteString(connection, http2.ClientPreface)
	require.NoError(t, err)
	framer := http2.NewFramer(connection, connection)
	require.NoError(t, framer.WriteSettings())

	frame, err := framer.ReadFrame()
	require.NoError(t, err)
	settings, ok := frame.(*http2.SettingsFrame)
	require.True(t, ok)
	streams, ok := settings.Value(http2.SettingMaxConcurrentStreams)
	require.True(t, ok)
	assert.EqualValues(t, 128, streams)
	headers, ok := settings.Value(http2.SettingMaxHeaderListSize)
	require.True(t, ok)
	assert.LessOrEqual(t, headers, uint32(33<<10))
}

func TestServer_ShutdownDoesNotWaitForSlowHTTP2Sender(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := trustingClient(t, writeCertificate(t, dir, 1))
	h := newHarness()
	config := tlsConfig(dir, 0)
	config.ReadTimeout, config.ReadHeaderTimeout = 0, 0
	server := serve(t, h, config)
	body, writer := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+server.Addr().String()+path, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	status := make(chan int, 1)
	go func() {
		answer, err := client.Do(r)
		if assert.NoError(t, err) {
			_ = answer.Body.Close()
			status <- answer.StatusCode
		}
	}()
	_, err = io.WriteString(writer, oneItem[:1])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return server.Handler().InFlightBytes() > 0 }, 5*time.Second, time.Millisecond)

	start := time.Now()
	require.NoError(t, server.Shutdown(t.Context()))

	assert.Less(t, time.Since(start), 4*time.Second)
	assert.Equal(t, http.StatusServiceUnavailable, <-status)
	assert.Equal(t, counts{webhook.Stopping: 1}, h.counted())
	_ = writer.Close()
}

func serverTLS(certFile, keyFile string) configtls.ServerConfig {
	config := configtls.NewDefaultServerConfig()
	config.CertFile, config.KeyFile = certFile, keyFile
	return config
}

// writeCertificate puts a new self-signed certificate for 127.0.0.1 in a directory.
func writeCertificate(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "webhook"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func tlsConfig(dir string, reload time.Duration) confighttp.ServerConfig {
	config := localConfig()
	secured := serverTLS(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	secured.ReloadInterval = reload
	config.TLS = configoptional.Some(secured)
	return config
}

func trustingClient(t *testing.T, certificates ...*x509.Certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return newClient(t, &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	})
}

func TestServer_ServesHTTP2OverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := writeCertificate(t, dir, 1)
	h := newHarness()
	server := serve(t, h, tlsConfig(dir, 0))

	answer, err := trustingClient(t, certificate).Post("https://"+server.Addr().String()+path, "application/json", strings.NewReader(oneItem))
	require.NoError(t, err)

	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assert.Equal(t, 2, answer.ProtoMajor)
	assert.NotNil(t, answer.TLS)
	assertPlain(t, answer)
}

func TestServer_ServesHTTP1OverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := writeCertificate(t, dir, 1)
	server := serve(t, newHarness(), tlsConfig(dir, 0))
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	client := newClient(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})

	answer, err := client.Post("https://"+server.Addr().String()+path+"?validationToken=abc", "text/plain", http.NoBody)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()

	assert.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Equal(t, 1, answer.ProtoMajor)
}

func TestServer_ReloadsRenewedCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	server := serve(t, newHarness(), tlsConfig(dir, time.Nanosecond))
	assert.EqualValues(t, 1, servedSerial(t, server.Addr()))

	writeCertificate(t, dir, 2)

	assert.EqualValues(t, 2, servedSerial(t, server.Addr()))
}

func servedSerial(t *testing.T, address net.Addr) int64 {
	t.Helper()
	connection, err := tls.Dial("tcp", address.String(), &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// With a fast pipeline, 99 % of the answers arrive within 1 s; with a blocked pipeline, all arrive within 3 s. The test is not
// parallel, since it measures time.
func TestServer_AnswersInTimeOn64Connections(t *testing.T) {
	t.Run("a fast pipeline", func(t *testing.T) {
		assert.Less(t, graphtest.Undisturbed(t.Context(), time.Second, func() time.Duration {
			h := newHarness()
			durations := measureLatencies(t, h, 50, http.StatusAccepted)
			assert.Equal(t, counts{webhook.Delivered: 64 * 50}, h.counted())
			p99 := durations[len(durations)*99/100]
			t.Logf("fast: median %v, p99 %v, slowest %v", durations[len(durations)/2], p99, durations[len(durations)-1])
			return p99
		}), time.Second)
	})
	t.Run("a blocked pipeline", func(t *testing.T) {
		assert.Less(t, graphtest.Undisturbed(t.Context(), 3*time.Second, func() time.Duration {
			h := newHarness()
			h.deliver = func(ctx context.Context, _ []interaction.Received) error {
				<-ctx.Done()
				return ctx.Err()
			}
			durations := measureLatencies(t, h, 1, http.StatusServiceUnavailable)
			assert.Equal(t, counts{webhook.TimedOut: 64}, h.counted())
			slowest := durations[len(durations)-1]
			t.Logf("blocked: median %v, slowest %v", durations[len(durations)/2], slowest)
			return slowest
		}), 3*time.Second)
	})
}

// measureLatencies sends notifications of 16 KiB on 64 connections and returns the durations until the answers, sorted.
func measureLatencies(t *testing.T, h *harness, each, status int) []time.Duration {
	t.Helper()
	server := webhook.New(h.settings())
	require.NoError(t, server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	client := newClient(t, &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64})
	url := "http://" + server.Addr().String() + path
	body := padded(16 << 10)
	var mu sync.Mutex
	var durations []time.Duration
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for range each {
				start := time.Now()
				got, err := post(t.Context(), client, url, body)
				mu.Lock()
				durations = append(durations, time.Since(start))
				mu.Unlock()
				assert.Equal(t, status, got, err)
			}
		})
	}
	senders.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = server.Shutdown(ctx) // cancels the blocked deliveries
	assert.Zero(t, server.Handler().InFlightBytes())
	slices.Sort(durations)
	return durations
}
