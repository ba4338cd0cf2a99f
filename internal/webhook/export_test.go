// SPDX-License-Identifier: Apache-2.0

package webhook

import "context"

const (
	// MinReservation is the number of bytes that every request counts at least.
	MinReservation = minReservation
	// FlushTimeout is how long a shutdown waits for open connections alone.
	FlushTimeout = flushTimeout
)

// Handler is the part of a Server that answers requests, for tests without a listener.
type Handler = handler

// NewHandler returns the handler of a Server.
func NewHandler(settings Settings) *Handler { return newHandler(settings) }

// Handler returns the handler of a server.
func (s *Server) Handler() *Handler { return s.handler }

// Refuse is the first step of a shutdown.
func (h *handler) Refuse() { h.deliveries.stop() }

// Drain is the second step of a shutdown.
func (h *handler) Drain(ctx context.Context) error { return h.deliveries.wait(ctx) }

// InFlightBytes returns the bytes that count against Settings.MaxInFlightBytes now.
func (h *handler) InFlightBytes() int64 { return h.limiter.inUse() }

func (l *byteLimiter) inUse() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}
