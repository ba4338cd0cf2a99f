// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
