// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// certificate names the files of an encryption certificate.
type certificate struct{ cert, key string }

func writeCertificate(t *testing.T, cert, key []byte) certificate {
	t.Helper()
	dir := t.TempDir()
	c := certificate{filepath.Join(dir, "encryption.crt"), filepath.Join(dir, "encryption.key")}
	require.NoError(t, os.WriteFile(c.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(c.key, key, 0o600))
	return c
}

// newCertificate writes a certificate that is valid for a time from now on.
func newCertificate(t *testing.T, bits int, validity time.Duration) certificate {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(bits, validity)
	require.NoError(t, err)
	return writeCertificate(t, pair.Certificate, pair.Key)
}

// end returns the day on which a certificate ends.
func (c certificate) end(t *testing.T) string {
	t.Helper()
	file, err := os.ReadFile(c.cert)
	require.NoError(t, err)
	x, err := graphtest.Pair{Certificate: file}.X509()
	require.NoError(t, err)
	return x.NotAfter.UTC().Format(time.DateOnly)
}

// ellipticCertificate writes a certificate with a key that is not RSA.
func ellipticCertificate(t *testing.T) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return writeCertificate(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// configured is the configuration of certificates.
func configured(all ...certificate) string {
	var b strings.Builder
	b.WriteString("    encryption:\n      certificates:\n")
	for i, c := range all {
		fmt.Fprintf(&b, "        - {id: k%d, cert_file: %q, key_file: %q}\n", i, c.cert, c.key)
	}
	return b.String()
}

func TestEncryption_CertificatesAreDescribed(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	first, second, third := newCertificate(t, 3072, 365*day), newCertificate(t, 2048, 3*day), newCertificate(t, 2048, -day)
	g := group(t, newHarness(t).check(t, configured(first, second, third), ""), "encryption")
	requireCheck(t, g, doctor.OK, "", "encryption.certificates[0] k0.")
	requireCheck(t, g, doctor.OK, "", ": RSA 3072, valid until "+first.end(t))
	// Those behind the first only decrypt what was encrypted for them before.
	requireCheck(t, g, doctor.OK, "", ": RSA 2048, valid until "+second.end(t))
	requireCheck(t, g, doctor.OK, "", ": RSA 2048, expired on "+third.end(t)+", which does not matter for decryption")
	assert.Equal(t, doctor.OK, g.Mark(), found(g))
}

func TestEncryption_FirstCertificateExpires(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		validity time.Duration
		mark     doctor.Mark
		code     failure.Code
		want     string
	}{
		"in 31 days": {31*day + time.Hour, doctor.OK, "", "valid until "},
		"in 30 days": {30 * day, doctor.Warn, failure.EncryptionExpiring, ", in 29 days"},
		"in an hour": {time.Hour, doctor.Warn, failure.EncryptionExpiring, ", in 59 min"},
		"last week":  {-7 * day, doctor.Warn, failure.EncryptionExpiring, ", 7 days ago"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t, newHarness(t).check(t, configured(newCertificate(t, 2048, test.validity)), ""), "encryption")
			requireCheck(t, g, test.mark, test.code, test.want)
			assert.Equal(t, test.mark, g.Mark(), found(g))
		})
	}
}

func TestEncryption_KeyCanNotBeUsed(t *testing.T) {
	t.Parallel()
	right, other := newCertificate(t, 2048, time.Hour), newCertificate(t, 2048, time.Hour)
	for name, test := range map[string]struct {
		files certificate
		code  failure.Code
		want  string
	}{
		"the key is another's":    {certificate{right.cert, other.key}, failure.EncryptionKey, "private key does not match public key"},
		"the key is not RSA":      {ellipticCertificate(t), failure.EncryptionKey, "RSA only"},
		"the key is small":        {newCertificate(t, 1024, time.Hour), failure.EncryptionKey, "an RSA key of 1024 bits, but Graph accepts 2048 to 4096"},
		"the key is large":        {newCertificate(t, 4104, time.Hour), failure.EncryptionKey, "an RSA key of 4104 bits"},
		"it is no PEM":            {writeCertificate(t, []byte("canary"), []byte("canary")), failure.EncryptionKey, "failed to find any PEM data"},
		"the files are swapped":   {certificate{right.key, right.cert}, failure.EncryptionKey, "encryption.certificates[1]: cert_file " + right.key},
		"the certificate is gone": {certificate{"/nowhere.crt", right.key}, failure.CertificateFiles, "/nowhere.crt: no such file"},
		"the key is gone":         {certificate{right.cert, "/nowhere.key"}, failure.CertificateFiles, "/nowhere.key: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := newCertificate(t, 2048, 365*24*time.Hour)
			g := group(t, newHarness(t).check(t, configured(first, test.files), ""), "encryption")
			requireCheck(t, g, doctor.Fail, test.code, "encryption.certificates[1]: ")
			requireCheck(t, g, doctor.Fail, test.code, test.want)
			requireCheck(t, g, doctor.OK, "", "encryption.certificates[0] k0.")
			assert.NotContains(t, found(g), "canary")
		})
	}
}

func TestEncryption_SaysWhereGeneratedKeyIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		receiver, rest string
		mark           doctor.Mark
		want           string
	}{
		"in memory":        {"", "", doctor.OK, "generates a key at each start and keeps it in memory"},
		"not there yet":    {"    storage: file_storage", inDirectory(t.TempDir(), ""), doctor.OK, "generates a key when it starts and keeps it in storage"},
		"in other storage": {"    storage: redis_storage", "", doctor.OK, "generates a key and keeps it in storage"},
		"not needed": {
			"    storage: file_storage\n    subscription: {notification_url: \"\"}\n    history: {poll_interval: 5m}", inDirectory(t.TempDir(), ""),
			doctor.Skip, "no notifications arrive without subscription.notification_url",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireCheck(t, group(t, newHarness(t).check(t, test.receiver, test.rest), "encryption"), test.mark, "", test.want)
		})
	}
}
