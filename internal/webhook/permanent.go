package webhook

import (
	"errors"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// Permanent reports whether every leaf of an error is permanent, so that the same data would be refused again by all
// who refused it. One pipeline may refuse for good what another could not take just now: that must come again.
//
// Branches are those of errors.Join, of fmt.Errorf with several %w, and of go.uber.org/multierr. What wraps a branching
// error, even consumererror.NewPermanent, says nothing of its leaves.
func Permanent(err error) bool {
	for part := err; part != nil; part = errors.Unwrap(part) {
		if leaves, ok := branches(part); ok {
			return allPermanent(leaves)
		}
	}
	return consumererror.IsPermanent(err)
}

func allPermanent(errs []error) bool {
	found := false
	for _, err := range errs {
		if err == nil {
			continue
		}
		if !Permanent(err) {
			return false
		}
		found = true
	}
	return found
}

// branches looks at one error and not at what it wraps, hence no errors.As.
func branches(err error) ([]error, bool) {
	switch many := err.(type) { //nolint:errorlint // see above
	case interface{ Unwrap() []error }:
		return many.Unwrap(), true
	case interface{ Errors() []error }:
		return many.Errors(), true
	default:
		return nil, false
	}
}
