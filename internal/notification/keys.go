// SPDX-License-Identifier: Apache-2.0

package notification

import (
	"cmp"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph names certificates by their SHA-1 thumbprint; nothing is trusted because of it
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// DefaultKeyID is the label of a key without a configured label.
const DefaultKeyID = "key"

// Size limits of an encryption key in bits: https://learn.microsoft.com/graph/change-notifications-with-resource-data
const (
	minKeyBits = 2048
	maxKeyBits = 4096
)

// Key is a private RSA key of 2048 to 4096 bits together with its certificate and its label.
// It is created by LoadKey, ParseKey or GenerateKey, and immutable.
type Key struct {
	private       *rsa.PrivateKey
	pkcs8         []byte
	certificate   *x509.Certificate
	certificateID string
	thumbprint    string
}

// newKey creates a Key of a private key and the certificate that was issued for it, in DER.
func newKey(id string, private any, certificateDER []byte) (*Key, error) {
	certificate, err := x509.ParseCertificate(certificateDER)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate: %w", err)
	}
	key, ok := private.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %s, but Graph encrypts for RSA only", certificate.PublicKeyAlgorithm)
	}
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return nil, fmt.Errorf("an RSA key of %d bits, but Graph accepts %d to %d", bits, minKeyBits, maxKeyBits)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	spki := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	thumbprint := sha1.Sum(certificate.Raw) //nolint:gosec // see the import
	return &Key{
		private:       key,
		pkcs8:         der,
		certificate:   certificate,
		certificateID: cmp.Or(id, DefaultKeyID) + "." + hex.EncodeToString(spki[:8]),
		thumbprint:    hex.EncodeToString(thumbprint[:]),
	}, nil
}

// LoadKey reads a certificate and its private key from two PEM files, which may be the same file. The key is PKCS#8 or
// PKCS#1; of several certificates the first is used. An empty id means DefaultKeyID.
//
// An error names the files and has a failure.
func LoadKey(id, certFile, keyFile string) (*Key, error) {
	var key *Key
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		key, err = newKey(id, pair.PrivateKey, pair.Certificate[0])
	}
	if err != nil {
		code := failure.EncryptionKey
		if _, unreadable := errors.AsType[*fs.PathError](err); unreadable {
			code = failure.CertificateFiles
		}
		return nil, failure.With(fmt.Errorf("cert_file %s and key_file %s: %w", certFile, keyFile, err), failure.New(code))
	}
	return key, nil
}

// ParseKey is like LoadKey for PEM in memory, such as the result of MarshalPEM.
func ParseKey(id string, certPEM, keyPEM []byte) (*Key, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	return newKey(id, pair.PrivateKey, pair.Certificate[0])
}

// GenerateKey generates an RSA key of 2048 bits with a self-signed certificate that is valid for 20 years. Graph checks neither
// issuer nor chain: https://learn.microsoft.com/graph/change-notifications-with-resource-data
//
// Each call returns another key, with another client state and certificate id. Use MarshalPEM to store it.
func GenerateKey(id string) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, minKeyBits)
	if err != nil {
		return nil, fmt.Errorf("generate an RSA key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "m365_copilot receiver"},
		// The clock of Graph may be behind ours.
		NotBefore: now.Add(-24 * time.Hour),
		NotAfter:  now.AddDate(20, 0, 0),
		KeyUsage:  x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	return newKey(id, private, der)
}

// MarshalPEM returns the certificate and the private key (PKCS#8) in PEM, to store a generated key. The private key is a
// secret.
func (k *Key) MarshalPEM() (certPEM, keyPEM []byte) {
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.certificate.Raw})
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k.pkcs8})
}

// CertificateID returns the encryptionCertificateId of subscriptions: the label, a dot, and the first 16 hex digits of the
// SHA-256 of the SubjectPublicKeyInfo. A new key with an old label therefore has another id.
func (k *Key) CertificateID() string { return k.certificateID }

// CertificateDER returns the certificate in DER, whose base64 is the encryptionCertificate of subscriptions.
func (k *Key) CertificateDER() []byte { return slices.Clone(k.certificate.Raw) }

// Thumbprint returns the SHA-1 of the certificate in DER as 40 lower-case hex digits.
func (k *Key) Thumbprint() string { return k.thumbprint }

// NotAfter returns when the certificate expires.
func (k *Key) NotAfter() time.Time { return k.certificate.NotAfter }

// Ring holds the decryption keys. The first is used for new subscriptions.
type Ring []*Key

// CertificateIDs returns the CertificateID of each key.
func (r Ring) CertificateIDs() []string {
	ids := make([]string, len(r))
	for i, key := range r {
		ids[i] = key.certificateID
	}
	return ids
}

// ClientState derives the clientState of a subscription: base64url without padding of HKDF-SHA256 (RFC 5869, 32 bytes, no
// salt) of the key's PKCS#8 form, with the info
//
//	m365_copilot client state v1|tenant in lower case|client id in lower case|resource without leading slash
//
// It is therefore the same after a restart and on every replica, and need not be stored. The result is a secret.
func ClientState(key *Key, tenant, clientID, resource string) string {
	info := strings.Join([]string{
		"m365_copilot client state v1", strings.ToLower(tenant), strings.ToLower(clientID), strings.TrimPrefix(resource, "/"),
	}, "|")
	state, err := hkdf.Key(sha256.New, key.pkcs8, nil, info, sha256.Size)
	if err != nil {
		panic(fmt.Sprintf("derive a client state: %v", err)) // only a length over 8,160 bytes is an error
	}
	return base64.RawURLEncoding.EncodeToString(state)
}
