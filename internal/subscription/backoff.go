package subscription

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	shortestBackoff = time.Second
	longestBackoff  = 5 * time.Minute
	// handshakeRetries are made without jitter, since whoever starts a collector waits for them: after 1, 2 and 4 s.
	handshakeRetries = 3
)

// backoff returns how long to wait after so many failures in a row: exponential between 1 s and 5 min with equal jitter.
func backoff(failures int) time.Duration {
	bound := longestBackoff
	if shift := max(failures, 1); shift < 9 {
		bound = min(shortestBackoff<<shift, longestBackoff)
	}
	//nolint:gosec // G404: jitter needs no secrecy.
	return bound/2 + rand.N(bound/2+1)
}

// statusOf returns the HTTP status of Graph's answer, 0 where Graph did not answer.
func statusOf(err error) int {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.Status
	}
	return 0
}

// scope is how far a failure concerns other calls.
type scope int

const (
	// requestScope: Graph refused this very request. Others may well succeed.
	requestScope scope = iota
	// serverScope: a failure of a server or of the way to it, which often meets the next request too.
	serverScope
	// applicationScope: without a token nothing will succeed, and a demand to stay away is meant for the application.
	applicationScope
)

func scopeOf(err error) scope {
	if _, ok := errors.AsType[*graph.TokenError](err); ok || graph.RetryAfter(err) > 0 {
		return applicationScope
	}
	if _, ok := errors.AsType[*graph.CredentialError](err); ok {
		return applicationScope
	}
	if _, ok := errors.AsType[*ConflictError](err); ok {
		return requestScope
	}
	if _, ok := errors.AsType[*KeyConflictError](err); ok {
		return requestScope
	}
	switch status := statusOf(err); {
	case status == http.StatusUnauthorized || status == http.StatusTooManyRequests:
		return applicationScope
	case status >= 400 && status < 500:
		return requestScope
	default:
		return serverScope
	}
}
