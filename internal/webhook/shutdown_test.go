package webhook_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func TestAfterRefuseNotificationsAreAskedToComeAgain(t *testing.T) {
	t.Parallel()
	around := newHarness()
	handler := around.handler()
	handler.Refuse()
	handler.Refuse()

	body := &untouched{}
	r := notify(t.Context(), "")
	r.Body = io.NopCloser(body)
	answer := answerTo(handler, r)

	assert.False(t, body.read)
	assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	assert.Equal(t, "5", answer.Header.Get("Retry-After"))
	assert.Equal(t, counts{webhook.Stopping: 1}, around.counted())
	assert.Empty(t, around.happened())
	require.NoError(t, handler.Drain(t.Context()))
	require.NoError(t, handler.Drain(t.Context()), "twice is fine")
}

func TestABodyThatArrivesDuringRefuseIsNotDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		handler := around.handler()
		slow := send(t, handler, -1)
		slow.write(t, oneItem[:10])
		synctest.Wait()
		handler.Refuse()
		slow.write(t, oneItem[10:])
		require.NoError(t, slow.body.Close())

		assert.Equal(t, http.StatusServiceUnavailable, (<-slow.answer).StatusCode)
		assert.Equal(t, counts{webhook.Stopping: 1}, around.counted())
		assert.Zero(t, handler.InFlightBytes())
	})
}

func TestDrainWaitsForDeliveriesPastTheirAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.slowTake(10 * time.Second)
		handler := around.handler()
		began := time.Now()
		assert.Equal(t, http.StatusServiceUnavailable, answerTo(handler, notify(t.Context(), oneItem)).StatusCode)

		handler.Refuse()
		require.NoError(t, handler.Drain(t.Context()))

		assert.Equal(t, 10*time.Second, time.Since(began))
		assert.Equal(t, counts{webhook.TimedOut: 1, webhook.DeliveredLate: 1}, around.counted())
	})
}

func TestDrainCancelsWhatOutlastsItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.blockTake(nil)
		handler := around.handler()
		under := send(t, handler, -1)
		under.write(t, oneItem)
		require.NoError(t, under.body.Close())
		synctest.Wait()

		handler.Refuse()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := handler.Drain(ctx)

		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "1 deliveries were canceled")
		assert.Equal(t, time.Second, time.Since(began))
		assert.Equal(t, http.StatusServiceUnavailable, (<-under.answer).StatusCode)
		assert.Equal(t, counts{webhook.Failed: 1}, around.counted())
		assert.Zero(t, handler.InFlightBytes())
		require.NoError(t, handler.Drain(ctx), "nothing is left to wait for")
	})
}

func TestDrainDoesNotWaitForeverForAPipelineThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.slowTake(time.Hour)
		handler := around.handler()
		answerTo(handler, notify(t.Context(), oneItem))
		handler.Refuse()
		began := time.Now()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(http.ErrServerClosed)

		require.ErrorIs(t, handler.Drain(ctx), http.ErrServerClosed)
		assert.Equal(t, time.Second, time.Since(began))

		time.Sleep(time.Hour)
		require.NoError(t, handler.Drain(ctx), "it returned in the end")
	})
}

func TestADeliveryIsNotCanceledBeforeTheShutdownsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		var ended error
		around.take = func(ctx context.Context, _ []interaction.Received) error {
			time.Sleep(time.Second)
			ended = ctx.Err()
			return nil
		}
		handler := around.handler()
		under := send(t, handler, -1)
		under.write(t, oneItem)
		require.NoError(t, under.body.Close())
		synctest.Wait()
		handler.Refuse()
		require.NoError(t, handler.Drain(t.Context()))

		require.NoError(t, ended)
		assert.Equal(t, http.StatusAccepted, (<-under.answer).StatusCode)
	})
}
