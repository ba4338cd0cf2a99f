// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// keyPair is one encryption key for all tests, since generating one is slow.
var keyPair = sync.OnceValues(func() (graphtest.Pair, error) { return graphtest.EncryptionCertificate(2048, time.Hour) })

var serverPair = sync.OnceValues(func() (graphtest.Pair, error) { return graphtest.ServerCertificate(time.Hour) })

// endpoint is a notification endpoint that decrypts and keeps what it receives.
type endpoint struct {
	url string
	key *rsa.PrivateKey
	der []byte

	mu        sync.Mutex // guards what follows
	answer    func(w http.ResponseWriter, r *http.Request, n int)
	posts     []graphtest.Collection
	decrypted []string
	errs      []error
}

// newEndpoint starts an endpoint that answers 202 until the test calls answerWith. The function passed there gets the number of the
// notification, counted from 1.
func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	pair, err := keyPair()
	require.NoError(t, err)
	certificate, err := pair.X509()
	require.NoError(t, err)
	block, _ := pem.Decode(pair.Key)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	e := &endpoint{key: key.(*rsa.PrivateKey), der: certificate.Raw}
	server := httptest.NewUnstartedServer(e)
	tlsPair, err := serverPair()
	require.NoError(t, err)
	own, err := tlsPair.TLS()
	require.NoError(t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests break connections
	server.StartTLS()
	t.Cleanup(server.Close)
	e.url = server.URL + "/graph/notifications"
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if token := r.URL.Query().Get("validationToken"); token != "" {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, token)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var c graphtest.Collection
	err := json.Unmarshal(body, &c)
	e.mu.Lock()
	e.posts = append(e.posts, c)
	n, answer := len(e.posts), e.answer
	for _, item := range c.Value {
		if item.EncryptedContent == nil {
			continue
		}
		plaintext, openErr := e.decrypt(*item.EncryptedContent)
		err = errors.Join(err, openErr)
		e.decrypted = append(e.decrypted, string(plaintext))
	}
	if err != nil {
		e.errs = append(e.errs, err)
	}
	e.mu.Unlock()
	if answer != nil {
		answer(w, r, n)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (e *endpoint) answerWith(answer func(w http.ResponseWriter, r *http.Request, n int)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) received() ([]graphtest.Collection, []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]graphtest.Collection{}, e.posts...), append([]string{}, e.decrypted...)
}

// decrypt decrypts as Microsoft documents it, using the general form of OAEP.
func (e *endpoint) decrypt(c graphtest.EncryptedContent) ([]byte, error) {
	dataKey, err1 := base64.StdEncoding.DecodeString(c.DataKey)
	data, err2 := base64.StdEncoding.DecodeString(c.Data)
	signature, err3 := base64.StdEncoding.DecodeString(c.DataSignature)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	symmetric, err := e.key.Decrypt(nil, dataKey, &rsa.OAEPOptions{Hash: crypto.SHA1})
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, symmetric)
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil), signature) {
		return nil, errors.New("the signature does not match")
	}
	block, err := aes.NewCipher(symmetric)
	if err != nil {
		return nil, err
	}
	plaintext := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, symmetric[:16]).CryptBlocks(plaintext, data)
	padding := int(plaintext[len(plaintext)-1])
	return plaintext[:len(plaintext)-padding], nil
}

const (
	tenantID = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	clientID = "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
	secret   = "a secret+with/every%kind~of&character"
	resource = "copilot/interactionHistory/getAllEnterpriseInteractions"
)

// client is an emulator with an HTTP client for it.
type client struct {
	*graphtest.Emulator
	t   *testing.T
	url string

	mu    sync.Mutex // guards what follows
	token string
}

// bearer returns the value of the Authorization header, with a token that the first call gets.
func (g *client) bearer() string {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token == "" {
		g.token = g.newToken()
	}
	return "Bearer " + g.token
}

// start starts an emulator that retries quickly and trusts the certificate of newEndpoint. change may adjust its settings.
func start(t *testing.T, change func(*graphtest.Settings)) *client {
	t.Helper()
	pair, err := serverPair()
	require.NoError(t, err)
	roots, err := pair.Pool()
	require.NoError(t, err)
	settings := graphtest.Settings{
		TenantID: tenantID, ClientID: clientID, ClientSecret: secret, RootCAs: roots, RetryDelay: time.Millisecond,
	}
	if change != nil {
		change(&settings)
	}
	emulator := graphtest.New(settings)
	t.Cleanup(emulator.Close)
	url, err := emulator.Start("")
	require.NoError(t, err)
	return &client{Emulator: emulator, t: t, url: url}
}

// subscribe creates a subscription for the whole tenant. change may modify the request.
func (g *client) subscribe(e *endpoint, change func(map[string]any)) graphtest.Subscription {
	g.t.Helper()
	status, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, change))
	require.Equal(g.t, http.StatusCreated, status, "%v", answer)
	for _, s := range g.Subscriptions() {
		if s.ID == answer["id"] {
			return s
		}
	}
	require.Fail(g.t, "the subscription does not exist")
	return graphtest.Subscription{}
}

func request(e *endpoint, change func(map[string]any)) map[string]any {
	body := map[string]any{
		"resource":                 resource,
		"changeType":               "created,updated,deleted",
		"notificationUrl":          e.url,
		"lifecycleNotificationUrl": e.url,
		"expirationDateTime":       time.Now().Add(71 * time.Hour).UTC().Format(time.RFC3339),
		"clientState":              "state",
		"includeResourceData":      true,
		"encryptionCertificate":    base64.StdEncoding.EncodeToString(e.der),
		"encryptionCertificateId":  "key-1",
	}
	if change != nil {
		change(body)
	}
	return body
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// call sends body as JSON with an access token and returns status and body of the answer. path may be a full URL.
func (g *client) call(method, path string, body any) (int, map[string]any) {
	g.t.Helper()
	status, _, answer := g.exchange(method, path, body)
	return status, answer
}

func (g *client) exchange(method, path string, body any) (int, http.Header, map[string]any) {
	g.t.Helper()
	var payload io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		require.NoError(g.t, err)
		payload = bytes.NewReader(text)
	}
	target := path
	if !strings.HasPrefix(path, "http") {
		target = g.url + path
	}
	request, err := http.NewRequestWithContext(g.t.Context(), method, target, payload)
	require.NoError(g.t, err)
	request.Header.Set("Authorization", g.bearer())
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return g.do(request)
}

func (g *client) do(request *http.Request) (int, http.Header, map[string]any) {
	g.t.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(g.t, err)
	defer func() { _ = response.Body.Close() }()
	var answer map[string]any
	err = json.NewDecoder(response.Body).Decode(&answer)
	if err != nil {
		require.ErrorIs(g.t, err, io.EOF)
	}
	return response.StatusCode, response.Header, answer
}

// tokenForm returns a valid token request.
func (g *client) tokenForm() url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret}, "scope": {g.url + "/.default"},
	}
}

func (g *client) postToken(tenant string, form url.Values, prepare func(*http.Request)) (int, map[string]any) {
	g.t.Helper()
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.url+"/"+tenant+"/oauth2/v2.0/token",
		strings.NewReader(form.Encode()))
	require.NoError(g.t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if prepare != nil {
		prepare(request)
	}
	status, _, answer := g.do(request)
	return status, answer
}

func (g *client) newToken() string {
	g.t.Helper()
	status, answer := g.postToken(tenantID, g.tokenForm(), nil)
	require.Equal(g.t, http.StatusOK, status, "%v", answer)
	return answer["access_token"].(string)
}

// errorOf returns code and message of a Graph error.
func errorOf(answer map[string]any) (code, message string) {
	e, _ := answer["error"].(map[string]any)
	code, _ = e["code"].(string)
	message, _ = e["message"].(string)
	return code, message
}
