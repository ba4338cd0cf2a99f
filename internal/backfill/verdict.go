package backfill

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// outcome is what an answer means for the user asked for, and for all others.
type outcome int

const (
	ok outcome = iota
	// unlicensed: this user has no history to read.
	unlicensed
	// forbidden: this user may not be read; where none may, a permission is missing.
	forbidden
	// denied: nobody can be read until somebody mends something.
	denied
	// throttled: Graph asks the application to stay away for a while.
	throttled
	// broken: it failed, and may well succeed another time.
	broken
)

// classify reads an error of Graph.
func classify(err error) outcome {
	if err == nil {
		return ok
	}
	status := 0
	if e, ok := errors.AsType[*graph.Error](err); ok {
		status = e.Status
	}
	_, token := errors.AsType[*graph.TokenError](err)
	_, credential := errors.AsType[*graph.CredentialError](err)
	switch {
	case status == http.StatusTooManyRequests || graph.RetryAfter(err) > 0:
		return throttled
	case token || credential || status == http.StatusUnauthorized || graph.Unsupported(err):
		return denied
	case graph.Unlicensed(err):
		return unlicensed
	case graph.Forbidden(err):
		return forbidden
	default:
		return broken
	}
}

// backoff returns how long to wait after so many failures in a row: doubling from 1 s to longest, with equal jitter.
func backoff(failures int, longest time.Duration) time.Duration {
	bound := doubling(failures, time.Second, longest)
	return bound/2 + rand.N(bound/2+1) //nolint:gosec // G404: jitter needs no secrecy.
}

// doubling is backoff without jitter, for what is seldom anyway.
func doubling(failures int, first, longest time.Duration) time.Duration {
	shift := max(failures-1, 0)
	if shift > 20 || first<<shift > longest {
		return longest
	}
	return first << shift
}
