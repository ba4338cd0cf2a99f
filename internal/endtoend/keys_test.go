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
	pair, err := graphtest.EncryptionCertificate(2048, time.Hour)
	require.NoError(t, err)
	certificate, key := filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(certificate, pair.Certificate, 0o600))
	require.NoError(t, os.WriteFile(key, pair.Key, 0o600))
	return fmt.Sprintf("{id: %s, cert_file: %q, key_file: %q}", id, certificate, key)
}

func TestTwoCertificatesInRotationBothDecrypt(t *testing.T) {
	t.Parallel()
	old, young := keyPair(t, "old"), keyPair(t, "young")
	const keys = "receivers: {m365_copilot: {encryption: {certificates: [%s]}}}"
	s := newSite(t, fmt.Sprintf(keys, old))
	first := s.run(t)
	s.subscribed(t)
	in := prompts(t, 12, 3)
	late, err := s.emulator.Collection(in[:6]...)
	require.NoError(t, err)
	first.terminate(t)

	s.own(t, fmt.Sprintf(keys, young+", "+old))
	second := s.run(t)
	second.awaitLine(t, "reason", soon)
	assert.Contains(t, s.subscribed(t).EncryptionCertificateID, "young.")
	status, err := s.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	s.publish(t, in[6:]...)
	s.backend.await(t, names(t, in...), soon)
	assert.Empty(t, second.said("notification rejected"))
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

func TestARedeliveredBatchOfWhichHalfWasDeliveredYieldsEachOnceWithoutDecryptingThatHalf(t *testing.T) {
	t.Parallel()
	metrics := freeAddress(t)
	s := newSite(t, `
service:
  telemetry:
    metrics:
      level: normal
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}}]
`)
	s.environment = []string{"METRICS_PORT=" + metrics[len("127.0.0.1:"):]}
	first := s.run(t)
	s.subscribed(t)
	in := prompts(t, 10, 3)
	whole, err := s.emulator.Collection(in...)
	require.NoError(t, err)
	half := whole
	half.Value = whole.Value[:5]
	for _, c := range []graphtest.Collection{half, whole} {
		status, err := s.emulator.Post(t.Context(), c)
		require.NoError(t, err)
		assert.Equal(t, http.StatusAccepted, status)
	}
	s.backend.await(t, names(t, in...), soon)
	assert.Equal(t, len(in), decrypted(t, metrics))

	first.kill9()
	second := s.run(t)
	second.awaitLine(t, "subscription adopted", soon)
	status, err := s.emulator.Post(t.Context(), whole)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	fresh := prompts(t, 12, 3)[10:]
	s.publish(t, fresh...)
	s.backend.await(t, names(t, fresh...), soon)
	assert.Equal(t, len(fresh), decrypted(t, metrics), "what was delivered before the crash is known after it")
	assert.Zero(t, s.backend.repetitions())
}
