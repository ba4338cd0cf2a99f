package notification

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

const (
	generatedYears = 20
	serialBits     = 127
)

// GenerateKey makes an RSA key of 2048 bits with a self-signed certificate, valid for 20 years. Graph checks neither
// issuer nor chain: https://learn.microsoft.com/graph/change-notifications-with-resource-data
//
// Each call gives another key, hence another client state and certificate id: keep it with MarshalPEM.
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
		// Graph's clock may be behind ours.
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
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return newKey(id, private, certificate)
}
