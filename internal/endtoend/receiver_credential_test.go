// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/oauth2clientauthextension"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestCredential_EachKindSubscribes(t *testing.T) {
	t.Parallel()
	app, err := graphtest.EncryptionCertificate(2048, validFor)
	require.NoError(t, err)
	block, _ := pem.Decode(app.Certificate)
	require.NotNil(t, block)
	certificate, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	const assertion = "a-token-of-another-identity-provider"

	for name, use := range map[string]func(*testing.T, *m365copilotreceiver.Config){
		"a client secret in the header": func(*testing.T, *m365copilotreceiver.Config) {},
		"a client secret in the body": func(_ *testing.T, c *m365copilotreceiver.Config) {
			c.Auth.AuthStyle = m365copilotreceiver.AuthStyleBody
		},
		"a client secret in a file": func(t *testing.T, c *m365copilotreceiver.Config) {
			t.Helper()
			c.Auth.ClientSecret, c.Auth.ClientSecretFile = "", writeFile(t, secret+"\n")
		},
		"a client certificate": func(t *testing.T, c *m365copilotreceiver.Config) {
			t.Helper()
			c.Auth.ClientSecret = ""
			c.Auth.ClientCertificate = configoptional.Some(m365copilotreceiver.ClientCertificateConfig{
				CertFile: writeFile(t, string(app.Certificate)), KeyFile: writeFile(t, string(app.Key)),
			})
		},
		"a federated token": func(t *testing.T, c *m365copilotreceiver.Config) {
			t.Helper()
			c.Auth.ClientSecret, c.Auth.FederatedTokenFile = "", writeFile(t, assertion)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(s *graphtest.Settings) {
				s.ClientCertificates, s.FederatedAssertion = []*x509.Certificate{certificate}, assertion
			})
			use(t, h.config)
			h.run(t)
			h.deliver(t, newTurns(2)...)
			assert.Len(t, h.records(), 2)
		})
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

func TestCredential_RereadsSecretFile(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	file := writeFile(t, "an-expired-secret")
	h.config.Auth.ClientSecret, h.config.Auth.ClientSecretFile = "", file
	h.start(t)
	h.host.await(t, componentstatus.StatusRecoverableError)
	require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
	h.subscribed(t)
	h.host.await(t, componentstatus.StatusOK)
}

// authenticator refers to the extension oauth2client.
func authenticator() configoptional.Optional[configauth.Config] {
	return configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("oauth2client")})
}

// withAuthenticator configures an extension that gets the tokens for Graph from an authority.
func (h *harness) withAuthenticator(t *testing.T, authority string) {
	t.Helper()
	factory := oauth2clientauthextension.NewFactory()
	config, ok := factory.CreateDefaultConfig().(*oauth2clientauthextension.Config)
	require.True(t, ok)
	config.ClientID, config.ClientSecret = client, secret
	config.TokenURL = authority + "/" + tenant + "/oauth2/v2.0/token"
	config.Scopes = []string{h.config.Graph.Endpoint + "/.default"}
	extension, err := factory.Create(t.Context(), extensiontest.NewNopSettings(factory.Type()), config)
	require.NoError(t, err)
	require.NoError(t, extension.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, extension.Shutdown(context.Background())) })

	h.config.Auth.ClientSecret, h.config.Graph.Auth = "", authenticator()
	h.host.extensions = map[component.ID]component.Component{component.MustNewID("oauth2client"): extension}
}

func TestCredential_UsesAuthenticatorExtension(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withAuthenticator(t, h.config.Auth.Authority)
	h.run(t)
	h.deliver(t, newTurns(2)...)
	assert.Len(t, h.records(), 2)
	for _, request := range h.emulator.Requests(graphtest.OpKeys) {
		assert.Empty(t, request.Header["Authorization"], "the keys are fetched without a token")
	}
}
