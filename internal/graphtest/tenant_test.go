// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"crypto/sha1"
	"crypto/x509"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const application = "/v1.0/applications(appId='" + clientID + "')?$select=passwordCredentials,keyCredentials"

func TestTenant_RequiresRoles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		roles                 []string
		products, application int
	}{
		"no role":                        {[]string{}, http.StatusForbidden, http.StatusForbidden},
		"those of the receiver":          {[]string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}, http.StatusForbidden, http.StatusForbidden},
		"the role of the licenses":       {[]string{graphtest.RoleLicensesReadAll}, http.StatusOK, http.StatusForbidden},
		"the role of the organization":   {[]string{"Organization.Read.All"}, http.StatusOK, http.StatusForbidden},
		"the role of the applications":   {[]string{graphtest.RoleApplicationsReadAll}, http.StatusForbidden, http.StatusOK},
		"the role of the whole of Entra": {[]string{"Directory.Read.All"}, http.StatusOK, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, func(s *graphtest.Settings) { s.Roles = test.roles })
			for path, want := range map[string]int{"/v1.0/subscribedSkus": test.products, application: test.application} {
				status, answer := g.call(http.MethodGet, path, nil)
				assert.Equal(t, want, status, path)
				if want == http.StatusForbidden {
					code, _ := errorOf(answer)
					assert.Equal(t, "Authorization_RequestDenied", code)
				}
			}
			assert.Equal(t, 1, g.Stats().Requests[graphtest.OpProducts])
			assert.Equal(t, 1, g.Stats().Requests[graphtest.OpApplication])
		})
	}
}

func TestProducts_CountLicensesUntilSet(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleLicensesReadAll} })
	list := func() []any {
		status, answer := g.call(http.MethodGet, "/v1.0/subscribedSkus", nil)
		require.Equal(t, http.StatusOK, status)
		return answer["value"].([]any)
	}
	g.SetUsers("a", "b")
	require.Len(t, list(), 1)
	product := list()[0].(map[string]any)
	assert.Equal(t, []any{"Microsoft_365_Copilot", "Enabled", 2.0}, []any{product["skuPartNumber"], product["capabilityStatus"], product["consumedUnits"]})
	assert.Equal(t, graphtest.CopilotPlan, product["servicePlans"].([]any)[0].(map[string]any)["servicePlanId"])

	g.SetProducts(graphtest.Product{Name: "BUNDLE", CapabilityStatus: "Suspended", ConsumedUnits: 7, Plans: []string{"x"}})
	product = list()[0].(map[string]any)
	assert.Equal(t, []any{"BUNDLE", "Suspended", 7.0}, []any{product["skuPartNumber"], product["capabilityStatus"], product["consumedUnits"]})
	assert.NotEqual(t, "639dec6b-bb19-468b-871c-c5c441c4b0cb", product["skuId"])
	g.SetProducts()
	assert.Empty(t, list())

	status, _ := g.call(http.MethodGet, "/v1.0/subscribedSkus?$filter=x", nil)
	assert.Equal(t, http.StatusBadRequest, status)
}

func TestApplication_ShowsCredentials(t *testing.T) {
	t.Parallel()
	pair, err := keyPair()
	require.NoError(t, err)
	certificate, err := pair.X509()
	require.NoError(t, err)
	g := start(t, func(s *graphtest.Settings) {
		s.Roles = []string{graphtest.RoleApplicationsReadAll}
		s.ClientCertificates = []*x509.Certificate{certificate}
	})
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	g.SetSecretEnd(end)
	status, answer := g.call(http.MethodGet, application, nil)
	require.Equal(t, http.StatusOK, status)
	password := answer["passwordCredentials"].([]any)[0].(map[string]any)
	assert.Equal(t, []any{secret[:3], end.UTC().Format(time.RFC3339), nil}, []any{password["hint"], password["endDateTime"], password["secretText"]})
	key := answer["keyCredentials"].([]any)[0].(map[string]any)
	assert.Equal(t, []any{fmt.Sprintf("%X", sha1.Sum(certificate.Raw)), certificate.NotAfter.Format(time.RFC3339)}, []any{key["customKeyIdentifier"], key["endDateTime"]})

	for path, want := range map[string]int{
		"/v1.0/applications(appId='x')?$select=keyCredentials":                http.StatusNotFound,
		"/v1.0/applications(appId='" + clientID + "')?$select=owners":         http.StatusBadRequest,
		"/v1.0/applications(appId='" + clientID + "')":                        http.StatusBadRequest,
		application + "&$expand=owners":                                       http.StatusBadRequest,
		"/v1.0/applications(appId='')?$select=passwordCredentials":            http.StatusNotFound,
		"/v1.0/Applications(AppID='" + clientID + "')?$select=keyCredentials": http.StatusOK,
	} {
		status, _ := g.call(http.MethodGet, path, nil)
		assert.Equal(t, want, status, path)
	}
}

func TestSetSecretEnd_RefusesExpiredSecret(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.SetSecretEnd(time.Now())
	status, answer := g.postToken(tenantID, g.tokenForm(), nil)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Equal(t, []any{7000222.0}, answer["error_codes"])
	g.SetSecretEnd(time.Now().Add(time.Hour))
	status, _ = g.postToken(tenantID, g.tokenForm(), nil)
	assert.Equal(t, http.StatusOK, status)
}
