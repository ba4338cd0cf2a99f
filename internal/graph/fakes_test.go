// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// roundTripFunc is a round tripper without a network.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f roundTripFunc) client() *http.Client { return &http.Client{Transport: f} }

func reply(status int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

func jsonReply(status int, body string, header ...string) *http.Response {
	return reply(status, body, append(header, "Content-Type", "application/json")...)
}

// staticToken is a token source without a cache.
type staticToken string

func (f staticToken) Token(context.Context, bool) (string, error) { return string(f), nil }
func (f staticToken) Drop(string)                                 {}

// newGraph returns a client that has what the settings omit.
func newGraph(s graph.Settings) *graph.Client {
	s.HTTP, s.Telemetry = cmp.Or(s.HTTP, &http.Client{}), cmp.Or[graph.Telemetry](s.Telemetry, &recordingTelemetry{})
	return graph.New(s)
}

// newTokens returns a token source that has what the settings omit.
func newTokens(s graph.CredentialSettings) *graph.Tokens {
	s.HTTP, s.Telemetry = cmp.Or(s.HTTP, &http.Client{}), cmp.Or[graph.Telemetry](s.Telemetry, &recordingTelemetry{})
	return graph.NewTokens(s)
}

// newTestClient returns a client of a server with the handler.
func newTestClient(t *testing.T, handler http.HandlerFunc) *graph.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newGraph(graph.Settings{Endpoint: server.URL, HTTP: server.Client(), Tokens: staticToken("a-token")})
}

// write writes text, formatted if there are arguments.
func write(w io.Writer, text string, args ...any) {
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	_, _ = io.WriteString(w, text)
}

type recordedRequest struct {
	operation string
	status    int
}

// recordingTelemetry is a Telemetry that records its calls.
type recordingTelemetry struct {
	mu        sync.Mutex
	requests  []recordedRequest
	waits     []time.Duration
	refreshes []error
}

func (l *recordingTelemetry) GraphRequest(_ context.Context, operation string, status int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if took < 0 {
		panic("time runs backwards")
	}
	l.requests = append(l.requests, recordedRequest{operation, status})
}

func (l *recordingTelemetry) Throttled(_ context.Context, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits = append(l.waits, wait)
}

func (l *recordingTelemetry) TokenRefresh(_ context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refreshes = append(l.refreshes, err)
}

// endlessBody is a body that never ends.
type endlessBody struct{ closed bool }

func (*endlessBody) Read(p []byte) (int, error) { return len(p), nil }

func (e *endlessBody) Close() error {
	e.closed = true
	return nil
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// certificateFiles writes a self-signed certificate of the key and the key itself, and returns their paths and the DER.
func certificateFiles(t *testing.T, key crypto.Signer) (certFile, keyFile string, der []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile = writeFile(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile = writeFile(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return certFile, keyFile, der
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}
