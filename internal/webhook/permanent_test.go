package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// collected is an error of go.uber.org/multierr before it knew Unwrap() []error.
type collected []error

func (c collected) Error() string   { return "several" }
func (c collected) Errors() []error { return c }

func TestErrorsOfThePipeline(t *testing.T) {
	t.Parallel()
	transient := errors.New("queue is full")
	final := consumererror.NewPermanent(errors.New("cannot be encoded"))
	tests := map[string]struct {
		err   error
		again bool
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
		"multierr, all permanent":               {collected{final, final}, false},
		"multierr, one not":                     {collected{final, transient}, true},
		"a wrapped multierr, one not":           {fmt.Errorf("fan out: %w", collected{final, transient}), true},
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
			around := newHarness()
			around.take = func(context.Context, []interaction.Received) error { return test.err }
			status, counted := http.StatusAccepted, counts{webhook.Refused: 1}
			if test.again {
				status, counted = http.StatusServiceUnavailable, counts{webhook.Failed: 1}
			}
			assert.Equal(t, status, answerTo(around.handler(), notify(t.Context(), oneItem)).StatusCode)
			assert.Equal(t, counted, around.counted())
		})
	}
}
