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

// blockTake makes the pipeline block until the returned function is called, and then return err; or until the delivery's
// context ends.
func (h *harness) blockTake(err error) (unblock func()) {
	blocked := make(chan struct{})
	h.take = func(ctx context.Context, _ []interaction.Received) error {
		select {
		case <-blocked:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return func() { close(blocked) }
}

func TestLifecycleEventsAndRejectionsGoBeforeDelivery(t *testing.T) {
	t.Parallel()
	around := newHarness()
	opensTo(notification.Opened{
		Received:  make([]interaction.Received, 2),
		Lifecycle: []notification.Lifecycle{{Event: "missed"}, {Event: "reauthorizationRequired"}},
		Rejected:  []notification.Rejection{{Reason: "forged"}},
	})(around)

	answer := answerTo(around.handler(), notify(t.Context(), oneItem))

	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assert.Equal(t, []part{"open", "wake missed", "wake reauthorizationRequired", "reject forged", "take"}, around.happened())
	assert.Equal(t, counts{webhook.Delivered: 2, webhook.LifecycleEvent: 2}, around.counted())
}

func TestNothingIsHandedOnWhenOpeningFails(t *testing.T) {
	t.Parallel()
	around := newHarness()
	around.open = func(context.Context, *notification.Collection) (notification.Opened, error) {
		return notification.Opened{
			Received:  make([]interaction.Received, 1),
			Lifecycle: []notification.Lifecycle{{Event: "missed"}},
			Rejected:  []notification.Rejection{{Reason: "forged"}},
		}, context.DeadlineExceeded
	}

	answer := answerTo(around.handler(), notify(t.Context(), oneItem))

	assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	assert.Equal(t, []part{"open"}, around.happened())
}

func TestASlowDelivery(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err     error
		counted counts
	}{
		"that succeeds after all counts as delivered late": {nil, counts{webhook.TimedOut: 1, webhook.DeliveredLate: 1}},
		"that fails after all counts when it comes again":  {errors.New("full"), counts{webhook.TimedOut: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				around := newHarness()
				handler := around.handler()
				unblock := around.blockTake(test.err)

				began := time.Now()
				answer := answerTo(handler, notify(t.Context(), oneItem))

				assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
				assert.Equal(t, "5", answer.Header.Get("Retry-After"))
				assert.Equal(t, 2500*time.Millisecond, time.Since(began))
				assert.EqualValues(t, minimumShare, handler.InFlightBytes(), "held until the pipeline returns")
				assert.Equal(t, counts{webhook.TimedOut: 1}, around.counted(), "visible before the pipeline returns")

				unblock()
				synctest.Wait()

				assert.Zero(t, handler.InFlightBytes())
				assert.Equal(t, test.counted, around.counted())
			})
		})
	}
}

func TestASlowOpenerIsAnsweredInTimeToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.open = func(context.Context, *notification.Collection) (notification.Opened, error) {
			time.Sleep(time.Minute)
			return notification.Opened{Received: make([]interaction.Received, 1)}, nil
		}
		began := time.Now()
		answer := answerTo(around.handler(), notify(t.Context(), `{"value":[{},{},{}]}`))

		assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
		assert.Equal(t, 2500*time.Millisecond, time.Since(began))
		assert.Equal(t, counts{webhook.TimedOut: 3}, around.counted())

		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, counts{webhook.TimedOut: 3, webhook.DeliveredLate: 1}, around.counted())
	})
}

// Of three items one is a lifecycle event and one forged: only the third can time out.
func TestOnlyWhatWaitsForThePipelineTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		unblock := around.blockTake(nil)
		opensTo(notification.Opened{
			Received:  make([]interaction.Received, 1),
			Lifecycle: []notification.Lifecycle{{Event: "missed"}},
			Rejected:  []notification.Rejection{{Reason: "forged"}},
		})(around)

		answerTo(around.handler(), notify(t.Context(), `{"value":[{},{},{}]}`))

		assert.Equal(t, counts{webhook.TimedOut: 1, webhook.LifecycleEvent: 1}, around.counted())
		unblock()
	})
}

func TestADeliveryJustInTimeIsAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.take = func(context.Context, []interaction.Received) error {
			time.Sleep(2499 * time.Millisecond)
			return nil
		}
		assert.Equal(t, http.StatusAccepted, answerTo(around.handler(), notify(t.Context(), oneItem)).StatusCode)
		assert.Equal(t, counts{webhook.Delivered: 1}, around.counted())
		assert.Equal(t, []time.Duration{2499 * time.Millisecond}, around.took)
	})
}

// The pipeline took everything within the timeout, which passes before the sender could be told.
func TestDelivery_DecidedInTimeIsAnsweredSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.counting = func() { time.Sleep(2600 * time.Millisecond) }
		assert.Equal(t, http.StatusAccepted, answerTo(around.handler(), notify(t.Context(), oneItem)).StatusCode)
		assert.Equal(t, counts{webhook.Delivered: 1}, around.counted(), "and it is not counted as timed out")
	})
}

// A sender that was told finds room for its next request.
func TestDelivery_ReleasesItsShareBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		handler := around.handler()
		var held int64
		around.counting = func() { held += handler.InFlightBytes() }
		assert.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), oneItem)).StatusCode)
		assert.Equal(t, counts{webhook.Delivered: 1}, around.counted())
		assert.Zero(t, held, "while the outcome is counted, which comes before the answer")
	})
}

func TestASenderThatLeavesDoesNotEndTheDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type client struct{}
		ctx, leave := context.WithCancel(context.WithValue(t.Context(), client{}, "metadata"))
		around := newHarness()
		var seen any
		var ended error
		around.take = func(ctx context.Context, _ []interaction.Received) error {
			leave()
			time.Sleep(10 * time.Second)
			seen, ended = ctx.Value(client{}), ctx.Err()
			return nil
		}
		w := httptest.NewRecorder()
		around.handler().ServeHTTP(w, notify(ctx, oneItem))
		time.Sleep(10 * time.Second)
		synctest.Wait()

		require.NoError(t, ended)
		assert.Equal(t, "metadata", seen)
		assert.Equal(t, counts{webhook.TimedOut: 1, webhook.DeliveredLate: 1}, around.counted())
	})
}

// slowTake makes the pipeline take this long, whatever its context says.
func (h *harness) slowTake(duration time.Duration) {
	h.take = func(context.Context, []interaction.Received) error {
		time.Sleep(duration)
		return nil
	}
}
