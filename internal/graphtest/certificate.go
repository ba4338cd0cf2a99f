package graphtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Pair is a certificate and its private key, each in PEM.
type Pair struct {
	Certificate, Key []byte
}

// Organization is in the subject of every certificate that ServerCertificate made.
const Organization = "graphtest emulator"

// ServerCertificate makes a self-signed certificate for localhost, 127.0.0.1 and ::1 that is valid from an hour before now on for the
// time given. Graph itself accepts only certificates of public authorities; the emulator accepts what is in Settings.RootCAs.
func ServerCertificate(validFor time.Duration) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a server certificate: %w", err)
	}
	return selfSigned(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost", Organization: []string{Organization}},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key, &key.PublicKey, validFor)
}

// EncryptionCertificate makes a self-signed certificate with an RSA key of the given bits, as a subscription needs it.
func EncryptionCertificate(bits int, validFor time.Duration) (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return Pair{}, fmt.Errorf("make an encryption certificate: %w", err)
	}
	return selfSigned(&x509.Certificate{
		Subject:  pkix.Name{CommonName: "graphtest encryption"},
		KeyUsage: x509.KeyUsageKeyEncipherment,
	}, key, &key.PublicKey, validFor)
}

func selfSigned(template *x509.Certificate, key, public any, validFor time.Duration) (Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(validFor)
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

// X509 returns the certificate.
func (p Pair) X509() (*x509.Certificate, error) {
	block, _ := pem.Decode(p.Certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the file holds no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// TLS returns the pair for a server.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Certificate, p.Key) }

// Pool returns a pool that trusts exactly this certificate.
func (p Pair) Pool() (*x509.CertPool, error) {
	certificate, err := p.X509()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return pool, nil
}
