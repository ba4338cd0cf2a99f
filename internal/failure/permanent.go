// SPDX-License-Identifier: Apache-2.0

package failure

import (
	"errors"
	"slices"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// Permanent reports whether every leaf of an error tree is permanent, so that a retry with the same data would fail again. If
// one pipeline refused the data permanently and another only temporarily, the data must be sent again.
//
// The nodes of a tree are the errors of errors.Join, of fmt.Errorf with several %w, and of go.uber.org/multierr. An error that
// wraps a node, even consumererror.NewPermanent, says nothing about its leaves.
func Permanent(err error) bool {
	for part := err; part != nil; part = errors.Unwrap(part) {
		if node, ok := part.(interface{ Unwrap() []error }); ok {
			leaves := slices.DeleteFunc(slices.Clone(node.Unwrap()), func(err error) bool { return err == nil })
			return len(leaves) > 0 && !slices.ContainsFunc(leaves, func(err error) bool { return !Permanent(err) })
		}
	}
	return consumererror.IsPermanent(err)
}
