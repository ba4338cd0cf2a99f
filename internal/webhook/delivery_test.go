package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// blockDeliver makes the pipeline block until the returned function is called, and then return err; or until the delivery's
// context ends.
func (h *harness) blockDeliver(err error) (unblock func()) {
	blocked := make(chan struct{})
	h.deliver = func(ctx context.Context, _ []interaction.Received) error {
		select {
		case <-blocked:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return func() { close(blocked) }
}

func TestDelivery_HandlesLifecycleAndRejectionsFirst(t *testing.T) {
	t.Parallel()
	h := newHarness()
	decryptsTo(notification.Decrypted{
		Received:  make([]interaction.Received, 2),
		Lifecycle: []notification.Lifecycle{{Event: "missed"}, {Event: "reauthorizationRequired"}},
		Rejected:  []notification.Rejection{{Reason: "forged"}},
	})(h)

	answer := answerTo(h.handler(), notify(t.Context(), oneItem))

	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assert.Equal(t, []call{"decrypt", "wake missed", "wake reauthorizationRequired", "reject forged", "deliver"}, h.calls())
	assert.Equal(t, counts{webhook.Delivered: 2, webhook.LifecycleEvent: 2}, h.counted())
}

func TestDelivery_PassesNothingOnWhenDecryptionFails(t *testing.T) {
	t.Parallel()
	h := newHarness()
	h.decrypt = func(context.Context, *notification.Collection) (notification.Decrypted, error) {
		return notification.Decrypted{
			Received:  make([]interaction.Received, 1),
			Lifecycle: []notification.Lifecycle{{Event: "missed"}},
			Rejected:  []notification.Rejection{{Reason: "forged"}},
		}, context.DeadlineExceeded
	}

	answer := answerTo(h.handler(), notify(t.Context(), oneItem))

	assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	assert.Equal(t, []call{"decrypt"}, h.calls())
}

func TestDelivery_TimesOutWhenPipelineIsSlow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err     error
		counted counts
	}{
		"a success after the timeout counts as delivered late": {nil, counts{webhook.TimedOut: 1, webhook.DeliveredLate: 1}},
		"a failure after the timeout counts with the retry":    {errors.New("full"), counts{webhook.TimedOut: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				handler := h.handler()
				unblock := h.blockDeliver(test.err)

				start := time.Now()
				answer := answerTo(handler, notify(t.Context(), oneItem))

				assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
				assert.Equal(t, "5", answer.Header.Get("Retry-After"))
				assert.Equal(t, 2500*time.Millisecond, time.Since(start))
				assert.EqualValues(t, webhook.MinReservation, handler.InFlightBytes(), "held until the pipeline returns")
				assert.Equal(t, counts{webhook.TimedOut: 1}, h.counted(), "visible before the pipeline returns")

				unblock()
				synctest.Wait()

				assert.Zero(t, handler.InFlightBytes())
				assert.Equal(t, test.counted, h.counted())
			})
		})
	}
}

func TestDelivery_TimesOutWhenDecryptionIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.decrypt = func(context.Context, *notification.Collection) (notification.Decrypted, error) {
			time.Sleep(time.Minute)
			return notification.Decrypted{Received: make([]interaction.Received, 1)}, nil
		}
		start := time.Now()
		answer := answerTo(h.handler(), notify(t.Context(), `{"value":[{},{},{}]}`))

		assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
		assert.Equal(t, 2500*time.Millisecond, time.Since(start))
		assert.Equal(t, counts{webhook.TimedOut: 3}, h.counted())

		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, counts{webhook.TimedOut: 3, webhook.DeliveredLate: 1}, h.counted())
	})
}

// Of three items one is a lifecycle event and one forged: only the third can time out.
func TestDelivery_CountsOnlyPendingItemsAsTimedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		unblock := h.blockDeliver(nil)
		decryptsTo(notification.Decrypted{
			Received:  make([]interaction.Received, 1),
			Lifecycle: []notification.Lifecycle{{Event: "missed"}},
			Rejected:  []notification.Rejection{{Reason: "forged"}},
		})(h)

		answerTo(h.handler(), notify(t.Context(), `{"value":[{},{},{}]}`))

		assert.Equal(t, counts{webhook.TimedOut: 1, webhook.LifecycleEvent: 1}, h.counted())
		unblock()
	})
}

func TestDelivery_AcceptsJustBeforeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.deliver = func(context.Context, []interaction.Received) error {
			time.Sleep(2499 * time.Millisecond)
			return nil
		}
		assert.Equal(t, http.StatusAccepted, answerTo(h.handler(), notify(t.Context(), oneItem)).StatusCode)
		assert.Equal(t, counts{webhook.Delivered: 1}, h.counted())
		assert.Equal(t, []time.Duration{2499 * time.Millisecond}, h.durations)
	})
}

// The pipeline accepts everything within the timeout, which passes before the sender is answered.
func TestDelivery_AcceptsWhenDecidedBeforeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.beforeCount = func() { time.Sleep(2600 * time.Millisecond) }
		assert.Equal(t, http.StatusAccepted, answerTo(h.handler(), notify(t.Context(), oneItem)).StatusCode)
		assert.Equal(t, counts{webhook.Delivered: 1}, h.counted(), "not counted as timed out")
	})
}

// The bytes are available for the next request of a sender that was answered.
func TestDelivery_ReleasesReservationBeforeAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		handler := h.handler()
		var held int64
		h.beforeCount = func() { held += handler.InFlightBytes() }
		assert.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), oneItem)).StatusCode)
		assert.Equal(t, counts{webhook.Delivered: 1}, h.counted())
		assert.Zero(t, held, "while the outcome is counted, which comes before the answer")
	})
}

func TestDelivery_ContinuesWhenSenderDisconnects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type client struct{}
		ctx, leave := context.WithCancel(context.WithValue(t.Context(), client{}, "metadata"))
		h := newHarness()
		var seen any
		var ended error
		h.deliver = func(ctx context.Context, _ []interaction.Received) error {
			leave()
			time.Sleep(10 * time.Second)
			seen, ended = ctx.Value(client{}), ctx.Err()
			return nil
		}
		w := httptest.NewRecorder()
		h.handler().ServeHTTP(w, notify(ctx, oneItem))
		time.Sleep(10 * time.Second)
		synctest.Wait()

		require.NoError(t, ended)
		assert.Equal(t, "metadata", seen)
		assert.Equal(t, counts{webhook.TimedOut: 1, webhook.DeliveredLate: 1}, h.counted())
	})
}

// slowDeliver makes the pipeline return after this time, even if its context ends.
func (h *harness) slowDeliver(duration time.Duration) {
	h.deliver = func(context.Context, []interaction.Received) error {
		time.Sleep(duration)
		return nil
	}
}

// collected is like an error of go.uber.org/multierr before it had Unwrap() []error.
type collected []error

func (c collected) Error() string   { return "several" }
func (c collected) Errors() []error { return c }

func TestPermanent_DecidesAnswer(t *testing.T) {
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
			h := newHarness()
			h.deliver = func(context.Context, []interaction.Received) error { return test.err }
			status, counted := http.StatusAccepted, counts{webhook.Refused: 1}
			if test.retry {
				status, counted = http.StatusServiceUnavailable, counts{webhook.Failed: 1}
			}
			assert.Equal(t, status, answerTo(h.handler(), notify(t.Context(), oneItem)).StatusCode)
			assert.Equal(t, counted, h.counted())
		})
	}
}
