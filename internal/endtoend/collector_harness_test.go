package endtoend_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	client = "1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d"
	secret = "the-right-secret"

	waitTimeout = 30 * time.Second
)

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
	// binary is the path of the collector, flags its arguments besides the configurations.
	binary string
	flags  []string
	// published counts the interactions of bodies.
	published int
}

// newCollectorHarness creates everything but a running collector. The overlay is YAML that is merged over examples/durable.yaml.
func newCollectorHarness(tb testing.TB, overlay string, change ...func(*graphtest.Settings)) *collectorHarness {
	tb.Helper()
	pair, err := graphtest.ServerCertificate(time.Hour)
	require.NoError(tb, err)
	roots := x509.NewCertPool()
	require.True(tb, roots.AppendCertsFromPEM(pair.Certificate))
	settings := graphtest.Settings{
		TenantID: tenant, ClientID: client, ClientSecret: secret, RootCAs: roots, NoListLimit: true,
		RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second,
	}
	for _, c := range change {
		c(&settings)
	}
	h := &collectorHarness{emulator: graphtest.New(settings), backend: newBackend(tb), webhook: freeAddress(tb), storage: tb.TempDir(), binary: collector}
	h.graphURL, err = h.emulator.Start("")
	require.NoError(tb, err)
	tb.Cleanup(h.emulator.Close)
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
	return run(tb, h.binary, h.flags, append([]string{
		"COPILOT_TENANT_ID=" + tenant, "COPILOT_CLIENT_ID=" + client, "COPILOT_CLIENT_SECRET=" + secret,
		"COPILOT_NOTIFICATION_URL=https://" + cmp.Or(h.public, h.webhook) + "/graph/notifications",
		"COPILOT_STORAGE=" + h.storage, "OTLP_ENDPOINT=http://" + h.backend.address,
	}, h.environment...), filepath.Join(root, "examples", "durable.yaml"), filepath.Join(h.overlay, "base.yaml"), h.ownConfig)
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

// user returns the object id of the nth user.
func user(n int) string { return fmt.Sprintf("b2a7c9e4-5d31-4f0c-8e62-%012d", n) }

// prompts returns n prompts of the last ten minutes by the given number of users.
func prompts(tb testing.TB, n, users int) []graphtest.Interaction {
	tb.Helper()
	all := make([]graphtest.Interaction, n)
	for i := range all {
		all[i] = prompt(tb, i, user(i%users), time.Now().Add(-time.Minute-time.Duration(i%500)*time.Second))
	}
	return all
}

// prompt returns the first interaction of the nth conversation.
func prompt(tb testing.TB, n int, user string, at time.Time) graphtest.Interaction {
	tb.Helper()
	text, err := json.Marshal(map[string]any{
		"id": strconv.FormatInt(at.UnixMilli(), 10), "sessionId": "19:" + strconv.Itoa(n), "requestId": strconv.Itoa(n),
		"interactionType": "userPrompt", "createdDateTime": at.UTC().Format(time.RFC3339Nano),
		"from": map[string]any{"user": map[string]any{"id": user}},
	})
	require.NoError(tb, err)
	return graphtest.Interaction{JSON: text}
}

// interactionKeys returns the keys by which the backend counts interactions.
func interactionKeys(tb testing.TB, interactions ...graphtest.Interaction) []string {
	tb.Helper()
	all := make([]string, len(interactions))
	for i, each := range interactions {
		var name struct{ ID, SessionID string }
		require.NoError(tb, json.Unmarshal(each.JSON, &name))
		all[i] = name.SessionID + " " + name.ID
	}
	return all
}

// lastPort is the last port that freeAddress returned. The system assigns no ports below 32768 to connections or to listeners
// of port 0, so that a released port, as in a restart, stays free.
var lastPort atomic.Int32

// freeAddress returns an address that no other test gets.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	lastPort.CompareAndSwap(0, 20_000+rand.Int32N(5_000))
	for range 1000 {
		address := "127.0.0.1:" + strconv.Itoa(int(lastPort.Add(1)))
		if isFree(tb, address) {
			return address
		}
	}
	require.FailNow(tb, "no port is free")
	return ""
}

// isFree listens briefly. No process may be started meanwhile, since it would hold the listener for an instant.
func isFree(tb testing.TB, address string) bool {
	tb.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
	if err != nil {
		return false
	}
	require.NoError(tb, listener.Close())
	return true
}
