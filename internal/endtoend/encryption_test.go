// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// keyPair writes an encryption certificate with its key and returns its configuration.
func keyPair(t *testing.T, id string) string {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(2048, validFor)
	require.NoError(t, err)
	certificate, key := filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(certificate, pair.Certificate, 0o600))
	require.NoError(t, os.WriteFile(key, pair.Key, 0o600))
	return fmt.Sprintf("{id: %s, cert_file: %q, key_file: %q}", id, certificate, key)
}

func TestEncryption_RotatedCertificatesBothDecrypt(t *testing.T) {
	t.Parallel()
	old, renewed := keyPair(t, "old"), keyPair(t, "renewed")
	const keys = "receivers: {m365_copilot: {encryption: {certificates: [%s]}}}"
	h := newCollectorHarness(t, fmt.Sprintf(keys, old))
	first := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 12, 3)
	late, err := h.emulator.Collection(in[:6]...)
	require.NoError(t, err)
	first.terminate(t)

	h.configure(t, fmt.Sprintf(keys, renewed+", "+old))
	second := h.run(t)
	second.awaitLine(t, "reason", waitTimeout)
	assert.Contains(t, h.awaitSubscribed(t).EncryptionCertificateID, "renewed.")
	status, err := h.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	h.publish(t, in[6:]...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Empty(t, second.linesWith("notification rejected"))
}

var decryptedItems = regexp.MustCompile(`(?m)^otelcol_receiver_m365_copilot_items_decrypted[^ ]* ([0-9.e+]+)$`)

// decrypted reads the collector's own metric.
func decrypted(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	found := decryptedItems.FindSubmatch(body)
	require.NotNil(t, found, string(body))
	n, err := strconv.ParseFloat(string(found[1]), 64)
	require.NoError(t, err)
	return int(n)
}

// What was delivered before a crash is neither delivered nor decrypted after it.
func TestDedupe_SurvivesCrash(t *testing.T) {
	t.Parallel()
	metrics := freeAddress(t)
	h := newCollectorHarness(t, `
service:
  telemetry:
    metrics:
      level: normal
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}}]
`)
	h.environment = []string{"METRICS_PORT=" + metrics[len("127.0.0.1:"):]}
	first := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 10, 3)
	whole, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	half := whole
	half.Value = whole.Value[:5]
	for _, c := range []graphtest.Collection{half, whole} {
		status, err := h.emulator.Post(t.Context(), c)
		require.NoError(t, err)
		assert.Equal(t, http.StatusAccepted, status)
	}
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, len(in), decrypted(t, metrics))

	<-time.After(5 * time.Second) // what was delivered is written within a second, not before the answer, where the disk does not stall
	first.kill()
	second := h.run(t)
	second.awaitLine(t, "subscription adopted", waitTimeout)
	status, err := h.emulator.Post(t.Context(), whole)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	fresh := prompts(t, 12, 3)[10:]
	h.publish(t, fresh...)
	h.backend.await(t, interactionKeys(t, fresh...), waitTimeout)
	assert.Equal(t, len(fresh), decrypted(t, metrics), "what was delivered before the crash is known after it")
	assert.Zero(t, h.backend.duplicates())
}
