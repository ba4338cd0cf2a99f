// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"crypto/rsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
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
		"no certificate file":            {"missing.pem", testdata(key2048), []string{"cert_file", "missing.pem", "restore"}},
		"no key file":                    {testdata(cert2048), "missing.pem", []string{"key_file", "missing.pem", "restore"}},
		"the certificate in DER":         {testdata("forms/test-only-cert.der"), testdata(key2048), []string{"test-only-cert.der", "openssl x509"}},
		"the key in DER":                 {testdata(cert2048), testdata("forms/test-only-key.der"), []string{"test-only-key.der", "openssl pkey"}},
		"only a key for both":            {testdata(key2048), testdata(key2048), []string{"cert_file", "failed to find certificate"}},
		"only a certificate for both":    {testdata(cert2048), testdata(cert2048), []string{"key_file", "a certificate rather than a key"}},
		"a broken certificate":           {broken("CERTIFICATE"), testdata(key2048), []string{"broken.pem", "malformed tbs certificate"}},
		"a broken PKCS#8 key":            {testdata(cert2048), broken("PRIVATE KEY"), []string{"broken.pem", "failed to parse private key"}},
		"a broken PKCS#1 key":            {testdata(cert2048), broken("RSA PRIVATE KEY"), []string{"broken.pem", "failed to parse private key"}},
		"a key with a password":          {testdata(cert2048), testdata("forms/test-only-encrypted-key.pem"), []string{"password", "openssl pkey"}},
		"an old key with a password":     {testdata(cert2048), testdata("forms/test-only-encrypted-pkcs1-key.pem"), []string{"password", "openssl pkey"}},
		"an ECDSA certificate":           {testdata("refused/ec/test-only-cert.pem"), testdata(key2048), []string{"type does not match", "RSA"}},
		"an ECDSA key":                   {testdata(cert2048), testdata("refused/ec/test-only-key.pem"), []string{"type does not match", "2048 to 4096"}},
		"an ECDSA certificate and key":   {testdata("refused/ec/test-only-cert.pem"), testdata("refused/ec/test-only-sec1-key.pem"), []string{"ECDSA", "RSA only"}},
		"the key of another certificate": {testdata(cert2048), testdata("vectors/rsa3072/test-only-key.pem"), []string{"does not match", cert2048, "rsa3072"}},
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
				assert.Contains(t, told(t, err), part)
			}
		})
	}
}

func TestGenerateKey_DecryptsAndRoundTripsAsPEM(t *testing.T) {
	t.Parallel()
	key, err := notification.GenerateKey("")
	require.NoError(t, err)

	certificate, err := x509.ParseCertificate(key.CertificateDER())
	require.NoError(t, err)
	assert.Equal(t, 2048, certificate.PublicKey.(*rsa.PublicKey).N.BitLen())
	assert.True(t, certificate.NotBefore.Before(time.Now()))
	assert.True(t, certificate.NotAfter.After(time.Now().AddDate(19, 0, 0)))

	certPEM, keyPEM := key.MarshalPEM()
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
	certPEM, keyPEM := contentKey(t, 2048).MarshalPEM()
	_, otherPEM := contentKey(t, 3072).MarshalPEM()

	_, err := notification.ParseKey("", nil, keyPEM)
	require.ErrorContains(t, err, "failed to find any PEM data in certificate input")
	_, err = notification.ParseKey("", certPEM, nil)
	require.ErrorContains(t, err, "failed to find any PEM data in key input")
	_, err = notification.ParseKey("", certPEM, otherPEM)
	require.ErrorContains(t, err, "does not match")
}

func TestClientState_DependsOnEveryInput(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	states := map[string]bool{}
	for _, of := range []struct {
		key                      *notification.Key
		tenant, client, resource string
	}{
		{key, tenant, client, resource},
		{contentKey(t, 3072), tenant, client, resource},
		{key, client, client, resource},
		{key, tenant, tenant, resource},
		{key, tenant, client, "copilot/users/u/interactionHistory/getAllEnterpriseInteractions"},
	} {
		state := notification.ClientState(of.key, of.tenant, of.client, of.resource)
		assert.Len(t, state, 43, "32 bytes in base64url without padding, of the 128 that Graph allows")
		states[state] = true
	}
	assert.Len(t, states, 5)
}

func TestClientState_IgnoresLeadingSlashAndCase(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	state := notification.ClientState(key, strings.ToUpper(tenant), strings.ToUpper(client), "/"+resource)
	assert.Equal(t, clientState(t, key), state)
}
