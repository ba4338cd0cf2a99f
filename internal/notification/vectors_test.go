package notification_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// What openssl made is what we open and derive; see testdata/make-vectors.sh.
func TestAgreesWithOpenSSL(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{2048, 3072, 4096} {
		t.Run(fmt.Sprintf("%d bits", bits), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", "vectors", fmt.Sprintf("rsa%d", bits))
			key := contentKey(t, bits)

			var derived struct{ CertificateID, Thumbprint, ClientState string }
			readJSON(t, filepath.Join(dir, "derived.json"), &derived)
			assert.Equal(t, derived.CertificateID, key.CertificateID())
			assert.Equal(t, derived.Thumbprint, key.Thumbprint())
			assert.Equal(t, derived.ClientState, clientState(t, key))

			var content notification.EncryptedContent
			readJSON(t, filepath.Join(dir, "content.json"), &content)
			want, err := os.ReadFile(filepath.Join(dir, "plaintext.json"))
			require.NoError(t, err)
			text, err := notification.Decrypt(&content, key)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(text))
		})
	}
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

// A vector with a fixed content key: it also shows that the initialization vector is the key's first half.
func TestDecryptsTheFixedVector(t *testing.T) {
	t.Parallel()
	secret, err := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	require.NoError(t, err)
	key := contentKey(t, 2048)
	content := sealWith(t, key, secret, nil)
	content.Data = "9wqXyFbxEGnZY44w3ytWwXaVYPZbFzXuU34x9bGIxzhbTZnCMLUhSDKiQHzEKY1fRdPL1PxFio+6OvSi2Aeo8w=="
	content.DataSignature = "TNm32NOAY6YaMwqBPc7Rq6RpYgjwrSt5WHyBLWs1NnE="

	text, err := notification.Decrypt(content, key)
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":"1764599405123","interactionType":"userPrompt"}`, string(text))
}
