package webhook_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func TestTheStreamsOfAConnectionAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	server := serve(t, newHarness().handler(), tlsConfig(dir, 0))
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

func TestShutdownDoesNotWaitForASlowHTTP2Sender(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := trusting(t, writeCertificate(t, dir, 1))
	around := newHarness()
	handler := around.handler()
	config := tlsConfig(dir, 0)
	config.ReadTimeout, config.ReadHeaderTimeout = 0, 0
	server := serve(t, handler, config)
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
	require.Eventually(t, func() bool { return handler.InFlightBytes() > 0 }, 5*time.Second, time.Millisecond)

	began := time.Now()
	require.NoError(t, server.Shutdown(t.Context()))

	assert.Less(t, time.Since(began), 4*time.Second)
	assert.Equal(t, http.StatusServiceUnavailable, <-status)
	assert.Equal(t, counts{webhook.Stopping: 1}, around.counted())
	_ = writer.Close()
}
