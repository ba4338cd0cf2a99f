package subscription

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"syscall"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Failure is what Settings.Status gets: what could not be done, and what to do about it. It names no user.
type Failure struct {
	// Operation is list, create, renew, delete or replace.
	Operation string
	// Subject is list, tenant, surplus, notification_url, or a user by its place in Settings.Resources: users[3].
	Subject string
	// Err is the cause. Unlike Error, its own text may name a user.
	Err error

	text string
}

func (f *Failure) Error() string { return f.text + ". " + hint(f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func (a *retryState) failure() *Failure {
	return &Failure{
		Operation: a.operation,
		Subject:   a.name,
		Err:       a.err,
		text:      fmt.Sprintf("%s (%s): %s", a.operation, a.name, a.scrubbed()),
	}
}

// scrubbed is the error's text with the user's id, which Graph likes to repeat, taken out.
func (a *retryState) scrubbed() string {
	text := a.err.Error()
	if a.userID == "" {
		return text
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(a.userID)).ReplaceAllLiteralString(text, a.name)
}

// signature tells distinct failures apart, without what differs at each try. A token that cannot be had is the same
// failure whatever it was for.
func (a *retryState) signature() string {
	if a.err == nil {
		return ""
	}
	if e, ok := errors.AsType[*ConflictError](a.err); ok {
		return "foreign " + e.ID
	}
	if _, ok := errors.AsType[*KeyConflictError](a.err); ok {
		return "key conflict"
	}
	if e, ok := errors.AsType[*graph.TokenError](a.err); ok {
		return "token " + strconv.Itoa(e.Status) + " " + graph.Code(a.err)
	}
	if e, ok := errors.AsType[*graph.Error](a.err); ok {
		// Graph has one code for several failures, such as no license and a full quota.
		return a.operation + " " + strconv.Itoa(e.Status) + " " + e.Code + " " + hint(a.err)
	}
	// The text of a failed connection names ports that change, so its kind must do.
	kind := fmt.Sprintf("%T", root(a.err))
	if errno, ok := errors.AsType[syscall.Errno](a.err); ok {
		kind = errno.Error()
	}
	return a.operation + " " + kind + " " + hint(a.err)
}

func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func hint(err error) string {
	if e, ok := errors.AsType[*ConflictError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*KeyConflictError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*HandshakeError](err); ok {
		return e.Hint()
	}
	return graph.Hint(err)
}

// requestIDOf returns the id by which Microsoft's support finds the request, "" where there is none.
func requestIDOf(err error) string {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.RequestID
	}
	return ""
}
