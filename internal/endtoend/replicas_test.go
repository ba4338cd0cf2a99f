package endtoend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// replica is one of two collectors of the same application and notification URL.
type replica struct {
	*site
	// status is where its components' health can be read.
	status string
}

// startReplica runs a collector that listens at an address and with storage of its own. Its notification URL is that of the
// site, as it would be with a load balancer, so the site's own collector answers all handshakes.
func (s *site) startReplica(t *testing.T, certificates string) (*replica, *process) {
	t.Helper()
	own := *s
	r := &replica{site: &own, status: freeAddress(t)}
	r.environment = []string{"COPILOT_NOTIFICATION_URL=https://" + s.webhook + "/graph/notifications"}
	r.storage = t.TempDir()
	if len(s.emulator.Subscriptions()) > 0 {
		r.webhook = freeAddress(t)
	}
	r.flags = []string{"--feature-gates=+extension.healthcheck.useComponentStatus"}
	r.own(t, fmt.Sprintf(`
extensions:
  health_check: {http: {endpoint: %q, status: {enabled: true, path: /}}}
receivers:
  m365_copilot:
    encryption: {certificates: [%s]}
    webhook: {endpoint: %q}
service: {extensions: [file_storage, health_check]}
`, r.status, certificates, r.webhook))
	return r, r.run(t)
}

// health returns the status of all components together, with the errors of each.
func (r *replica) health(t *testing.T) (status, details string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.status+"/?verbose", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var health struct{ Status string }
	require.NoError(t, json.Unmarshal(body, &health))
	return health.Status, string(body)
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

// awaitChecks waits until both replicas together have looked at the subscriptions so many times more.
func (s *site) awaitChecks(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, s.emulator.WaitRequests(ctx, graphtest.OpList, len(s.emulator.Requests(graphtest.OpList))+n))
}

func TestReplicas_WithKeysOfTheirOwnStopReplacingEachOther(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	a, processA := s.startReplica(t, keyPair(t, "a"))
	s.subscribed(t)
	b, processB := s.startReplica(t, keyPair(t, "b"))
	s.awaitChecks(t, 120) // each looks once a second

	deleted := 0
	for _, request := range s.emulator.Requests(graphtest.OpDelete) {
		if request.Status == http.StatusNoContent {
			deleted++
		}
	}
	assert.LessOrEqual(t, deleted, 4)
	for name, each := range map[*replica]*process{a: processA, b: processB} {
		assert.LessOrEqual(t, len(each.said("subscription recreated")), 2)
		lines := each.said("encryption.certificates")
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "\terror\t")
		assert.Contains(t, lines[0], "key_conflict")
		status, details := name.health(t)
		assert.Equal(t, "StatusRecoverableError", status)
		assert.Contains(t, details, "encryption.certificates")
	}

	holder := a
	subscriptions := s.emulator.Subscriptions()
	require.Len(t, subscriptions, 1)
	if strings.HasPrefix(subscriptions[0].EncryptionCertificateID, "b.") {
		holder = b
	}
	in := prompts(t, 20, 3)
	holder.post(t, in[:10]...)
	s.backend.await(t, names(t, in[:10]...), soon)
	s.awaitChecks(t, 10)
	holder.post(t, in[10:]...)
	s.backend.await(t, names(t, in[10:]...), soon)
	assert.Equal(t, subscriptions[0].ID, s.emulator.Subscriptions()[0].ID, "whoever has the subscription keeps it")
}

func TestReplicas_WithSharedCertificatesBothDeliver(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	shared := keyPair(t, "shared")
	a, processA := s.startReplica(t, shared)
	s.subscribed(t)
	b, processB := s.startReplica(t, shared)
	s.awaitChecks(t, 20)
	processB.awaitLine(t, "subscription adopted", soon)
	in := prompts(t, 20, 3)
	a.post(t, in[:10]...)
	b.post(t, in[10:]...)
	s.backend.await(t, names(t, in...), soon)
	assert.Empty(t, s.emulator.Requests(graphtest.OpDelete))
	assert.Len(t, s.emulator.Requests(graphtest.OpCreate), 1)
	for name, each := range map[*replica]*process{a: processA, b: processB} {
		assert.Empty(t, each.said("subscription fails"))
		status, details := name.health(t)
		assert.Equal(t, "StatusOK", status, details)
	}
}
