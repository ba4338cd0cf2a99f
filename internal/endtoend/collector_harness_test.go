// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// useComponentStatus is the flag without which health_check knows nothing of the components.
const useComponentStatus = "--feature-gates=extension.healthcheck.useComponentStatus"

// collectorHarness is an emulated tenant, a backend, and the configuration of a collector between them.
type collectorHarness struct {
	emulator *graphtest.Emulator
	graphURL string
	backend  *backend
	// webhook is the address at which the collector listens, public the one that Graph is told, if it is another. storage is the
	// directory of the persistent state.
	webhook, public, storage string
	// overlay is the directory of the configuration that is merged over the example, ownConfig a further one, and environment
	// the variables that they refer to.
	overlay, ownConfig string
	environment        []string
	// binary is the path of the collector, example the configuration that it runs, a file of examples/.
	binary, example string
	// published counts the interactions of bodies.
	published int
}

// newCollectorHarness creates everything but a running collector. The overlay is YAML that is merged over the example.
func newCollectorHarness(tb testing.TB, overlay string, change ...func(*graphtest.Settings)) *collectorHarness {
	tb.Helper()
	emulator, base, pair := newEmulator(tb, change...)
	h := &collectorHarness{
		emulator: emulator, graphURL: base, backend: newBackend(tb), webhook: freeAddress(tb), storage: tb.TempDir(), binary: collector,
		example: "durable.yaml",
	}
	h.overlay = h.writeOverlay(tb, pair)
	h.configure(tb, overlay)
	return h
}

func (h *collectorHarness) writeOverlay(tb testing.TB, pair graphtest.Pair) string {
	tb.Helper()
	dir := tb.TempDir()
	files := map[string][]byte{
		"server.crt": pair.Certificate, "server.key": pair.Key,
		"base.yaml": fmt.Appendf(nil, `
extensions: {health_check: {http: {endpoint: "127.0.0.1:0"}}}
receivers:
  m365_copilot:
    auth: {authority: %q}
    graph: {endpoint: %q}
    subscription: {check_interval: 1s}
    webhook:
      endpoint: %q
      tls: {cert_file: %q, key_file: %q}
exporters:
  otlp_http:
    retry_on_failure: {initial_interval: 100ms, max_interval: 1s}
service:
  telemetry: {metrics: {level: none}}
`, h.graphURL, h.graphURL, h.webhook, filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")),
	}
	for name, content := range files {
		require.NoError(tb, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return dir
}

// configure sets the harness's own configuration.
func (h *collectorHarness) configure(tb testing.TB, overlay string) {
	tb.Helper()
	h.ownConfig = filepath.Join(tb.TempDir(), "own.yaml")
	require.NoError(tb, os.WriteFile(h.ownConfig, []byte(overlay), 0o600))
}

// run starts a collector.
func (h *collectorHarness) run(tb testing.TB) *process {
	tb.Helper()
	return run(tb, h.binary, append([]string{useComponentStatus}, h.configFlags()...), h.variables())
}

// variables are those that the configurations refer to.
func (h *collectorHarness) variables() []string {
	return append([]string{
		"COPILOT_TENANT_ID=" + tenant, "COPILOT_CLIENT_ID=" + client, "COPILOT_CLIENT_SECRET=" + secret,
		"COPILOT_NOTIFICATION_URL=https://" + cmp.Or(h.public, h.webhook) + "/graph/notifications",
		"COPILOT_STORAGE=" + h.storage, "OTLP_ENDPOINT=http://" + h.backend.address,
	}, h.environment...)
}

// configFlags name the configurations, which are merged in this order.
func (h *collectorHarness) configFlags() (flags []string) {
	for _, config := range []string{filepath.Join(root, "examples", h.example), filepath.Join(h.overlay, "base.yaml"), h.ownConfig} {
		flags = append(flags, "--config", config)
	}
	return flags
}

// awaitSubscribed waits for the collector's subscription.
func (h *collectorHarness) awaitSubscribed(tb testing.TB) graphtest.Subscription {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitTimeout)
	defer cancel()
	subscription, err := h.emulator.WaitSubscribed(ctx)
	require.NoError(tb, err)
	return subscription
}

func (h *collectorHarness) publish(tb testing.TB, interactions ...graphtest.Interaction) {
	tb.Helper()
	_, err := h.emulator.Publish(tb.Context(), interactions...)
	require.NoError(tb, err)
}
