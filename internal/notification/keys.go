package notification

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph names certificates by their SHA-1 thumbprint; nothing is trusted because of it
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"
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
	id            string
	private       *rsa.PrivateKey
	certificate   *x509.Certificate
	certificateID string
	thumbprint    string
}

// newKey returns errors that do not say where the key comes from; the callers add that.
func newKey(id string, private *rsa.PrivateKey, certificate *x509.Certificate) (*Key, error) {
	if bits := private.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return nil, fmt.Errorf("RSA key of %d bits: create one of %d to %d bits", bits, minKeyBits, maxKeyBits)
	}
	if !private.PublicKey.Equal(certificate.PublicKey) {
		return nil, errors.New("certificate and key do not belong together: configure the key that the certificate was issued for")
	}
	if id == "" {
		id = DefaultKeyID
	}
	spki := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	thumbprint := sha1.Sum(certificate.Raw) //nolint:gosec // see the import
	return &Key{
		id:            id,
		private:       private,
		certificate:   certificate,
		certificateID: id + "." + hex.EncodeToString(spki[:8]),
		thumbprint:    hex.EncodeToString(thumbprint[:]),
	}, nil
}

// ID returns the label from the configuration.
func (k *Key) ID() string { return k.id }

// CertificateID returns the encryptionCertificateId of subscriptions: the label, a dot, and the first 16 hex digits of the
// SHA-256 of the SubjectPublicKeyInfo. A new key with an old label therefore has another id.
func (k *Key) CertificateID() string { return k.certificateID }

// CertificateDER returns the certificate in DER, whose base64 is the encryptionCertificate of subscriptions.
func (k *Key) CertificateDER() []byte { return slices.Clone(k.certificate.Raw) }

// Thumbprint returns the SHA-1 of the certificate in DER as 40 lower-case hex digits.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Ring holds the decryption keys. The first is used for new subscriptions.
type Ring []*Key

// find looks up a key by encryptionCertificateId, or by thumbprint if that is missing or unknown.
func (r Ring) find(certificateID, thumbprint string) (*Key, bool) {
	if certificateID != "" {
		for _, key := range r {
			if key.certificateID == certificateID {
				return key, true
			}
		}
	}
	for _, key := range r {
		if strings.EqualFold(key.thumbprint, thumbprint) {
			return key, true
		}
	}
	return nil, false
}

// names lists the certificate ids, for errors.
func (r Ring) names() string {
	names := make([]string, len(r))
	for i, key := range r {
		names[i] = key.certificateID
	}
	return strings.Join(names, ", ")
}

// Types of PEM blocks of https://www.rfc-editor.org/rfc/rfc7468, and older ones that openssl writes.
const (
	blockCertificate  = "CERTIFICATE"
	blockPKCS8        = "PRIVATE KEY"
	blockPKCS1        = "RSA PRIVATE KEY"
	blockEncrypted    = "ENCRYPTED PRIVATE KEY"
	blockEllipticKey  = "EC PRIVATE KEY"
	headerEncryptedV1 = "Proc-Type"
)

// LoadKey reads a certificate and its private key from two PEM files, which may be the same file. The key is PKCS#8 or
// PKCS#1; of several certificates the first is used. An empty id means DefaultKeyID.
//
// An error names the file and says what to do.
func LoadKey(id, certFile, keyFile string) (*Key, error) {
	certPEM, err := os.ReadFile(certFile) //nolint:gosec // the operator chooses the file
	if err != nil {
		return nil, fmt.Errorf("read cert_file: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile) //nolint:gosec // the operator chooses the file
	if err != nil {
		return nil, fmt.Errorf("read key_file: %w", err)
	}
	certificate, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("cert_file %s: %w", certFile, err)
	}
	private, err := parsePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("key_file %s: %w", keyFile, err)
	}
	key, err := newKey(id, private, certificate)
	if err != nil {
		return nil, fmt.Errorf("cert_file %s and key_file %s: %w", certFile, keyFile, err)
	}
	return key, nil
}

// ParseKey is like LoadKey for PEM in memory, such as the result of MarshalPEM.
func ParseKey(id string, certPEM, keyPEM []byte) (*Key, error) {
	certificate, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	private, err := parsePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return newKey(id, private, certificate)
}

// MarshalPEM returns the certificate and the private key (PKCS#8) in PEM, to store a generated key. The private key is a
// secret.
func (k *Key) MarshalPEM() (certPEM, keyPEM []byte, err error) {
	der, err := k.pkcs8()
	if err != nil {
		return nil, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: k.certificate.Raw})
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: der}), nil
}

func (k *Key) pkcs8() ([]byte, error) {
	if k == nil || k.private == nil {
		return nil, errors.New("no private key: create keys with LoadKey, ParseKey or GenerateKey")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode private key %s: %w", k.certificateID, err)
	}
	return der, nil
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("invalid certificate: %w", err)
		}
		if _, ok := certificate.PublicKey.(*rsa.PublicKey); !ok {
			return nil, fmt.Errorf("certificate of %s: Graph encrypts for RSA only, create one with an RSA key", certificate.PublicKeyAlgorithm)
		}
		return certificate, nil
	}
	return nil, errors.New("no certificate in PEM: convert DER with `openssl x509 -inform der -in FILE -out FILE.pem`")
}

func parsePrivateKey(data []byte) (*rsa.PrivateKey, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case blockPKCS8:
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("invalid private key: %w", err)
			}
			private, ok := parsed.(*rsa.PrivateKey)
			if !ok {
				return nil, errNotRSA
			}
			return private, nil
		case blockPKCS1:
			if _, encrypted := block.Headers[headerEncryptedV1]; encrypted {
				return nil, errEncryptedKey
			}
			private, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("invalid private key: %w", err)
			}
			return private, nil
		case blockEncrypted:
			return nil, errEncryptedKey
		case blockEllipticKey:
			return nil, errNotRSA
		}
	}
	return nil, errors.New("no private key in PEM: convert DER with `openssl pkey -inform der -in FILE -out FILE.pem`")
}

var (
	errEncryptedKey = errors.New("private key is protected by a password: remove it with `openssl pkey -in FILE -out FILE.pem`")
	errNotRSA       = errors.New("private key is not RSA: Graph encrypts for RSA only, create an RSA key of 2048 to 4096 bits")
)

const (
	generatedYears = 20
	serialBits     = 127
)

// GenerateKey generates an RSA key of 2048 bits with a self-signed certificate that is valid for 20 years. Graph checks neither
// issuer nor chain: https://learn.microsoft.com/graph/change-notifications-with-resource-data
//
// Each call returns another key, with another client state and certificate id. Use MarshalPEM to store it.
func GenerateKey(id string) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, minKeyBits)
	if err != nil {
		return nil, fmt.Errorf("generate an RSA key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("generate a serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "m365_copilot receiver"},
		// The clock of Graph may be behind ours.
		NotBefore: now.Add(-24 * time.Hour),
		NotAfter:  now.AddDate(generatedYears, 0, 0),
		KeyUsage:  x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate: %w", err)
	}
	return newKey(id, private, certificate)
}
