package webhook_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// The connection over the limit has asked long before the others; it is answered only when one of them has gone. With TLS
// a connection counts from the moment that it is accepted, before any handshake.
func TestTheConnectionOverTheLimitWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	for name, test := range map[string]struct {
		config confighttp.ServerConfig
		secure func(net.Conn) net.Conn
	}{
		"without TLS": {localConfig(), func(c net.Conn) net.Conn { return c }},
		"beneath TLS": {tlsConfig(dir, 0), func(c net.Conn) net.Conn {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			around := newHouse()
			config := test.config
			config.ReadTimeout, config.ReadHeaderTimeout = 0, 0
			server := serve(t, around.handler(), config)
			connections := make([]net.Conn, 1024)
			for i := range connections {
				connections[i] = dial(t, server)
			}
			first, last := test.secure(connections[0]), test.secure(connections[1023])
			ask(t, first)
			waiting, asked := test.secure(dial(t, server)), make(chan struct{})
			go func() {
				defer close(asked)
				ask(t, waiting)
			}()
			for range 50 {
				ask(t, last)
			}
			assert.Equal(t, 51, around.handshaken(), "the one that waits was not answered")

			require.NoError(t, connections[1].Close())
			<-asked
			assert.Equal(t, 52, around.handshaken())
		})
	}
}

// ask sends a handshake and hears its answer. It may run in any goroutine.
func ask(t *testing.T, connection net.Conn) {
	t.Helper()
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(connection, "POST "+path+"?validationToken=abc HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if assert.NoError(t, err) {
		token, _ := io.ReadAll(answer.Body)
		assert.Equal(t, "abc", string(token))
	}
}

// The bars: with a pipeline that takes at once 99 of 100 answers come within 1 s, and with one that blocks all of them
// come within 3 s. It measures time, so nothing runs beside it.
func TestAnswersOn64Connections(t *testing.T) {
	t.Run("a quick pipeline", func(t *testing.T) {
		around := newHouse()
		took := storm(t, around, 50, http.StatusAccepted)
		assert.Less(t, took[len(took)*99/100], time.Second)
		assert.Equal(t, counts{webhook.Delivered: 64 * 50}, around.counted())
		t.Logf("quick: median %v, p99 %v, slowest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	})
	t.Run("a pipeline that blocks", func(t *testing.T) {
		around := newHouse()
		around.take = func(ctx context.Context, _ []interaction.Received) error {
			<-ctx.Done()
			return ctx.Err()
		}
		took := storm(t, around, 1, http.StatusServiceUnavailable)
		assert.Less(t, took[len(took)-1], 3*time.Second)
		assert.Equal(t, counts{webhook.TimedOut: 64}, around.counted())
		t.Logf("blocking: median %v, slowest %v", took[len(took)/2], took[len(took)-1])
	})
}

// storm sends notifications of 16 KiB on 64 connections and returns how long each answer took, the quickest first.
func storm(t *testing.T, around *house, each, status int) []time.Duration {
	t.Helper()
	handler := around.handler()
	server := webhook.NewServer(webhook.ServerSettings{Config: localConfig(), Handler: handler, Fatal: func(error) {}, Logger: zap.NewNop()})
	require.NoError(t, server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	client := newClient(t, &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64})
	url := "http://" + server.Addr().String() + path
	body := padded(16 << 10)
	var mu sync.Mutex
	var took []time.Duration
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for range each {
				began := time.Now()
				got, err := post(t.Context(), client, url, body)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				assert.Equal(t, status, got, err)
			}
		})
	}
	senders.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = server.Shutdown(ctx) // cuts the deliveries that block
	assert.Zero(t, handler.InFlightBytes())
	slices.Sort(took)
	return took
}
