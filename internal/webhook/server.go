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
	// MaxIdleTimeout is how long a connection may be without a request at most, and is where the configuration does not say.
	MaxIdleTimeout = 10 * time.Second
	// maxHeaderBytes is ample for Microsoft Graph, whose requests have about 1 KiB of headers.
	maxHeaderBytes = 32 << 10
	// maxConcurrentStreams bounds the requests of one HTTP/2 connection. A sender with more waits or opens another.
	maxConcurrentStreams = 128
	// flushTimeout is how long answers may take to reach their senders once all deliveries have ended.
	flushTimeout = time.Second
)

// ServerSettings are what a Server needs.
type ServerSettings struct {
	// Config is the configuration of the listener. The server works on a copy of its own.
	Config  confighttp.ServerConfig
	Handler *Handler
	// Fatal is called, at most once, if the listener dies without Shutdown. It must not call Shutdown itself.
	Fatal  func(error)
	Logger *zap.Logger
}

// Server is the listener that Microsoft Graph reaches, with a Handler behind it.
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

// Start listens and serves in the background. Extensions are those of the component's host. An error names the key of
// the configuration that caused it, and what to do. The context is for starting only.
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

// Addr returns the address that the server listens on, nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Refuse makes every notification from now on be answered 503. Shutdown does so too.
func (s *Server) Refuse() { s.settings.Handler.Refuse() }

// Shutdown refuses new notifications, closes the listener, and waits for the deliveries under way until ctx ends; then it
// cancels them and returns an error that wraps the cause of ctx. It is safe without Start, and more than once.
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
		// It closes the listener at once, then idle connections; what is left when flushing ends is closed below.
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

// rejectRequest answers what confighttp refuses before it reaches the handler: failed authentication, and a body in an
// encoding that the configuration does not accept (confighttp says 400). The reason stays inside.
func (s *Server) rejectRequest(w http.ResponseWriter, r *http.Request, _ string, status int) {
	if status == http.StatusBadRequest {
		s.settings.Handler.respond(w, r, refuse(http.StatusUnsupportedMediaType, Malformed), time.Now())
		return
	}
	s.settings.Handler.respond(w, r, refuse(status, ""), time.Now())
}

// maxConnections bounds the connections that are open at once. Microsoft Graph reuses its connections.
const maxConnections = 1024

// listen does what confighttp.ServerConfig.ToListener does, with the bound on connections beneath TLS: a wrapped TLS
// connection would hide from net/http that it is one, and with that HTTP/2.
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

// listenHint says what to do about an address that cannot be listened on.
func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop the program that listens there, or choose another port"
	case errors.Is(err, fs.ErrPermission):
		return "choose a port from 1024 on, or let this process bind lower ones (CAP_NET_BIND_SERVICE)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "use an address of this machine, or 0.0.0.0 for all of them"
	default:
		return "write host:port, with an address of this machine"
	}
}

// limitedLog is where net/http writes what it cannot tell a caller: failed TLS handshakes, panics. Anybody on the
// internet can cause the former, so they are logged at most a few times each minute; an unreadable certificate, which
// fails every handshake, still shows.
type limitedLog struct {
	logger *zap.Logger
	limit  *rate.Limiter
}

// Some complaints may come at once, such as those of one broken client.
const (
	limitedLogBurst    = 5
	limitedLogInterval = 15 * time.Second
)

// sampled drops a message that comes too often within a minute.
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
