// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/confighttp"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// Requests of unauthenticated clients: a complete handshake, and a notification whose body does not end.
const (
	handshake  = "POST " + path + "?validationToken=abc HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
	unfinished = "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)

// A genuine sender is answered immediately, however many connections other clients open and reopen, whether they send one
// request on them or nothing.
func TestServer_AnswersWhileConnectionsAreHeld(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	tests := map[string]struct {
		config confighttp.ServerConfig
		secure func(net.Conn) net.Conn
		scheme string
		number int
		sends  string
	}{
		"1,030 connections that send nothing": {
			config: localConfig(), scheme: "http", number: 1030,
		},
		"5,000 connections that send a handshake each": {
			config: localConfig(), scheme: "http", number: 5000, sends: handshake,
		},
		"1,030 connections that send a handshake over TLS": {
			config: tlsConfig(dir, 0), scheme: "https", number: 1030, sends: handshake,
			secure: func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) },
		},
		"1,030 connections whose bodies do not end": {
			config: localConfig(), scheme: "http", number: 1030, sends: unfinished,
		},
		"1,030 connections that do not start TLS": {
			config: tlsConfig(dir, 0), scheme: "https", number: 1030,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness()
			server := serve(t, h, test.config)
			ctx, stop := context.WithCancel(t.Context())
			var unauthenticated sync.WaitGroup
			defer unauthenticated.Wait()
			defer stop()
			open, reconnects := &sync.WaitGroup{}, rate.NewLimiter(50, 10)
			open.Add(test.number)
			dialing := make(chan struct{}, 16) // the clients' TLS must not take the processors from the server
			for range test.number {
				unauthenticated.Go(func() {
					once := sync.OnceFunc(open.Done)
					defer once()
					for ctx.Err() == nil {
						dialing <- struct{}{}
						release := sync.OnceFunc(func() { <-dialing })
						holdConnection(ctx, server.Addr(), test.secure, test.sends, func() { once(); release() })
						release()
						_ = reconnects.Wait(ctx)
					}
				})
			}
			open.Wait()
			posted := 0
			for range 20 {
				client := newClient(t, &http.Transport{
					DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				})
				assert.Less(t, graphtest.Undisturbed(t.Context(), time.Second, func() time.Duration {
					start := time.Now()
					status, err := post(ctx, client, test.scheme+"://"+server.Addr().String()+path, oneItem)
					took := time.Since(start)
					require.NoError(t, err)
					assert.Equal(t, http.StatusAccepted, status)
					posted++
					return took
				}), time.Second)
			}
			assert.Equal(t, posted, h.counted()[webhook.Delivered])
		})
	}
}

// holdConnection opens a connection and keeps it until the server closes it, or ctx ends.
func holdConnection(ctx context.Context, address net.Addr, secure func(net.Conn) net.Conn, sends string, decrypted func()) {
	connection, err := (&net.Dialer{}).DialContext(ctx, address.Network(), address.String())
	if err != nil {
		return
	}
	plain := connection
	defer func() { _ = plain.Close() }()
	defer context.AfterFunc(ctx, func() { _ = plain.Close() })()
	if secure != nil {
		connection = secure(connection)
	}
	_, _ = io.WriteString(connection, sends)
	if sends == handshake {
		_, _ = http.ReadResponse(bufio.NewReader(connection), nil)
	}
	decrypted()
	_, _ = io.Copy(io.Discard, connection)
}

func TestServer_ClosesIdleConnection(t *testing.T) {
	t.Parallel()
	config := localConfig()
	config.Keepalive.GetOrInsertDefault().IdleTimeout = 50 * time.Millisecond
	server := serve(t, newHarness(), config)
	connection := dial(t, server)
	require.NoError(t, connection.SetDeadline(time.Now().Add(20*time.Second)))
	_, err := fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, len(oneItem), oneItem)
	require.NoError(t, err)
	reader := bufio.NewReader(connection)
	answer, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	assert.False(t, answer.Close, "an authentic sender may keep its connection")
	_, _ = io.Copy(io.Discard, answer.Body)
	_, err = reader.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
}

// All other connections have a request that does not end, and one more is opened before the genuine sender sends anything on its
// new connection. The connection on which it sent something before was opened first.
func TestServer_ClosesConnectionIdleLongestAtLimit(t *testing.T) {
	t.Parallel()
	config := localConfig()
	config.ReadTimeout, config.ReadHeaderTimeout = 0, 0
	config.Keepalive.GetOrInsertDefault().IdleTimeout = time.Minute
	server := serve(t, newHarness(), config)
	first := dial(t, server)
	unauthenticated := make([]net.Conn, 1023)
	for i := range unauthenticated {
		unauthenticated[i] = dial(t, server)
		_, err := io.WriteString(unauthenticated[i], unfinished)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return server.Handler().InFlightBytes() >= 1023*webhook.MinReservation }, 20*time.Second, time.Millisecond,
		"every request is in flight")
	assert.Equal(t, http.StatusAccepted, postOn(t, first))
	second := dial(t, server)
	dial(t, server)
	for _, closed := range unauthenticated[:2] { // closed once both new connections are accepted
		require.NoError(t, closed.SetDeadline(time.Now().Add(10*time.Second)))
		_, err := closed.Read(make([]byte, 1))
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the oldest unauthenticated connections are closed")
	}
	assert.Equal(t, http.StatusAccepted, postOn(t, second))
	assert.Equal(t, http.StatusAccepted, postOn(t, first))
}

// postOn sends a genuine notification on a connection and returns the status.
func postOn(t *testing.T, connection net.Conn) int {
	t.Helper()
	require.NoError(t, connection.SetDeadline(time.Now().Add(20*time.Second)))
	_, err := fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, len(oneItem), oneItem)
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}
