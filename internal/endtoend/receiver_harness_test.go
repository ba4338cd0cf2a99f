// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadatatest"
)

// harness is an emulated tenant, and a receiver whose logs and metrics go to sinks.
type harness struct {
	emulator *graphtest.Emulator
	config   *m365copilotreceiver.Config
	// nextLogs and nextMetrics may be replaced before start; nil leaves the signal out.
	nextLogs    consumer.Logs
	nextMetrics consumer.Metrics

	logs    *consumertest.LogsSink
	metrics *consumertest.MetricsSink

	telemetry *componenttest.Telemetry
	lines     *observer.ObservedLogs
	host      *statusHost
	signals   []component.Component
	// startedAt is when Start of the first signal was called, startDuration how long all took.
	startedAt     time.Time
	startDuration time.Duration
	// lastID is the last id that promptsNow gave to an interaction.
	lastID int64
}

// newHarness creates the tenant and the configuration without starting a receiver.
func newHarness(t *testing.T, change ...func(*graphtest.Settings)) *harness {
	t.Helper()
	emulator, base, pair := newEmulator(t, change...)
	h := &harness{
		emulator:  emulator,
		logs:      &consumertest.LogsSink{},
		metrics:   &consumertest.MetricsSink{},
		telemetry: componenttest.NewTelemetry(),
		host:      &statusHost{changed: make(chan struct{}, 1)},
	}
	h.nextLogs, h.nextMetrics = h.logs, h.metrics
	t.Cleanup(func() { _ = h.telemetry.Shutdown(context.Background()) })

	c, ok := m365copilotreceiver.NewFactory().CreateDefaultConfig().(*m365copilotreceiver.Config)
	require.True(t, ok)
	address := freeAddress(t)
	c.TenantID, c.Auth.ClientID, c.Auth.ClientSecret = tenant, client, secret
	c.Auth.Authority, c.Graph.Endpoint = base, base
	c.Subscription.NotificationURL = "https://" + address + "/graph/notifications"
	c.Subscription.CheckInterval = time.Second
	c.Webhook.ServerConfig.NetAddr.Endpoint = address
	tls := configtls.NewDefaultServerConfig()
	tls.CertPem, tls.KeyPem = configopaque.String(pair.Certificate), configopaque.String(pair.Key)
	c.Webhook.ServerConfig.TLS = configoptional.Some(tls)
	c.Metrics.Interval = time.Second
	h.config = c
	return h
}

// start creates and starts the receiver as the Collector does: once for each signal of a configuration.
func (h *harness) start(t *testing.T) {
	t.Helper()
	require.NoError(t, confmap.Validate(h.config))
	h.create(t, h.settings())
	h.startedAt = time.Now()
	for _, signal := range h.signals {
		require.NoError(t, signal.Start(t.Context(), h.host))
	}
	h.startDuration = time.Since(h.startedAt)
	lines := h.lines // a restart replaces them
	t.Cleanup(func() {
		h.stop(t)
		for _, line := range lines.All() {
			requireValues(t, line)
		}
	})
}

// requireValues asserts that every field of a line has a value, that a warning and an error have a code and a hint, and that
// durations have a unit: the encoder of the Collector writes a zap duration as a bare number.
func requireValues(t *testing.T, line observer.LoggedEntry) {
	t.Helper()
	if line.Level >= zapcore.WarnLevel {
		assert.Regexp(t, codePattern, line.ContextMap()["code"], "the code of %q", line.Message)
		assert.NotEmpty(t, line.ContextMap()["hint"], "the hint of %q", line.Message)
	}
	for _, field := range line.Context {
		empty := field.Type == zapcore.DurationType
		switch value := line.ContextMap()[field.Key].(type) {
		case string:
			empty = value == ""
		case time.Time:
			empty = value.IsZero()
		case []any:
			empty = len(value) == 0
		case int64:
			empty = field.Key == "status" && value == 0
		}
		assert.False(t, empty && field.Type != zapcore.SkipType, "%s: %s has no value or no unit", line.Message, field.Key)
	}
}

func (h *harness) settings() receiver.Settings {
	core, lines := observer.New(zap.DebugLevel)
	h.lines = lines
	set := metadatatest.NewSettings(h.telemetry)
	set.Logger = zap.New(core, zap.AddStacktrace(zap.ErrorLevel)) // as the Collector does
	return set
}

func (h *harness) create(t *testing.T, set receiver.Settings) {
	t.Helper()
	factory := m365copilotreceiver.NewFactory()
	h.signals = nil
	if h.nextLogs != nil {
		signal, err := factory.CreateLogs(t.Context(), set, h.config, h.nextLogs)
		require.NoError(t, err)
		h.signals = append(h.signals, signal)
	}
	if h.nextMetrics != nil {
		signal, err := factory.CreateMetrics(t.Context(), set, h.config, h.nextMetrics)
		require.NoError(t, err)
		h.signals = append(h.signals, signal)
	}
}

// stop is safe to repeat.
func (h *harness) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	for _, signal := range h.signals {
		require.NoError(t, signal.Shutdown(ctx))
	}
}

// run starts the receiver and waits until it knows its subscription: Graph has it earlier, and a receiver that is stopped in between
// does not delete it.
func (h *harness) run(t *testing.T) graphtest.Subscription {
	t.Helper()
	h.start(t)
	subscription := h.subscribed(t)
	require.Eventually(t, func() bool {
		return h.lines.FilterMessage("subscription created").Len()+h.lines.FilterMessage("subscription adopted").Len() > 0
	}, waitTimeout, 10*time.Millisecond)
	return subscription
}

func (h *harness) subscribed(t *testing.T) graphtest.Subscription {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	subscription, err := h.emulator.WaitSubscribed(ctx)
	require.NoError(t, err)
	return subscription
}

// deliver publishes interactions and waits until all are acknowledged.
func (h *harness) deliver(t *testing.T, interactions ...graphtest.Interaction) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := h.emulator.Stats().Acknowledged
	offered, err := h.emulator.Publish(ctx, interactions...)
	require.NoError(t, err)
	require.NoError(t, h.emulator.WaitDelivered(ctx, before+offered))
}

func (h *harness) records() []plog.LogRecord {
	var records []plog.LogRecord
	for _, logs := range h.logs.AllLogs() {
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					records = append(records, record)
				}
			}
		}
	}
	return records
}

// statusHost is a host that records the reported status events.
type statusHost struct {
	extensions map[component.ID]component.Component
	changed    chan struct{}

	mu     sync.Mutex // guards what follows
	events []*componentstatus.Event
}

func (h *statusHost) GetExtensions() map[component.ID]component.Component { return h.extensions }

func (h *statusHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// await waits until the latest report has the status.
func (h *statusHost) await(t *testing.T, status componentstatus.Status) *componentstatus.Event {
	t.Helper()
	timeout := time.After(waitTimeout)
	for {
		h.mu.Lock()
		if n := len(h.events); n > 0 && h.events[n-1].Status() == status {
			defer h.mu.Unlock()
			return h.events[n-1]
		}
		h.mu.Unlock()
		select {
		case <-h.changed:
		case <-timeout:
			require.FailNow(t, "the receiver did not report "+status.String())
		}
	}
}

// reports reports whether the latest report has the status.
func (h *statusHost) reports(status componentstatus.Status) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.events)
	return n > 0 && h.events[n-1].Status() == status
}

// newEncryptionCertificate writes a new encryption certificate and its key to files.
func newEncryptionCertificate(t *testing.T) m365copilotreceiver.CertificateConfig {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(2048, validFor)
	require.NoError(t, err)
	c := m365copilotreceiver.CertificateConfig{ID: "2026-11", CertFile: filepath.Join(t.TempDir(), "encryption.crt"), KeyFile: filepath.Join(t.TempDir(), "encryption.key")}
	require.NoError(t, os.WriteFile(c.CertFile, pair.Certificate, 0o600))
	require.NoError(t, os.WriteFile(c.KeyFile, pair.Key, 0o600))
	return c
}
