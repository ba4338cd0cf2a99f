// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"crypto/subtle"
	"crypto/x509"
	"slices"
	"sync"
)

// credentials are what the application registration accepts at the moment.
type credentials struct {
	mu           sync.Mutex // guards what follows
	secrets      []string
	certificates []*x509.Certificate
	assertions   []string
}

func newCredentials(s Settings) *credentials {
	c := &credentials{certificates: s.ClientCertificates}
	if s.ClientSecret != "" {
		c.secrets = []string{s.ClientSecret}
	}
	if s.FederatedAssertion != "" {
		c.assertions = []string{s.FederatedAssertion}
	}
	return c
}

func (c *credentials) hasSecret(secret string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return contains(c.secrets, secret)
}

func (c *credentials) hasAssertion(assertion string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return contains(c.assertions, assertion)
}

func contains(all []string, one string) bool {
	return slices.ContainsFunc(all, func(s string) bool { return subtle.ConstantTimeCompare([]byte(s), []byte(one)) == 1 })
}

// registered returns the certificates, which must not be changed.
func (c *credentials) registered() []*x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certificates
}

// SetClientSecrets replaces the client secrets that are accepted. As in Entra ID, an application may have several. Access tokens that
// were issued stay valid; see RevokeTokens.
func (e *Emulator) SetClientSecrets(secrets ...string) {
	e.credentials.mu.Lock()
	defer e.credentials.mu.Unlock()
	e.credentials.secrets = slices.Clone(secrets)
}

// SetClientCertificates does the same with the certificates that may sign client assertions.
func (e *Emulator) SetClientCertificates(certificates ...*x509.Certificate) {
	e.credentials.mu.Lock()
	defer e.credentials.mu.Unlock()
	e.credentials.certificates = slices.Clone(certificates)
}

// SetFederatedAssertions does the same with the assertions of a federated credential.
func (e *Emulator) SetFederatedAssertions(assertions ...string) {
	e.credentials.mu.Lock()
	defer e.credentials.mu.Unlock()
	e.credentials.assertions = slices.Clone(assertions)
}
