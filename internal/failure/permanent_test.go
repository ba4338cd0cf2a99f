// SPDX-License-Identifier: Apache-2.0

package failure_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// collected is an error with several leaves, of which some may be nil.
type collected []error

func (c collected) Error() string   { return "several" }
func (c collected) Unwrap() []error { return c }

func TestPermanent_NeedsPermanentLeaves(t *testing.T) {
	t.Parallel()
	transient := errors.New("queue is full")
	final := consumererror.NewPermanent(errors.New("cannot be encoded"))
	tests := map[string]struct {
		err   error
		retry bool
	}{
		"a plain error":                         {transient, true},
		"a permanent error":                     {final, false},
		"a wrapped permanent error":             {fmt.Errorf("export: %w", final), false},
		"a permanent error around a plain one":  {consumererror.NewPermanent(fmt.Errorf("encode: %w", transient)), false},
		"all joined are permanent":              {errors.Join(final, final), false},
		"one joined is not":                     {errors.Join(final, transient), true},
		"the other joined is not":               {errors.Join(transient, final), true},
		"a join of one":                         {errors.Join(transient), true},
		"several %w, all permanent":             {fmt.Errorf("%w and %w", final, final), false},
		"several %w, one not":                   {fmt.Errorf("%w and %w", final, transient), true},
		"a wrapped join, one not":               {fmt.Errorf("export: %w", errors.Join(final, transient)), true},
		"joins within joins, all permanent":     {errors.Join(final, errors.Join(final, fmt.Errorf("x: %w", errors.Join(final)))), false},
		"joins within joins, a deep one not":    {errors.Join(final, errors.Join(final, fmt.Errorf("x: %w", errors.Join(final, transient)))), true},
		"a permanent join, one leaf not":        {consumererror.NewPermanent(errors.Join(final, transient)), true},
		"a permanent join of permanent leaves":  {consumererror.NewPermanent(errors.Join(final, final)), false},
		"several, all permanent":                {collected{final, final}, false},
		"several, one not":                      {collected{final, transient}, true},
		"a wrapped error of several, one not":   {fmt.Errorf("fan out: %w", collected{final, transient}), true},
		"nil leaves do not count":               {collected{nil, final}, false},
		"nothing but nil leaves":                {collected{nil}, true},
		"no leaves":                             {collected{}, true},
		"the context ended":                     {context.DeadlineExceeded, true},
		"a retryable error of the Collector":    {consumererror.NewRetryableError(transient), true},
		"a permanent retryable contradiction":   {errors.Join(final, consumererror.NewRetryableError(transient)), true},
		"a permanent error with data within it": {consumererror.NewPermanent(consumererror.NewRetryableError(transient)), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.retry, !failure.Permanent(test.err))
		})
	}
}
