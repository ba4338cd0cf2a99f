// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	path     = "/graph/notifications"
	oneItem  = `{"value":[{"subscriptionId":"s","changeType":"created"}]}`
	mebibyte = 1 << 20
)

// call is a call of one of the fakes.
type call string

// harness has the functions of webhook.Settings. It decrypts every item to one interaction, accepts what it is given, and
// records all calls. Its functions may be replaced before the first request.
type harness struct {
	// ours reports whether an item with this client state is ours; nil if all are.
	ours    func(clientState []byte) bool
	decrypt func(ctx context.Context, c *notification.Collection) (notification.Decrypted, error)
	deliver func(ctx context.Context, received []interaction.Received) error
	// beforeCount is called before an outcome is counted; nil for nothing.
	beforeCount func()
	ackTimeout  time.Duration

	mu         sync.Mutex
	callLog    []call
	rejected   []notification.Rejection
	outcomes   map[webhook.Outcome]int
	statuses   map[int]int
	handshakes map[int]int
	durations  []time.Duration
}

func newHarness() *harness {
	return &harness{
		decrypt: func(_ context.Context, c *notification.Collection) (notification.Decrypted, error) {
			return notification.Decrypted{Received: make([]interaction.Received, len(c.Items))}, nil
		},
		deliver:    func(context.Context, []interaction.Received) error { return nil },
		ackTimeout: 2500 * time.Millisecond,
		outcomes:   map[webhook.Outcome]int{},
		statuses:   map[int]int{},
		handshakes: map[int]int{},
	}
}

func (h *harness) record(p call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.callLog = append(h.callLog, p)
}

func (h *harness) OwnClientState(state []byte) bool { return h.ours == nil || h.ours(state) }

func (h *harness) Decrypt(ctx context.Context, c *notification.Collection, _ time.Time) (notification.Decrypted, error) {
	h.record("decrypt")
	return h.decrypt(ctx, c)
}

func (h *harness) Deliver(ctx context.Context, received []interaction.Received) error {
	h.record("deliver")
	return h.deliver(ctx, received)
}

func (h *harness) Wake(event notification.Lifecycle) { h.record(call("wake " + event.Event)) }

func (h *harness) Reject(_ context.Context, rejections []notification.Rejection) {
	h.record(call("reject " + string(rejections[0].Reason)))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rejected = append(h.rejected, rejections...)
}

func (h *harness) Notifications(_ context.Context, outcome webhook.Outcome, count int) {
	if h.beforeCount != nil {
		h.beforeCount()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outcomes[outcome] += count
}

func (h *harness) Acknowledged(_ context.Context, status int, duration time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses[status]++
	h.durations = append(h.durations, duration)
}

func (h *harness) Handshake(_ context.Context, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handshakes[status]++
}

func (h *harness) counted() map[webhook.Outcome]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.outcomes)
}

func (h *harness) calls() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.callLog)
}

func (h *harness) settings() webhook.Settings {
	return webhook.Settings{
		Path:             path,
		AckTimeout:       h.ackTimeout,
		MaxInFlightBytes: 64 * mebibyte,
		Config:           localConfig(),
		OwnClientState:   h.OwnClientState,
		Decrypt:          h.Decrypt,
		Wake:             h.Wake,
		Reject:           h.Reject,
		Deliver:          h.Deliver,
		Telemetry:        h,
		Fatal:            func(error) {},
		Logger:           zap.NewNop(),
	}
}

func (h *harness) handler() *webhook.Handler { return webhook.NewHandler(h.settings()) }

// notify returns a notification request with this body.
func notify(ctx context.Context, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// answerTo returns the answer of the handler to a request.
func answerTo(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}
