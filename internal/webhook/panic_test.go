package webhook_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func TestHandler_PanicCostsOneDelivery(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*harness){
		"while it is opened": func(h *harness) {
			h.open = func(context.Context, *notification.Collection) (notification.Opened, error) { panic("a text") }
		},
		"while it is taken": func(h *harness) {
			h.take = func(context.Context, []interaction.Received) error { panic("a text") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			around := newHarness()
			breakIt(around)
			core, lines := observer.New(zapcore.WarnLevel)
			settings := around.settings()
			settings.Logger = zap.New(core)
			handler := webhook.NewHandler(settings)

			answer := answerTo(handler, notify(t.Context(), oneItem))

			assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
			assert.Equal(t, counts{webhook.Failed: 1}, around.counted())
			assert.Zero(t, handler.InFlightBytes())
			require.Equal(t, 1, lines.Len())
			line := lines.All()[0]
			assert.Equal(t, zapcore.ErrorLevel, line.Level)
			assert.Contains(t, line.ContextMap()["stack"], "PanicCostsOneDelivery")
			assert.Equal(t, "panic: a value of type string", line.ContextMap()["error"])
			for range 20 {
				answerTo(handler, notify(t.Context(), oneItem))
			}
			assert.LessOrEqual(t, lines.Len(), 10, "each stack is long, and senders decide how often")
			handler.Refuse()
			require.NoError(t, handler.Drain(t.Context()))
		})
	}
}
