// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

func TestServer_ReportsListenerFailure(t *testing.T) {
	t.Parallel()
	config := confighttp.NewDefaultServerConfig()
	config.NetAddr.Endpoint = "127.0.0.1:0"
	died := make(chan error, 1)
	server := New(Settings{Config: config, Fatal: func(err error) { died <- err }, Logger: zap.NewNop()})
	require.NoError(t, server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))

	require.NoError(t, server.listener.Close())

	require.ErrorContains(t, <-died, "webhook.endpoint: the listener on 127.0.0.1")
	require.NoError(t, server.Shutdown(t.Context()))
}

func TestServer_ShutdownWaitsForServingGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var returned atomic.Bool
		release := make(chan struct{})
		server := New(Settings{
			Fatal: func(error) {
				<-release
				returned.Store(true)
			},
			Logger: zap.NewNop(),
		})
		server.server = &http.Server{ReadHeaderTimeout: time.Second}
		server.serving.Go(func() { server.settings.Fatal(nil) })
		ended := make(chan bool, 1)
		go func() {
			_ = server.Shutdown(t.Context())
			ended <- returned.Load()
		}()
		synctest.Wait()
		close(release)
		require.True(t, <-ended, "Shutdown waits for the call of Fatal")
	})
}

// The error is constructed, since a process that runs as root may bind any port.
func TestListenFailure_ForbiddenPort(t *testing.T) {
	t.Parallel()
	forbidden := fmt.Errorf("listen tcp :443: %w", os.NewSyscallError("bind", syscall.EACCES))
	assert.Equal(t, failure.ListenPortForbidden, listenFailure(forbidden).Code)
	assert.Equal(t, failure.ListenAddressInvalid, listenFailure(errors.New("other")).Code)
}

// Unauthenticated clients must not fill the log with failed TLS handshakes.
func TestErrorLog_WritesOneLineAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		serverLog := newErrorLog(zap.New(core))
		for range 1000 {
			serverLog.Print("http: TLS handshake error from 192.0.2.1:4711: EOF")
		}
		require.Equal(t, 1, logs.Len())
		assert.Equal(t, "http: TLS handshake error from 192.0.2.1:4711: EOF", logs.All()[0].ContextMap()["reason"])
		assert.Equal(t, string(failure.ConnectionFailed), logs.All()[0].ContextMap()["code"])

		time.Sleep(time.Minute)
		serverLog.Print("later")
		serverLog.Print("one too many")
		assert.Equal(t, 2, logs.Len())
	})
}
