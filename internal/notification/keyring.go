package notification

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph names certificates by their SHA-1 thumbprint; nothing is trusted because of it
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// DefaultKeyID is the label of a key that was given none.
const DefaultKeyID = "key"

// Bounds of an encryption key: https://learn.microsoft.com/graph/change-notifications-with-resource-data
const (
	minKeyBits = 2048
	maxKeyBits = 4096
)

// Key is a private RSA key of 2048 to 4096 bits together with its certificate and its label.
// It is made by LoadKey, ParseKey or GenerateKey, and does not change.
type Key struct {
	id            string
	private       *rsa.PrivateKey
	certificate   *x509.Certificate
	certificateID string
	thumbprint    string
}

// newKey leaves it to its callers to say where the key comes from.
func newKey(id string, private *rsa.PrivateKey, certificate *x509.Certificate) (*Key, error) {
	if bits := private.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return nil, fmt.Errorf("RSA key of %d bits: make one of %d to %d bits", bits, minKeyBits, maxKeyBits)
	}
	if !private.PublicKey.Equal(certificate.PublicKey) {
		return nil, errors.New("certificate and key do not belong together: give the key that the certificate was made for")
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

// ID is the label from the configuration.
func (k *Key) ID() string { return k.id }

// CertificateID is the encryptionCertificateId of subscriptions: the label, a dot, and the first 16 hex digits of the
// SHA-256 of the SubjectPublicKeyInfo. So a new key under an old label has another id.
func (k *Key) CertificateID() string { return k.certificateID }

// CertificateDER is the certificate in DER, whose base64 is the encryptionCertificate of subscriptions.
func (k *Key) CertificateDER() []byte { return slices.Clone(k.certificate.Raw) }

// Thumbprint is the SHA-1 of the certificate in DER, 40 hex digits in lower case.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Ring holds the keys that can decrypt. The first is the one for new subscriptions.
type Ring []*Key

// find selects by encryptionCertificateId, and by thumbprint where that is missing or unknown.
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

// names lists what is configured, for errors.
func (r Ring) names() string {
	names := make([]string, len(r))
	for i, key := range r {
		names[i] = key.certificateID
	}
	return strings.Join(names, ", ")
}
