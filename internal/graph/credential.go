package graph

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the x5t header is a SHA-1 thumbprint by definition
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// maxTokenBody is larger than the largest token that Entra ID issues, with all of its group and role claims.
	maxTokenBody = 256 << 10
	// maxSecretFile bounds the size of a file whose whole content is a secret or an assertion.
	maxSecretFile = 64 << 10

	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// CredentialSettings configures how an application authenticates to the token endpoint. Exactly one of Secret, SecretFile,
// CertFile with KeyFile, and FederatedTokenFile is set.
type CredentialSettings struct {
	// TokenURL is the OAuth 2.0 token endpoint, as the function TokenURL returns it.
	TokenURL string
	ClientID string
	// Scope is one string, as DefaultScope returns it; several scopes are separated by spaces.
	Scope string
	// AuthStyle selects how the client id and secret are sent: header (the default) is HTTP Basic with both form-encoded
	// first, as RFC 6749, section 2.3.1 requires and Entra ID decodes; body sends them as form parameters, for endpoints
	// that skip that decoding. Assertions are always in the body.
	AuthStyle string

	Secret string
	// SecretFile contains the secret; white space around it is ignored.
	SecretFile string
	// CertFile contains a certificate, optionally followed by its chain, and KeyFile its unencrypted RSA key, both in PEM.
	CertFile, KeyFile string
	// FederatedTokenFile contains a client assertion that a workload identity provider renews.
	FederatedTokenFile string

	// HTTP makes the token requests. It is copied, and the copy follows no redirects. It must not add Graph's own
	// authentication or headers. Nil means a default client with a timeout of 30 s.
	HTTP *http.Client
	// Telemetry may be nil.
	Telemetry Telemetry
}

// CredentialError is a file of the credential that cannot be used. It is read again at the next token request.
type CredentialError struct {
	// Setting is the configuration key of the file, and Path the file itself.
	Setting, Path string
	Err           error
}

// Error names the key and the file, never its content.
func (e *CredentialError) Error() string { return fmt.Sprintf("%s %s: %v", e.Setting, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *CredentialError) Unwrap() error { return e.Err }

// credential requests tokens from the token endpoint.
type credential struct {
	settings CredentialSettings
	http     *http.Client
}

func newCredential(s CredentialSettings) *credential {
	return &credential{settings: s, http: withoutRedirects(s.HTTP)}
}

// fetch makes one token request (RFC 6749, section 4.4).
func (c *credential) fetch(ctx context.Context) (*oauth2.Token, error) {
	config, proof, err := c.config(time.Now())
	if err != nil {
		return nil, err
	}
	client, transport := *c.http, &tokenTransport{base: c.http.Transport}
	client.Transport = transport
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, &client))
	if err == nil {
		return token, nil
	}
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return nil, newTokenError(refused, time.Now(), proof)
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return nil, &TokenError{Err: fmt.Errorf("%s: %w", hostOf(c.settings.TokenURL), transportError(err))}
	}
	// The remaining case is a successful response without a token.
	return nil, &TokenError{Status: transport.status, Err: ErrUnreadable}
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "the token URL has no host"
	}
	return u.Host
}

// config builds the request. It also returns the secret or assertion in it, which must not appear in an error.
func (c *credential) config(now time.Time) (config *clientcredentials.Config, proof string, err error) {
	s := c.settings
	config = &clientcredentials.Config{ClientID: s.ClientID, TokenURL: s.TokenURL, AuthStyle: oauth2.AuthStyleInParams}
	if s.Scope != "" {
		config.Scopes = []string{s.Scope}
	}
	switch {
	case s.CertFile != "" || s.KeyFile != "":
		proof, err = certificateAssertion(s, now)
	case s.FederatedTokenFile != "":
		proof, err = readSecret("auth.federated_token_file", s.FederatedTokenFile)
	default:
		proof, err = s.secret()
		config.ClientSecret = proof
		if s.AuthStyle != "body" {
			config.AuthStyle = oauth2.AuthStyleInHeader
		}
		return config, proof, err
	}
	config.EndpointParams = url.Values{"client_assertion_type": {assertionType}, "client_assertion": {proof}}
	return config, proof, err
}

func (s CredentialSettings) secret() (string, error) {
	if s.SecretFile != "" {
		return readSecret("auth.client_secret_file", s.SecretFile)
	}
	return s.Secret, nil
}

// readSecret reads a file that contains nothing but the secret, and trims white space around it.
func readSecret(setting, path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", &CredentialError{Setting: setting, Path: path, Err: withoutPath(err)}
	}
	defer func() { _ = file.Close() }() // opened for reading only
	content, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	secret := strings.TrimSpace(string(content))
	switch {
	case err != nil:
		err = withoutPath(err)
	case len(content) > maxSecretFile:
		err = errors.New("the file is too large to be a secret or a token")
	case secret == "":
		err = errors.New("the file is empty")
	default:
		return secret, nil
	}
	return "", &CredentialError{Setting: setting, Path: path, Err: err}
}

// withoutPath removes the path from an error that is wrapped in one that names the path already.
func withoutPath(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	return err
}

// tokenTransport reads each response completely, up to maxTokenBody, so that a failure while reading keeps its own error.
// It records the status, which oauth2 does not report for a response that it cannot parse.
type tokenTransport struct {
	base   http.RoundTripper
	status int
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := t.base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := readBody(resp.Body, maxTokenBody)
	if err != nil {
		return nil, err
	}
	t.status = resp.StatusCode
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// assertionLifetime is the longest lifetime that Microsoft recommends for an assertion. Each one is used once, immediately.
const assertionLifetime = 10 * time.Minute

// certificateAssertion signs a JWT that proves possession of the certificate's key, with the SHA-256 thumbprint that
// Microsoft documents and the SHA-1 thumbprint that it documented before. It reads the files each time, so that a renewed
// certificate needs no restart.
// See https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func certificateAssertion(s CredentialSettings, now time.Time) (string, error) {
	signed, err := signAssertion(s, now)
	if err != nil {
		return "", &CredentialError{Setting: "auth.client_certificate", Path: s.CertFile + " with " + s.KeyFile, Err: err}
	}
	return signed, nil
}

func signAssertion(s CredentialSettings, now time.Time) (string, error) {
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return "", err
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return "", errors.New("the key is not an RSA key, the only kind that Entra ID accepts")
	}
	der := pair.Certificate[0]
	sha256Sum, sha1Sum := sha256.Sum256(der), sha1.Sum(der) //nolint:gosec // the thumbprint is a lookup key and protects nothing
	options := (&jose.SignerOptions{}).WithType("JWT").
		WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sha256Sum[:])).
		WithHeader("x5t", base64.RawURLEncoding.EncodeToString(sha1Sum[:]))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("sign the client assertion: %w", err)
	}
	return jwt.Signed(signer).Claims(assertionClaims{
		Audience: s.TokenURL, Issuer: s.ClientID, Subject: s.ClientID, ID: newGUID(),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiry: now.Add(assertionLifetime).Unix(),
	}).Serialize()
}

// assertionClaims are the claims that Microsoft documents. The audience is a string; jwt.Claims would write a list.
type assertionClaims struct {
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	ID        string `json:"jti"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expiry    int64  `json:"exp"`
}
