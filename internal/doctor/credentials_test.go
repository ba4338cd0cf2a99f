// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const day = 24 * time.Hour

// newCredentialHarness is newHarness with the change of the settings.
func newCredentialHarness(t *testing.T, change func(*graphtest.Settings)) *harness {
	t.Helper()
	h := &harness{dir: t.TempDir()}
	settings := graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret, NoListLimit: true}
	change(&settings)
	h.emulator = graphtest.New(settings)
	t.Cleanup(h.emulator.Close)
	var err error
	h.url, err = h.emulator.Start("")
	require.NoError(t, err)
	return h
}

// write writes a file of the harness and returns its path.
func (h *harness) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(h.dir, name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// withCertificate returns a harness with a registered certificate that expires after validFor, the YAML that uses it, and the day.
func withCertificate(t *testing.T, validFor time.Duration) (h *harness, yaml, expires string) {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(2048, validFor)
	require.NoError(t, err)
	certificate, err := pair.X509()
	require.NoError(t, err)
	h = newCredentialHarness(t, func(s *graphtest.Settings) { s.ClientCertificates = []*x509.Certificate{certificate} })
	return h, fmt.Sprintf("    auth: {client_secret: \"\", client_certificate: {cert_file: %q, key_file: %q}}",
		h.write(t, "client.pem", string(pair.Certificate)), h.write(t, "client.key", string(pair.Key))), certificate.NotAfter.UTC().Format(time.DateOnly)
}

func TestCredentials_ExpiryOfSecret(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		left time.Duration
		mark doctor.Mark
		text string
	}{
		"in a year":  {365 * day, doctor.OK, "auth.client_secret is valid until "},
		"in 5 days":  {5*day + time.Hour, doctor.Warn, "auth.client_secret expires on "},
		"in an hour": {time.Hour + time.Minute, doctor.Warn, "auth.client_secret expires on "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const secret = "Xq7~canary"
			h := newCredentialHarness(t, func(s *graphtest.Settings) { s.ClientSecret = secret })
			h.emulator.SetRoles(graphtest.RoleReadAll, graphtest.RoleApplicationsReadAll)
			end := time.Now().Add(test.left)
			h.emulator.SetSecretEnd(end)
			r := h.check(t, "    auth: {client_secret: "+secret+"}", "")
			code, hint := failure.CredentialExpiring, "create a new secret or certificate"
			if test.mark == doctor.OK {
				code, hint = "", ""
			}
			requireFinding(t, r, "credentials", test.mark, code, test.text, hint, end.UTC().Format(time.DateOnly))
			assert.NotContains(t, printed(t, r), secret[:3])
		})
	}
}

func TestCredentials_ExpiryNotReadable(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	found := requireAllWell(t, h.check(t, "", ""), "credentials")
	assert.Equal(t, "auth.client_secret is accepted; its expiry can't be read: Application.Read.All is not granted", found)

	h.emulator.Fail(graphtest.OpApplication, graphtest.Fault{Status: 500})
	assert.Contains(t, requireAllWell(t, h.check(t, "", ""), "credentials"), "read application: Graph answered 500")
}

func TestCredentials_SecretFile(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.emulator.SetRoles(graphtest.RoleReadAll, graphtest.RoleApplicationsReadAll)
	yaml := fmt.Sprintf("    auth: {client_secret: \"\", client_secret_file: %q}", h.write(t, "secret", secret+"\n"))
	r := h.check(t, yaml, "")
	assert.Contains(t, requireAllWell(t, r, "token"), "auth.client_secret_file: an access token")
	assert.Contains(t, requireAllWell(t, r, "credentials"), "auth.client_secret_file is valid until")

	h.write(t, "secret", " \n")
	requireFinding(t, h.check(t, yaml, ""), "credentials", doctor.Fail, failure.CredentialFile, "auth.client_secret_file", "the file is empty")
	require.NoError(t, os.Remove(filepath.Join(h.dir, "secret")))
	r = h.check(t, yaml, "")
	requireFinding(t, r, "token", doctor.Fail, failure.CredentialFile, "auth.client_secret_file", "make the file")
	requireFinding(t, r, "credentials", doctor.Fail, failure.CredentialFile, "auth.client_secret_file", "make the file")
}

func TestCredentials_DatesOfCertificate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		validFor time.Duration
		roles    []string
		mark     doctor.Mark
		text     string
	}{
		"valid for a year":                 {365 * day, nil, doctor.OK, "auth.client_certificate is valid until"},
		"valid for a year, as Graph shows": {365 * day, []string{graphtest.RoleApplicationsReadAll}, doctor.OK, "auth.client_certificate is valid until"},
		"expires in 20 days":               {20*day + time.Hour, nil, doctor.Warn, "auth.client_certificate expires on "},
		"has expired":                      {-time.Minute, nil, doctor.Fail, "auth.client_certificate expired on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, yaml, expires := withCertificate(t, test.validFor)
			h.emulator.SetRoles(append(test.roles, graphtest.RoleReadAll)...)
			r := h.check(t, yaml, "")
			code, hint := failure.CredentialExpiring, "create a new secret or certificate"
			if test.mark == doctor.OK {
				code, hint = "", ""
			}
			requireFinding(t, r, "credentials", test.mark, code, test.text, hint, expires)
			assert.Contains(t, requireAllWell(t, r, "token"), "auth.client_certificate: an access token")
		})
	}
}

// The file is checked where nothing answers, too.
func TestCredentials_CertificateOfAnotherKey(t *testing.T) {
	t.Parallel()
	h, yaml, _ := withCertificate(t, 365*day)
	other, err := graphtest.EncryptionCertificate(2048, day)
	require.NoError(t, err)
	h.write(t, "client.key", string(other.Key))
	h.emulator.StopListening()
	r := h.check(t, yaml, "")
	requireFinding(t, r, "token", doctor.Skip, "", "was not reached")
	requireFinding(t, r, "credentials", doctor.Fail, failure.CredentialFile, "auth.client_certificate", "does not match")
}

func TestCredentials_FederatedToken(t *testing.T) {
	t.Parallel()
	jwt := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".canary"
	}
	expiring := func(left time.Duration) string { return jwt(fmt.Sprintf(`{"exp": %d}`, time.Now().Add(left).Unix())) }
	for name, test := range map[string]struct {
		token string
		mark  doctor.Mark
		code  failure.Code
		text  string
	}{
		"it is valid":             {expiring(59 * time.Minute), doctor.OK, "", "the token in auth.federated_token_file is valid for 5"}, // and a digit
		"the file is not renewed": {expiring(-time.Minute), doctor.Fail, failure.AssertionExpired, "the token in auth.federated_token_file has expired"},
		"it has no time":          {jwt(`{}`), doctor.OK, "", "auth.federated_token_file shows no expiry"},
		"it is no JWT":            {"canary", doctor.OK, "", "auth.federated_token_file shows no expiry"},
		"there is nothing in it":  {"", doctor.Fail, failure.CredentialFile, "the file is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newCredentialHarness(t, func(s *graphtest.Settings) { s.FederatedAssertion = test.token })
			yaml := fmt.Sprintf("    auth: {client_secret: \"\", federated_token_file: %q}", h.write(t, "token", test.token+"\n"))
			r := h.check(t, yaml, "")
			requireFinding(t, r, "credentials", test.mark, test.code, test.text)
			if test.token != "" {
				assert.Contains(t, requireAllWell(t, r, "token"), "auth.federated_token_file: an access token")
			}
			assert.NotContains(t, printed(t, r), "canary")
		})
	}
}
