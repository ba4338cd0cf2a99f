package m365copilotreceiver

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// newEncryptionCertificate makes an encryption certificate with its key, in files.
func newEncryptionCertificate(t *testing.T, id string) CertificateConfig {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(2048, time.Hour)
	require.NoError(t, err)
	c := CertificateConfig{ID: id, CertFile: filepath.Join(t.TempDir(), "encryption.crt"), KeyFile: filepath.Join(t.TempDir(), "encryption.key")}
	require.NoError(t, os.WriteFile(c.CertFile, pair.Certificate, 0o600))
	require.NoError(t, os.WriteFile(c.KeyFile, pair.Key, 0o600))
	return c
}
