// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	tenant    = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	client    = "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
	resource  = "copilot/interactionHistory/getAllEnterpriseInteractions"
	publisher = "0bf30f3b-4a52-48df-9a82-234910c4a086"
	issuerV1  = "https://sts.windows.net/" + tenant + "/"
	issuerV2  = "https://login.microsoftonline.com/" + tenant + "/v2.0"

	promptID = "1764599405123"
	prompt   = `{"id":"1764599405123","interactionType":"userPrompt","body":{"content":"List the open risks"}}`
)

// noon is the current time in the tests.
var noon = time.Date(2025, 12, 1, 12, 0, 0, 0, time.UTC)

// contentKey loads one of the keys in testdata/vectors: 2048, 3072 or 4096.
func contentKey(tb testing.TB, bits int) *notification.Key {
	tb.Helper()
	dir := filepath.Join("testdata", "vectors", fmt.Sprintf("rsa%d", bits))
	key, err := notification.LoadKey("", filepath.Join(dir, "test-only-cert.pem"), filepath.Join(dir, "test-only-key.pem"))
	require.NoError(tb, err)
	return key
}

// authorityKey loads a signing key of the authority: first or second.
func authorityKey(tb testing.TB, name string) *rsa.PrivateKey {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "authority", "test-only-"+name+"-key.pem"))
	require.NoError(tb, err)
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(tb, err)
	return key.(*rsa.PrivateKey)
}

// sealWith encrypts as Graph does, with the given content key.
func sealWith(tb testing.TB, key *notification.Key, secret, text []byte) *notification.EncryptedContent {
	tb.Helper()
	certificate, err := x509.ParseCertificate(key.CertificateDER())
	require.NoError(tb, err)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, certificate.PublicKey.(*rsa.PublicKey), secret, nil)
	require.NoError(tb, err)
	return &notification.EncryptedContent{
		Data:                  base64.StdEncoding.EncodeToString(text),
		DataKey:               base64.StdEncoding.EncodeToString(wrapped),
		DataSignature:         sign(secret, text),
		CertificateID:         key.CertificateID(),
		CertificateThumbprint: key.Thumbprint(),
	}
}

func seal(tb testing.TB, key *notification.Key, text string) *notification.EncryptedContent {
	tb.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return sealWith(tb, key, secret, encrypt(tb, secret, []byte(text)))
}

func encrypt(tb testing.TB, secret, text []byte) []byte {
	tb.Helper()
	padding := aes.BlockSize - len(text)%aes.BlockSize
	return encryptBlocks(tb, secret, append(bytes.Clone(text), bytes.Repeat([]byte{byte(padding)}, padding)...))
}

func encryptBlocks(tb testing.TB, secret, blocks []byte) []byte {
	tb.Helper()
	block, err := aes.NewCipher(secret)
	require.NoError(tb, err)
	sealed := make([]byte, len(blocks))
	cipher.NewCBCEncrypter(block, secret[:aes.BlockSize]).CryptBlocks(sealed, blocks)
	return sealed
}

func sign(secret, data []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write(data)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// tokenClaims returns the claims of a version 2.0 token that is valid at noon.
func tokenClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"aud": client, "iss": issuerV2, "azp": publisher, "tid": tenant, "ver": "2.0",
		"iat": noon.Add(-time.Hour).Unix(), "nbf": noon.Add(-time.Hour).Unix(), "exp": noon.Add(23 * time.Hour).Unix(),
	}
}

// mint signs a token with the first key of the authority.
func mint(tb testing.TB, claims jwt.MapClaims) string {
	tb.Helper()
	return mintWith(tb, authorityKey(tb, "first"), "first", claims)
}

func mintWith(tb testing.TB, key *rsa.PrivateKey, kid string, claims jwt.MapClaims) string {
	tb.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = kid
	signed, err := token.SignedString(key)
	require.NoError(tb, err)
	return signed
}

// fakeKeySource is a KeySource that counts calls.
type fakeKeySource struct {
	byKid map[string]*rsa.PublicKey
	err   error
	calls atomic.Int32
}

func firstKey(tb testing.TB) *fakeKeySource {
	tb.Helper()
	return &fakeKeySource{byKid: map[string]*rsa.PublicKey{"first": &authorityKey(tb, "first").PublicKey}}
}

func (k *fakeKeySource) Key(_ context.Context, kid string) (*rsa.PublicKey, bool, error) {
	k.calls.Add(1)
	if k.err != nil {
		return nil, false, k.err
	}
	key, found := k.byKid[kid]
	return key, found, nil
}

func clientState(tb testing.TB, key *notification.Key) string {
	tb.Helper()
	return notification.ClientState(key, tenant, client, resource)
}
