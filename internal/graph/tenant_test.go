// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestCopilotProducts_HaveTheServicePlan(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1.0/subscribedSkus", r.URL.String())
		write(w, `{"value": [
			{"skuPartNumber": "ENTERPRISEPACK", "capabilityStatus": "Enabled", "consumedUnits": 9, "servicePlans": [{"servicePlanId": "b95945de-b3bd-46db-8437-f2beb6ea2347"}]},
			{"skuPartNumber": "Microsoft_365_Copilot", "capabilityStatus": "Enabled", "consumedUnits": 14, "servicePlans": [
				{"servicePlanId": "b95945de-b3bd-46db-8437-f2beb6ea2347"}, {"servicePlanId": "3f30311c-6b1e-48a4-ab79-725b469da960"}]},
			{"skuPartNumber": "BUNDLE", "capabilityStatus": "Suspended", "consumedUnits": 0, "servicePlans": [{"servicePlanId": "3F30311C-6B1E-48A4-AB79-725B469DA960"}]},
			{"skuPartNumber": "NOTHING", "capabilityStatus": "Enabled", "consumedUnits": 1, "servicePlans": null}]}`)
	})
	products, err := client.CopilotProducts(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []graph.Product{
		{Name: "Microsoft_365_Copilot", CapabilityStatus: "Enabled", ConsumedUnits: 14}, {Name: "BUNDLE", CapabilityStatus: "Suspended"},
	}, products)
}

func TestTenant_ForbiddenWithoutPermission(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		write(w, `{"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges to complete the operation."}}`)
	})
	_, err := client.CopilotProducts(t.Context())
	assert.True(t, graph.Forbidden(err))
	_, err = client.CredentialExpiry(t.Context(), graph.CredentialSettings{Secret: "Xq7~hush"})
	assert.True(t, graph.Forbidden(err))
}

func TestCopilotProducts_RefusesOtherAnswers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `[]`, `{"value": [{"consumedUnits": "all"}]}`} {
		client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
		products, err := client.CopilotProducts(t.Context())
		require.ErrorIs(t, err, graph.ErrUnreadable)
		assert.Empty(t, products)
	}
}

// expiryOf returns the expiry of a credential in an app registration with the given credentials.
func expiryOf(t *testing.T, s graph.CredentialSettings, passwords, keys []string) (time.Time, error) {
	t.Helper()
	s.ClientID = "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1.0/applications(appId='"+s.ClientID+"')", r.URL.Path)
		assert.Equal(t, "passwordCredentials,keyCredentials", r.URL.Query().Get("$select"))
		write(w, `{"passwordCredentials": [`+strings.Join(passwords, ",")+`], "keyCredentials": [`+strings.Join(keys, ",")+`]}`)
	})
	return client.CredentialExpiry(t.Context(), s)
}

func TestCredentialExpiry_OfSecret(t *testing.T) {
	t.Parallel()
	password := func(hint, end string) string { return fmt.Sprintf(`{"hint": %s, "endDateTime": %s}`, hint, end) }
	const own, other, none = `"Xq7"`, `"abc"`, `null`
	const first, second = `"2027-01-02T03:04:05Z"`, `"2028-01-02T03:04:05.1234567Z"`
	for name, test := range map[string]struct {
		passwords []string
		year      int
	}{
		"the only one":                                 {[]string{password(own, first)}, 2027},
		"the one with its first characters":            {[]string{password(other, second), password(own, first)}, 2027},
		"the last of those with its first characters":  {[]string{password(own, first), password(own, second)}, 2028},
		"the last of those without a hint":             {[]string{password(none, second), password(none, first), password(other, first)}, 2028},
		"one with its first characters before no hint": {[]string{password(none, second), password(own, first)}, 2027},
		"not one with other first characters":          {[]string{password(other, second)}, 1},
		"no time is shown":                             {[]string{password(own, none)}, 1},
		"no secret is registered":                      {nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end, err := expiryOf(t, graph.CredentialSettings{Secret: "Xq7~hush"}, test.passwords, []string{`{"endDateTime": "2030-01-01T00:00:00Z"}`})
			require.NoError(t, err)
			assert.Equal(t, test.year, end.Year())
			assert.Equal(t, test.year == 1, end.IsZero())
		})
	}
}

func TestCredentialExpiry_OfCertificate(t *testing.T) {
	t.Parallel()
	certFile, keyFile, der := certificateFiles(t, rsaKey(t))
	sum := sha1.Sum(der)
	s := graph.CredentialSettings{CertFile: certFile, KeyFile: keyFile}
	key := func(id string, year int) string {
		return fmt.Sprintf(`{"customKeyIdentifier": %q, "endDateTime": "%d-01-01T00:00:00Z", "key": "aGk="}`, id, year)
	}
	for name, id := range map[string]string{
		"hexadecimal": strings.ToUpper(hex.EncodeToString(sum[:])), "base64": base64.StdEncoding.EncodeToString(sum[:]),
	} {
		end, err := expiryOf(t, s, []string{`{"hint": null, "endDateTime": "2030-01-01T00:00:00Z"}`}, []string{key("other", 2029), key(id, 2027)})
		require.NoError(t, err)
		assert.Equal(t, 2027, end.Year(), name)
	}
	end, err := expiryOf(t, s, nil, []string{key("other", 2029)})
	require.NoError(t, err)
	assert.Zero(t, end)
}

func TestCredentialExpiry_UnreadableFile(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, s := range []graph.CredentialSettings{{SecretFile: missing}, {CertFile: missing, KeyFile: missing}} {
		_, err := expiryOf(t, s, nil, nil)
		assert.Equal(t, failure.CredentialFile, failure.Of(err).Code)
		assert.Equal(t, failure.CredentialFile, failure.Of(s.ReadFiles()).Code)
	}
}
