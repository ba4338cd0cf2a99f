package notification

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// Types of PEM blocks: https://www.rfc-editor.org/rfc/rfc7468, and openssl for the older two.
const (
	blockCertificate  = "CERTIFICATE"
	blockPKCS8        = "PRIVATE KEY"
	blockPKCS1        = "RSA PRIVATE KEY"
	blockEncrypted    = "ENCRYPTED PRIVATE KEY"
	blockEllipticKey  = "EC PRIVATE KEY"
	headerEncryptedV1 = "Proc-Type"
)

// LoadKey reads a certificate and its private key from two PEM files, which may be the same file. The key is PKCS#8 or
// PKCS#1; of several certificates the first counts. An empty id stands for DefaultKeyID.
//
// An error names the file and what to do about it.
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

// ParseKey is LoadKey for PEM that is already in memory, such as what MarshalPEM gave.
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

// MarshalPEM gives the certificate and the private key (PKCS#8) in PEM, for keeping a generated key. The second is a
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
		return nil, errors.New("no private key: make keys with LoadKey, ParseKey or GenerateKey")
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
			return nil, fmt.Errorf("unreadable certificate: %w", err)
		}
		if _, ok := certificate.PublicKey.(*rsa.PublicKey); !ok {
			return nil, fmt.Errorf("certificate of %s: Graph encrypts for RSA only, make one with an RSA key", certificate.PublicKeyAlgorithm)
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
				return nil, fmt.Errorf("unreadable private key: %w", err)
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
				return nil, fmt.Errorf("unreadable private key: %w", err)
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
	errEncryptedKey = errors.New("private key is protected by a password: take it off with `openssl pkey -in FILE -out FILE.pem`")
	errNotRSA       = errors.New("private key is not RSA: Graph encrypts for RSA only, make an RSA key of 2048 to 4096 bits")
)
