// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeCollector subscribes and accepts notifications, with an implementation that is independent of the receiver.
type fakeCollector struct {
	t   *testing.T
	key *rsa.PrivateKey
	url string

	// refusing makes it answer every notification with 503.
	refusing atomic.Bool

	mu        sync.Mutex // guards what follows
	decrypted []map[string]any
}

// newCollector listens with the certificate in dir.
func newCollector(t *testing.T, dir string) *fakeCollector {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c := &fakeCollector{t: t, key: key}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(c)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections are cut when the simulation ends
	server.StartTLS()
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *fakeCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if token := r.URL.Query().Get("validationToken"); token != "" {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, token)
		return
	}
	if c.refusing.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return // the simulation ended while it sent
	}
	var body struct {
		Value []struct {
			ClientState      string
			LifecycleEvent   string
			EncryptedContent struct{ Data, DataKey, DataSignature []byte }
		}
	}
	if !assert.NoError(c.t, json.Unmarshal(text, &body)) {
		return
	}
	for _, item := range body.Value {
		assert.Equal(c.t, "state", item.ClientState)
		if item.LifecycleEvent != "" {
			continue
		}
		c.decrypt(item.EncryptedContent.DataKey, item.EncryptedContent.Data, item.EncryptedContent.DataSignature)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (c *fakeCollector) decrypt(dataKey, data, signature []byte) {
	symmetric, err := c.key.Decrypt(nil, dataKey, &rsa.OAEPOptions{Hash: crypto.SHA1})
	if err != nil {
		assert.Fail(c.t, "the key is not for this certificate", err.Error())
		return
	}
	mac := hmac.New(sha256.New, symmetric)
	mac.Write(data)
	assert.Equal(c.t, mac.Sum(nil), signature)
	block, err := aes.NewCipher(symmetric)
	if err != nil {
		assert.Fail(c.t, "the key is not one of AES", err.Error())
		return
	}
	cipher.NewCBCDecrypter(block, symmetric[:16]).CryptBlocks(data, data)
	var interaction map[string]any
	if assert.NoError(c.t, json.Unmarshal(data[:len(data)-int(data[len(data)-1])], &interaction)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.decrypted = append(c.decrypted, interaction)
	}
}

// login returns an access token.
func (c *fakeCollector) login(graph string) string {
	c.t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {demoClient}, "client_secret": {demoSecret}, "scope": {graph + "/.default"},
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	c.post(graph+"/"+demoTenant+"/oauth2/v2.0/token", "", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), http.StatusOK, &token)
	return token.AccessToken
}

// subscribe logs in and creates a subscription.
func (c *fakeCollector) subscribe(graph string) {
	c.t.Helper()
	token := c.login(graph)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &c.key.PublicKey, c.key)
	require.NoError(c.t, err)
	request, err := json.Marshal(map[string]any{
		"resource":                 "/copilot/interactionHistory/getAllEnterpriseInteractions",
		"changeType":               "created",
		"notificationUrl":          c.url,
		"lifecycleNotificationUrl": c.url,
		"clientState":              "state",
		"expirationDateTime":       time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339),
		"includeResourceData":      true,
		"encryptionCertificate":    base64.StdEncoding.EncodeToString(der),
		"encryptionCertificateId":  "key",
	})
	require.NoError(c.t, err)
	c.post(graph+"/v1.0/subscriptions", token, "application/json", bytes.NewReader(request), http.StatusCreated, &struct{}{})
}

func (c *fakeCollector) post(target, token, kind string, body io.Reader, status int, answer any) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, target, body)
	require.NoError(c.t, err)
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	require.NoError(c.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, status, response.StatusCode, "%s", text)
	require.NoError(c.t, json.Unmarshal(text, answer))
}
