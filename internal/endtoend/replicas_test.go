// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// replica is one of two collectors of the same application and notification URL.
type replica struct {
	*collectorHarness
	// status is the address at which the health of its components can be read.
	status string
}

// startReplica runs a collector that listens at an address and with storage of its own. Its notification URL is that of the
// harness, as it would be with a load balancer, so the collector of the harness answers all handshakes.
func (h *collectorHarness) startReplica(t *testing.T, certificates string) (*replica, *process) {
	t.Helper()
	own := *h
	r := &replica{collectorHarness: &own, status: freeAddress(t)}
	r.environment = []string{"COPILOT_NOTIFICATION_URL=https://" + h.webhook + "/graph/notifications"}
	r.storage = t.TempDir()
	if len(h.emulator.Subscriptions()) > 0 {
		r.webhook = freeAddress(t)
	}
	r.configure(t, fmt.Sprintf(`
extensions:
  health_check: {http: {endpoint: %q}}
receivers:
  m365_copilot:
    encryption: {certificates: [%s]}
    webhook: {endpoint: %q}
`, r.status, certificates, r.webhook))
	return r, r.run(t)
}

// health returns the status of all components together, with the errors of each.
func (r *replica) health(t *testing.T) (status, details string) {
	t.Helper()
	_, body := getHealth(t, r.status, "?verbose")
	var health struct{ Status string }
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	return health.Status, body
}

// post sends the interactions of a prompt to this replica, for the subscription there is.
func (r *replica) post(t *testing.T, interactions ...graphtest.Interaction) {
	t.Helper()
	collection, err := r.emulator.Collection(interactions...)
	require.NoError(t, err)
	body, err := json.Marshal(collection)
	require.NoError(t, err)
	status, err := r.emulator.PostTo(t.Context(), "https://"+r.webhook+"/graph/notifications", body, nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
}

// awaitChecks waits until both replicas together have checked the subscriptions n more times.
func (h *collectorHarness) awaitChecks(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+n))
}

func TestReplicas_WithOwnKeysStopReplacing(t *testing.T) {
	skipIfShort(t, "it watches two collectors for a minute")
	t.Parallel()
	h := newCollectorHarness(t, "")
	a, processA := h.startReplica(t, keyPair(t, "a"))
	h.awaitSubscribed(t)
	b, processB := h.startReplica(t, keyPair(t, "b"))
	h.awaitChecks(t, 120) // each checks once a second

	deleted := 0
	for _, request := range h.emulator.Requests(graphtest.OpDelete) {
		if request.Status == http.StatusNoContent {
			deleted++
		}
	}
	assert.LessOrEqual(t, deleted, 4)
	holder := a
	subscriptions := h.emulator.Subscriptions()
	require.Len(t, subscriptions, 1)
	if strings.HasPrefix(subscriptions[0].EncryptionCertificateID, "b.") {
		holder = b
	}
	for each, process := range map[*replica]*process{a: processA, b: processB} {
		recreated := process.linesWith("subscription recreated")
		replaced := slices.DeleteFunc(slices.Clone(recreated), func(line string) bool {
			return strings.Contains(line, `"reason": "lost"`) // the other one had deleted its own, and there was none
		})
		assert.LessOrEqual(t, len(replaced), 2)
		if each == holder && len(recreated) < 2 {
			continue // the other one had to replace twice, and saw the conflict alone
		}
		lines := process.linesWith("encryption.certificates")
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], failure.SubscriptionKeyConflict)
		status, details := each.health(t)
		assert.Equal(t, "StatusRecoverableError", status)
		assert.Contains(t, details, "encryption.certificates")
	}

	in := prompts(t, 20, 3)
	holder.post(t, in[:10]...)
	h.backend.await(t, interactionKeys(t, in[:10]...), waitTimeout)
	h.awaitChecks(t, 10)
	holder.post(t, in[10:]...)
	h.backend.await(t, interactionKeys(t, in[10:]...), waitTimeout)
	assert.Equal(t, subscriptions[0].ID, h.emulator.Subscriptions()[0].ID, "whoever has the subscription keeps it")
}

func TestReplicas_WithSharedCertificatesBothDeliver(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "")
	shared := keyPair(t, "shared")
	a, processA := h.startReplica(t, shared)
	h.awaitSubscribed(t)
	b, processB := h.startReplica(t, shared)
	h.awaitChecks(t, 20)
	processB.awaitLine(t, "subscription adopted", waitTimeout)
	in := prompts(t, 20, 3)
	a.post(t, in[:10]...)
	b.post(t, in[10:]...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
	assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1)
	for name, each := range map[*replica]*process{a: processA, b: processB} {
		assert.Empty(t, each.linesWith("subscription fails"))
		status, details := name.health(t)
		assert.Equal(t, "StatusOK", status, details)
	}
}
