package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

const (
	// MaxIdleTimeout is the longest allowed idle timeout of a connection, and the default.
	MaxIdleTimeout = 10 * time.Second
	// maxHeaderBytes is far more than the about 1 KiB of headers that Microsoft Graph sends.
	maxHeaderBytes = 32 << 10
	// maxConcurrentStreams limits the concurrent requests of one HTTP/2 connection. For more, a sender waits or opens another.
	maxConcurrentStreams = 128
	// flushTimeout is the time that answers get to reach their senders once all deliveries have ended.
	flushTimeout = time.Second
)

// ServerSettings configure a Server.
type ServerSettings struct {
	// Config is the configuration of the listener. The server does not modify it.
	Config  confighttp.ServerConfig
	Handler *Handler
	// Fatal is called at most once, if the listener fails before Shutdown. It must not call Shutdown.
	Fatal  func(error)
	Logger *zap.Logger
}

// Server listens for the requests of Microsoft Graph and serves them with a Handler.
type Server struct {
	settings ServerSettings

	mu sync.Mutex
	// listener and server are nil before Start.
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup
}

// NewServer returns a Server that does not listen yet.
func NewServer(settings ServerSettings) *Server {
	return &Server{settings: settings}
}

// Start listens, and serves in the background. extensions are those of the component's host. An error names the configuration
// key that caused it and says what to do. ctx is only used while starting.
func (s *Server) Start(ctx context.Context, extensions map[component.ID]component.Component, telemetry component.TelemetrySettings) error {
	config := s.settings.Config
	server, err := config.ToServer(ctx, extensions, telemetry, s.settings.Handler, confighttp.WithErrorHandler(s.rejectRequest))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	server.MaxHeaderBytes = maxHeaderBytes
	server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: maxConcurrentStreams}
	server.ErrorLog = newServerLog(s.settings.Logger)
	listener, err := listen(ctx, config, maxConnections)
	if err != nil {
		return err
	}
	server.ConnContext = withConnection
	if server.IdleTimeout <= 0 {
		server.IdleTimeout = MaxIdleTimeout
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.server = listener, server
	s.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.settings.Fatal(fmt.Errorf("webhook.endpoint: the listener on %s died, restart the collector: %w", listener.Addr(), err))
		}
	})
	s.settings.Logger.Info("webhook listens", zap.Stringer("address", listener.Addr()), zap.Bool("tls", config.TLS.HasValue()))
	return nil
}

// Addr returns the address on which the server listens, nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Shutdown refuses new notifications, closes the listener and waits for all deliveries to end. If ctx ends first, it cancels
// them and returns an error that wraps the cause of ctx. It may be called without Start and more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	handler := s.settings.Handler
	handler.Refuse()

	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	if server == nil {
		return handler.Drain(ctx)
	}
	flushing, stopFlushing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFlushing()
	var closing sync.WaitGroup
	closing.Go(func() {
		// This closes the listener immediately, then idle connections. What is left when flushing ends is closed below.
		_ = server.Shutdown(flushing)
	})
	err := handler.Drain(ctx)
	flushed := time.AfterFunc(flushTimeout, stopFlushing)
	defer flushed.Stop()
	closing.Wait()
	_ = server.Close()
	s.serving.Wait()
	return err
}

// rejectRequest answers what confighttp refuses before it reaches the handler: failed authentication, and a body in an encoding
// that the configuration does not accept (400 in confighttp). It does not disclose the reason.
func (s *Server) rejectRequest(w http.ResponseWriter, r *http.Request, _ string, status int) {
	if status == http.StatusBadRequest {
		s.settings.Handler.respond(w, r, refuse(http.StatusUnsupportedMediaType, Malformed), time.Now())
		return
	}
	s.settings.Handler.respond(w, r, refuse(status, ""), time.Now())
}

// maxConnections limits the open connections. Microsoft Graph reuses its connections.
const maxConnections = 1024

// listen is like confighttp.ServerConfig.ToListener, with a limit on connections beneath TLS. If it wrapped TLS connections,
// net/http would not recognize them as such and would not serve HTTP/2.
func listen(ctx context.Context, config confighttp.ServerConfig, connections int) (net.Listener, error) {
	var tlsConfig *tls.Config
	if config.TLS.HasValue() {
		var err error
		if tlsConfig, err = config.TLS.Get().LoadTLSConfig(ctx); err != nil {
			return nil, fmt.Errorf("webhook.tls: %w: check the certificate and key, and that this process may read them", err)
		}
		tlsConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	plain, err := config.NetAddr.Listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("webhook.endpoint: %w: %s", err, listenHint(err))
	}
	limited := limitConnections(plain, connections)
	if tlsConfig == nil {
		return limited, nil
	}
	return tls.NewListener(limited, tlsConfig), nil
}

// listenHint says what to do if the server cannot listen.
func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop the program that listens there, or choose another port"
	case errors.Is(err, fs.ErrPermission):
		return "choose a port of 1024 or higher, or let this process bind lower ones (CAP_NET_BIND_SERVICE)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "use an address of this machine, or 0.0.0.0 for all of them"
	default:
		return "write host:port, with an address of this machine"
	}
}

// limitedLog receives what net/http cannot return as an error: failed TLS handshakes and panics. Anybody can cause the former,
// so they are logged at most a few times a minute. An invalid certificate, which fails every handshake, is still visible.
type limitedLog struct {
	logger *zap.Logger
	limit  *rate.Limiter
}

// The burst allows several messages at once, such as those of one faulty client.
const (
	limitedLogBurst    = 5
	limitedLogInterval = 15 * time.Second
)

// sampled drops a message that is logged too often within a minute.
func sampled(core zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(core, time.Minute, limitedLogBurst, 0)
}

func newServerLog(logger *zap.Logger) *log.Logger {
	return log.New(&limitedLog{
		logger: logger,
		limit:  rate.NewLimiter(rate.Every(limitedLogInterval), limitedLogBurst),
	}, "", 0)
}

func (l *limitedLog) Write(line []byte) (int, error) {
	if l.limit.Allow() {
		l.logger.Warn("webhook: a connection failed", zap.ByteString("reason", bytes.TrimSpace(line)))
	}
	return len(line), nil
}
