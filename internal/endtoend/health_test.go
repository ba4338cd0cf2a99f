// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// getHealth returns what health_check answers at an address. It answers nothing before the collector has started.
func getHealth(t *testing.T, address, query string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/status"+query, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content)
}

// awaitHealth waits until health_check answers with a status, and returns its text.
func awaitHealth(t *testing.T, address string, want int) (body string) {
	t.Helper()
	require.Eventually(t, func() (got bool) {
		status, content := getHealth(t, address, "")
		body = content
		return status == want
	}, waitTimeout, 50*time.Millisecond)
	return body
}

// examplesForTenants returns the examples that serve a real tenant: all but the demonstrations.
func examplesForTenants(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "examples", "*.yaml"))
	require.NoError(t, err)
	for _, path := range paths {
		if name := filepath.Base(path); name != "quickstart.yaml" && name != "demo.yaml" {
			names = append(names, name)
		}
	}
	require.Len(t, names, 4)
	return names
}

// runExample runs an example with addresses of the test and a client secret. It returns the address of health_check.
func runExample(t *testing.T, example, clientSecret string) (h *collectorHarness, health string) {
	t.Helper()
	health = freeAddress(t)
	overlay := fmt.Sprintf("extensions: {health_check: {http: {endpoint: %q}}}", health)
	h = newCollectorHarness(t, overlay, withDirectory)
	if h.example = example; example == "authenticator.yaml" {
		h.configure(t, fmt.Sprintf(`
extensions:
  health_check: {http: {endpoint: %q}}
  oauth2client: {client_secret_file: %q, token_url: "%s/%s/oauth2/v2.0/token", scopes: ["%s/.default"]}
exporters: {otlp_http: {endpoint: "http://%s"}}
`, health, writeFile(t, clientSecret), h.graphURL, tenant, h.graphURL, h.backend.address))
	}
	h.environment = []string{"COPILOT_CLIENT_SECRET=" + clientSecret}
	h.run(t)
	return h, health
}

func TestExamples_HealthShowsWrongSecret(t *testing.T) {
	t.Parallel()
	for _, example := range examplesForTenants(t) {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			h, health := runExample(t, example, "the-wrong-secret")
			body := awaitHealth(t, health, http.StatusInternalServerError)
			told := failure.New(failure.ClientSecretWrong)
			assert.Contains(t, body, fmt.Sprintf("(%s: %s)", told.Code, told.Hint))
			assert.NotContains(t, body, "the-wrong-secret")
			assert.Empty(t, h.emulator.Subscriptions())
			require.Eventually(t, func() bool { // the signals are told one after the other
				_, all := getHealth(t, health, "?verbose")
				return strings.Contains(all, `"receiver:m365_copilot":{"healthy":false`) && !strings.Contains(all, `"receiver:m365_copilot":{"healthy":true`)
			}, waitTimeout, 50*time.Millisecond, "each of its signals fails")

			status, body := getHealth(t, health, "?pipeline=extensions")
			assert.Equal(t, http.StatusOK, status, "a probe of Kubernetes must not fail for it: %s", body)
		})
	}
}

func TestExamples_HealthIsOKWithRightSecret(t *testing.T) {
	t.Parallel()
	for _, example := range examplesForTenants(t) {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			h, health := runExample(t, example, secret)
			h.awaitSubscribed(t)
			require.NoError(t, h.emulator.WaitRequests(deadline(t), graphtest.OpList, 2))
			require.Eventually(t, func() bool {
				status, body := getHealth(t, health, "")
				return status == http.StatusOK && strings.Contains(body, `"status":"StatusOK"`)
			}, waitTimeout, 50*time.Millisecond)
		})
	}
}
