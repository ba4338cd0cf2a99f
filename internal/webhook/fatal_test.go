package webhook

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"
)

func TestAListenerThatDiesIsReported(t *testing.T) {
	t.Parallel()
	config := confighttp.NewDefaultServerConfig()
	config.NetAddr.Endpoint = "127.0.0.1:0"
	died := make(chan error, 1)
	server := NewServer(ServerSettings{
		Config:  config,
		Handler: NewHandler(Settings{}),
		Fatal:   func(err error) { died <- err },
		Logger:  zap.NewNop(),
	})
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
		server := NewServer(ServerSettings{
			Handler: NewHandler(Settings{}),
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
		require.True(t, <-ended, "Fatal is still being called")
	})
}
