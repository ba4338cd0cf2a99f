// SPDX-License-Identifier: Apache-2.0

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

	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

const (
	// MaxIdleTimeout is the longest allowed idle timeout of a connection, and the default.
	MaxIdleTimeout = 10 * time.Second
	// maxHeaderBytes is far more than the about 1 KiB of headers that Microsoft Graph sends.
	maxHeaderBytes = 32 << 10
	// maxConcurrentStreams limits the concurrent requests of one HTTP/2 connection. For more, a sender waits or opens another.
	maxConcurrentStreams = 128
	// maxConnections limits the open connections. Microsoft Graph reuses its connections.
	maxConnections = 1024
	// flushTimeout is the time that answers get to reach their senders once all deliveries have ended.
	flushTimeout = time.Second
)

// Server listens for the requests of Microsoft Graph and answers them. Its methods are called one after another.
type Server struct {
	settings Settings
	handler  *handler

	// listener and server are nil before Start.
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup
}

// New returns a Server that does not listen yet.
func New(settings Settings) *Server {
	return &Server{settings: settings, handler: newHandler(settings)}
}

// Start listens, and serves in the background. extensions are those of the component's host. An error names the configuration
// key that caused it, and has a failure if it is one of the listener. ctx is only used while starting.
func (s *Server) Start(ctx context.Context, extensions map[component.ID]component.Component, telemetry component.TelemetrySettings) error {
	config := s.settings.Config
	server, err := config.ToServer(ctx, extensions, telemetry, s.handler, confighttp.WithErrorHandler(s.rejectRequest))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	server.MaxHeaderBytes = maxHeaderBytes
	server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: maxConcurrentStreams}
	server.ErrorLog = newErrorLog(s.settings.Logger)
	if server.IdleTimeout <= 0 {
		server.IdleTimeout = MaxIdleTimeout
	}
	if err := limitConnections(server); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	listener, err := listen(ctx, config)
	if err != nil {
		return err
	}
	s.listener, s.server = listener, server
	s.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.settings.Fatal(failure.With(
				fmt.Errorf("webhook.endpoint: the listener on %s failed: %w", listener.Addr(), err), failure.New(failure.ListenerDied)))
		}
	})
	s.settings.Logger.Info("webhook listens", zap.Stringer("address", listener.Addr()), zap.Bool("tls", config.TLS.HasValue()))
	return nil
}

// Addr returns the address on which the server listens, nil before Start.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Shutdown refuses new notifications, closes the listener and waits for all deliveries to end. If ctx ends first, it cancels
// them and returns an error that wraps the cause of ctx. It may be called without Start and more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	deliveries := s.handler.deliveries
	deliveries.stop()
	if s.server == nil {
		return deliveries.wait(ctx)
	}
	immediately, cancel := context.WithCancel(ctx)
	cancel()
	// With a context that has ended, this only closes the listener and idle connections.
	_ = s.server.Shutdown(immediately)
	err := deliveries.wait(ctx)
	flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	_ = s.server.Shutdown(flushing) // what is left then is closed next
	_ = s.server.Close()
	s.serving.Wait()
	return err
}

// rejectRequest answers what confighttp refuses before it reaches the handler: failed authentication, and a body in an encoding
// that the configuration does not accept (400 in confighttp). It does not disclose the reason.
func (s *Server) rejectRequest(w http.ResponseWriter, r *http.Request, _ string, status int) {
	closeAfterAnswer(w, r)
	if status == http.StatusBadRequest {
		s.handler.answer(w, r, time.Now(), http.StatusUnsupportedMediaType, Malformed)
		return
	}
	s.handler.answer(w, r, time.Now(), status, "")
}

// limitConnections limits the open connections of a server. New connections do not wait, since idle connections of
// unauthenticated clients could then keep Microsoft Graph out. Instead the one is closed that has been idle longest, which
// means that nothing authentic was received on it since. Nothing else that is sent keeps a connection open.
func limitConnections(server *http.Server) error {
	open, err := lru.NewWithEvict(maxConnections, func(conn net.Conn, _ struct{}) {
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn() // which, unlike a TLS connection, is closed without writing to it
		}
		_ = conn.Close()
	})
	if err != nil {
		return err
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(conn, struct{}{})
		case http.StateClosed, http.StateHijacked:
			open.Remove(conn)
		case http.StateActive, http.StateIdle:
		}
	}
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, func() { open.Get(conn) })
	}
	return nil
}

// listen is like confighttp.ServerConfig.ToListener, with errors that have a failure.
func listen(ctx context.Context, config confighttp.ServerConfig) (net.Listener, error) {
	var tlsConfig *tls.Config
	if config.TLS.HasValue() {
		var err error
		if tlsConfig, err = config.TLS.Get().LoadTLSConfig(ctx); err != nil {
			return nil, failure.With(fmt.Errorf("webhook.tls: %w", err), failure.New(failure.ListenerCertificate))
		}
		tlsConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	listener, err := config.NetAddr.Listen(ctx)
	if err != nil {
		return nil, failure.With(fmt.Errorf("webhook.endpoint: %w", err), listenFailure(err))
	}
	if tlsConfig == nil {
		return listener, nil
	}
	return tls.NewListener(listener, tlsConfig), nil
}

func listenFailure(err error) failure.Failure {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failure.New(failure.ListenAddressInUse)
	case errors.Is(err, fs.ErrPermission):
		return failure.New(failure.ListenPortForbidden)
	default:
		return failure.New(failure.ListenAddressInvalid)
	}
}

// rarely returns a logger that writes each message at most once a minute, since anybody can cause messages.
func rarely(logger *zap.Logger) *zap.Logger {
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 1, 0)
	}))
}

// newErrorLog returns a logger of what net/http cannot return as an error: failed TLS handshakes, such as all of them if the
// certificate is invalid, and panics.
func newErrorLog(logger *zap.Logger) *log.Logger {
	return log.New(errorLog{rarely(logger)}, "", 0)
}

type errorLog struct{ logger *zap.Logger }

func (l errorLog) Write(line []byte) (int, error) {
	l.logger.Warn("webhook: a connection failed",
		append(failure.New(failure.ConnectionFailed).Fields(), zap.ByteString("reason", bytes.TrimSpace(line)))...)
	return len(line), nil
}
