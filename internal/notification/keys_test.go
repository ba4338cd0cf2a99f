package notification_test

import (
	"crypto/rsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func testdata(name string) string { return filepath.Join("testdata", filepath.FromSlash(name)) }

const (
	cert2048 = "vectors/rsa2048/test-only-cert.pem"
	key2048  = "vectors/rsa2048/test-only-key.pem"
)

func TestLoadKey_ReadsEveryFormat(t *testing.T) {
	t.Parallel()
	want := contentKey(t, 2048)
	tests := map[string]struct{ cert, key string }{
		"PKCS#8":                      {cert2048, key2048},
		"PKCS#1":                      {cert2048, "forms/test-only-pkcs1-key.pem"},
		"one file with key and chain": {"forms/test-only-key-and-chain.pem", "forms/test-only-key-and-chain.pem"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := notification.LoadKey("2026-11", testdata(test.cert), testdata(test.key))
			require.NoError(t, err)
			assert.Equal(t, "2026-11", key.ID())
			assert.Equal(t, want.CertificateDER(), key.CertificateDER())
			assert.Equal(t, clientState(t, want), clientState(t, key), "the client state does not depend on the format")
			assert.Equal(t, "2026-11"+want.CertificateID()[len("key"):], key.CertificateID())
		})
	}
}

func TestLoadKey_ErrorNamesFileAndFix(t *testing.T) {
	t.Parallel()
	broken := func(block string) string {
		file := filepath.Join(t.TempDir(), "broken.pem")
		text := "-----BEGIN " + block + "-----\nMAA=\n-----END " + block + "-----\n"
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	tests := map[string]struct {
		cert, key string
		want      []string
	}{
		"no certificate file":            {"missing.pem", testdata(key2048), []string{"cert_file", "missing.pem"}},
		"no key file":                    {testdata(cert2048), "missing.pem", []string{"key_file", "missing.pem"}},
		"the certificate in DER":         {testdata("forms/test-only-cert.der"), testdata(key2048), []string{"test-only-cert.der", "openssl x509"}},
		"the key in DER":                 {testdata(cert2048), testdata("forms/test-only-key.der"), []string{"test-only-key.der", "openssl pkey"}},
		"only a key for both":            {testdata(key2048), testdata(key2048), []string{"cert_file", "no certificate"}},
		"only a certificate for both":    {testdata(cert2048), testdata(cert2048), []string{"key_file", "no private key"}},
		"a broken certificate":           {broken("CERTIFICATE"), testdata(key2048), []string{"broken.pem", "invalid certificate"}},
		"a broken PKCS#8 key":            {testdata(cert2048), broken("PRIVATE KEY"), []string{"broken.pem", "invalid private key"}},
		"a broken PKCS#1 key":            {testdata(cert2048), broken("RSA PRIVATE KEY"), []string{"broken.pem", "invalid private key"}},
		"a key with a password":          {testdata(cert2048), testdata("forms/test-only-encrypted-key.pem"), []string{"password", "openssl pkey"}},
		"an old key with a password":     {testdata(cert2048), testdata("forms/test-only-encrypted-pkcs1-key.pem"), []string{"password", "openssl pkey"}},
		"an ECDSA certificate":           {testdata("refused/ec/test-only-cert.pem"), testdata(key2048), []string{"ECDSA", "RSA"}},
		"an ECDSA key":                   {testdata(cert2048), testdata("refused/ec/test-only-key.pem"), []string{"not RSA", "2048 to 4096"}},
		"an ECDSA key in SEC 1":          {testdata(cert2048), testdata("refused/ec/test-only-sec1-key.pem"), []string{"not RSA"}},
		"the key of another certificate": {testdata(cert2048), testdata("vectors/rsa3072/test-only-key.pem"), []string{"belong together", cert2048, "rsa3072"}},
		"too small a key":                {testdata("refused/rsa1024/test-only-cert.pem"), testdata("refused/rsa1024/test-only-key.pem"), []string{"1024", "2048 to 4096"}},
		"too large a key":                {testdata("refused/rsa4608/test-only-cert.pem"), testdata("refused/rsa4608/test-only-key.pem"), []string{"4608", "2048 to 4096"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := notification.LoadKey("", test.cert, test.key)
			require.Error(t, err)
			assert.Nil(t, key)
			for _, part := range test.want {
				assert.ErrorContains(t, err, part)
			}
		})
	}
}

func TestGenerateKey_DecryptsAndRoundTripsAsPEM(t *testing.T) {
	t.Parallel()
	key, err := notification.GenerateKey("")
	require.NoError(t, err)
	assert.Equal(t, notification.DefaultKeyID, key.ID())

	certificate, err := x509.ParseCertificate(key.CertificateDER())
	require.NoError(t, err)
	assert.Equal(t, 2048, certificate.PublicKey.(*rsa.PublicKey).N.BitLen())
	assert.True(t, certificate.NotBefore.Before(time.Now()))
	assert.True(t, certificate.NotAfter.After(time.Now().AddDate(19, 0, 0)))

	certPEM, keyPEM, err := key.MarshalPEM()
	require.NoError(t, err)
	again, err := notification.ParseKey("", certPEM, keyPEM)
	require.NoError(t, err)
	assert.Equal(t, key.CertificateID(), again.CertificateID())
	assert.Equal(t, clientState(t, key), clientState(t, again))
	text, err := notification.Decrypt(seal(t, key, prompt), again)
	require.NoError(t, err)
	assert.JSONEq(t, prompt, string(text))

	other, err := notification.GenerateKey("")
	require.NoError(t, err)
	assert.NotEqual(t, key.CertificateID(), other.CertificateID())
}

func TestParseKey_RejectsInvalidInput(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM, err := contentKey(t, 2048).MarshalPEM()
	require.NoError(t, err)
	_, otherPEM, err := contentKey(t, 3072).MarshalPEM()
	require.NoError(t, err)

	_, err = notification.ParseKey("", nil, keyPEM)
	require.ErrorContains(t, err, "certificate: no certificate in PEM")
	_, err = notification.ParseKey("", certPEM, nil)
	require.ErrorContains(t, err, "private key: no private key in PEM")
	_, err = notification.ParseKey("", certPEM, otherPEM)
	require.ErrorContains(t, err, "belong together")
}
