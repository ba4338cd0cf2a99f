// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
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
	// authentication or headers.
	HTTP      *http.Client
	Telemetry Telemetry
}

// ReadFiles reads and checks the files of the credential as a token request does. Its error is a *TokenError.
func (s CredentialSettings) ReadFiles() error {
	_, _, err := s.config()
	return err
}

// fetch makes one token request (RFC 6749, section 4.4).
func (s CredentialSettings) fetch(ctx context.Context) (*oauth2.Token, error) {
	config, secret, err := s.config()
	if err != nil {
		return nil, err
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.HTTP))
	if err == nil {
		return token, nil
	}
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return nil, newTokenError(refused, secret)
	}
	if isType[*url.Error](err) {
		return nil, &TokenError{Err: failure.With(err, networkFailure(err, authorityKey))}
	}
	// The remaining case is a successful response without a token. oauth2 reads at most 1 MiB of it.
	err = failure.With(ErrUnreadable, failure.New(failure.UnexpectedResponse, authorityKey))
	return nil, &TokenError{Status: http.StatusOK, Err: err}
}

// config builds the request. It also returns the secret or assertion in it, which must not appear in an error.
func (s CredentialSettings) config() (config *clientcredentials.Config, secret string, err error) {
	config = &clientcredentials.Config{ClientID: s.ClientID, TokenURL: s.TokenURL, AuthStyle: oauth2.AuthStyleInParams}
	if s.Scope != "" {
		config.Scopes = []string{s.Scope}
	}
	switch {
	case s.CertFile != "" || s.KeyFile != "":
		secret, err = signAssertion(s)
		err = fileError("auth.client_certificate", s.CertFile+" with "+s.KeyFile, err)
	case s.FederatedTokenFile != "":
		secret, err = readSecret("auth.federated_token_file", s.FederatedTokenFile)
	default:
		if secret = s.Secret; s.SecretFile != "" {
			secret, err = readSecret("auth.client_secret_file", s.SecretFile)
		}
		config.ClientSecret = secret
		if s.AuthStyle != "body" {
			config.AuthStyle = oauth2.AuthStyleInHeader
		}
		return config, secret, err
	}
	config.EndpointParams = url.Values{
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {secret},
	}
	return config, secret, err
}

// readSecret reads a file that contains nothing but the secret, and trims white space around it.
func readSecret(setting, path string) (string, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	secret := strings.TrimSpace(string(content))
	if err == nil && secret == "" {
		err = errors.New("the file is empty")
	}
	return secret, fileError(setting, path, err)
}

// fileError adds to an error the configuration key of a file and its path, nil for nil.
func fileError(setting, path string, err error) error {
	if err == nil {
		return nil
	}
	return &TokenError{Err: failure.With(fmt.Errorf("%s: %w", setting, err), failure.New(failure.CredentialFile, path, setting))}
}

// CertificateExpiry reads when the client certificate expires: the first one in CertFile, which is registered in Entra ID. It is
// zero for every other kind of credential.
func (s CredentialSettings) CertificateExpiry() (time.Time, error) {
	if s.CertFile == "" {
		return time.Time{}, nil
	}
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return time.Time{}, err
	}
	certificate, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return time.Time{}, fmt.Errorf("parse the client certificate: %w", err)
	}
	return certificate.NotAfter, nil
}

// assertionLifetime is the longest lifetime that Microsoft recommends for an assertion. Each one is used once, immediately.
const assertionLifetime = 10 * time.Minute

// signAssertion signs a JWT that proves possession of the certificate's key. It reads the files each time, so that a renewed
// certificate needs no restart.
// See https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func signAssertion(s CredentialSettings) (string, error) {
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return "", err
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return "", errors.New("the key is not an RSA key, the only kind that Entra ID accepts")
	}
	thumbprint := sha256.Sum256(pair.Certificate[0])
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(thumbprint[:]))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("sign the client assertion: %w", err)
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(map[string]any{
		"aud": s.TokenURL, "iss": s.ClientID, "sub": s.ClientID, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(assertionLifetime).Unix(),
	}).Serialize()
}
