package webhook_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
)

func serverTLS(certFile, keyFile string) configtls.ServerConfig {
	config := configtls.NewDefaultServerConfig()
	config.CertFile, config.KeyFile = certFile, keyFile
	return config
}

// writeCertificate puts a new self-signed certificate for 127.0.0.1 in a directory.
func writeCertificate(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "webhook"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func tlsConfig(dir string, reload time.Duration) confighttp.ServerConfig {
	config := localConfig()
	secured := serverTLS(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	secured.ReloadInterval = reload
	config.TLS = configoptional.Some(secured)
	return config
}

func trusting(t *testing.T, certificates ...*x509.Certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return newClient(t, &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	})
}

func TestHTTP2OverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := writeCertificate(t, dir, 1)
	around := newHarness()
	server := serve(t, around.handler(), tlsConfig(dir, 0))

	answer, err := trusting(t, certificate).Post("https://"+server.Addr().String()+path, "application/json", strings.NewReader(oneItem))
	require.NoError(t, err)

	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assert.Equal(t, 2, answer.ProtoMajor)
	assert.NotNil(t, answer.TLS)
	assertPlain(t, answer)
}

func TestTLSWithoutHTTP2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := writeCertificate(t, dir, 1)
	server := serve(t, newHarness().handler(), tlsConfig(dir, 0))
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	client := newClient(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})

	answer, err := client.Post("https://"+server.Addr().String()+path+"?validationToken=abc", "text/plain", http.NoBody)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()

	assert.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Equal(t, 1, answer.ProtoMajor)
}

func TestARenewedCertificateIsServedWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	server := serve(t, newHarness().handler(), tlsConfig(dir, time.Nanosecond))
	assert.EqualValues(t, 1, servedSerial(t, server.Addr()))

	writeCertificate(t, dir, 2)

	assert.EqualValues(t, 2, servedSerial(t, server.Addr()))
}

func servedSerial(t *testing.T, address net.Addr) int64 {
	t.Helper()
	connection, err := tls.Dial("tcp", address.String(), &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
