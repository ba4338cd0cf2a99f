// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	publicPath = "/graph/notifications"
	// queryKey is a secret in the query of the notification URL, as a function app requires it.
	queryKey = "canary-function-key"
)

// site is where Graph reaches the webhook: a public address, a certificate of a public CA, and webhook.endpoint behind.
type site struct {
	*harness
	t  *testing.T
	ca *authority
	// webhook is webhook.endpoint. Nothing listens there yet.
	webhook string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{harness: newHarness(t), t: t, ca: newAuthority(t, "public root", nil), webhook: freeAddress(t)}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(s.ca.certificate)
	return s
}

// checkURL makes all checks with a notification URL for this host, and returns those of the URL. It asserts that nothing is changed by
// them and that the secret in the URL is not told.
func (s *site) checkURL(host, webhook string) doctor.Group {
	t := s.t
	t.Helper()
	before := s.emulator.Subscriptions()
	r := s.check(t, "    subscription: {notification_url: 'https://"+host+publicPath+"?code="+queryKey+"'}\n    webhook: {"+webhook+"}", "")
	assert.Equal(t, before, s.emulator.Subscriptions())
	assertReadOnly(t, s.harness)
	var all bytes.Buffer
	require.NoError(t, r.WriteJSON(&all))
	assert.NotContains(t, all.String(), queryKey)
	return group(t, r, "notification URL")
}

// endpoint is the YAML of webhook with the site's endpoint.
func (s *site) endpoint() string { return "endpoint: '" + s.webhook + "'" }

// forward is an ingress that sends requests on to the webhook, changed by change.
func (s *site) forward(change func(*http.Request)) http.Handler {
	return &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: s.webhook})
			if change != nil {
				change(r.Out)
			}
		},
	}
}

// serve starts a public HTTPS server and returns its host.
func (s *site) serve(handler http.Handler) string { return s.serveWith(s.ca.issue(s.t), handler) }

// serveWith does the same with a certificate.
func (s *site) serveWith(pair tls.Certificate, handler http.Handler) string {
	return serveTLS(s.t, handler, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
}

func serveTLS(t *testing.T, handler http.Handler, config *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS, server.Config.ErrorLog = config, log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// authority is a CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// sent are the certificates that a server sends after its own: this one, and those above it but for the root.
	sent [][]byte
}

// newAuthority returns a CA below another one, or a root if parent is nil.
func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), SerialNumber: big.NewInt(1),
	}
	a := &authority{key: key}
	by, with := template, key
	if parent != nil {
		by, with = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), with)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	if parent != nil {
		a.sent = append([][]byte{der}, parent.sent...)
	}
	return a
}

// issue returns a certificate for loopback that is valid for 90 days, changed by change, with the chain that a server sends.
func (a *authority) issue(t *testing.T, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "webhook"}, SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: append([][]byte{der}, a.sent...), PrivateKey: key}
}

// writeFiles writes a certificate with its chain, and its key, and returns their paths.
func writeFiles(t *testing.T, dir string, pair tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certFile, chain, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	return certFile, keyFile
}

// lastPort is the last port that freeAddress returned. The system assigns no ports below 32768 to connections or to listeners of port 0,
// so that no other test listens there later.
var lastPort atomic.Int32

// freeAddress returns a loopback address on which nothing listens, and that no other test gets.
func freeAddress(t *testing.T) string {
	t.Helper()
	lastPort.CompareAndSwap(0, 26_000+mathrand.Int32N(4_000))
	for range 1000 {
		address := "127.0.0.1:" + strconv.Itoa(int(lastPort.Add(1)))
		if listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, listener.Close())
			return address
		}
	}
	require.FailNow(t, "no port is free")
	return ""
}

// assertFree asserts that nothing listens on an address.
func assertFree(t *testing.T, address string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if assert.NoError(t, err, "the doctor still listens") {
		require.NoError(t, listener.Close())
	}
}

// assertReadOnly asserts that the emulator was read, and asked for tokens, and nothing else.
func assertReadOnly(t *testing.T, h *harness) {
	t.Helper()
	for _, r := range h.emulator.Requests() {
		assert.True(t, r.Method == http.MethodGet || r.Operation == graphtest.OpToken, "%s %s", r.Method, r.Operation)
	}
}

// only returns the only check of a group that is not well, or else the last.
func only(t *testing.T, g doctor.Group) doctor.Check {
	t.Helper()
	found := g.Checks[len(g.Checks)-1]
	var bad []doctor.Check
	for _, c := range g.Checks {
		if c.Mark > doctor.Skip {
			bad = append(bad, c)
		}
	}
	require.LessOrEqual(t, len(bad), 1, "%+v", g)
	if len(bad) == 1 {
		found = bad[0]
	}
	return found
}
