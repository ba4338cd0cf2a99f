// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// The check of the harnesses would pass with lines that it doesn't recognize.
func TestLinesWithoutCode_FindsPlanted(t *testing.T) {
	t.Parallel()
	const head, place = "2026-11-26T09:32:11.180Z\t", "\thealth/health.go:67\tsubscription fails, will be tried again\t"
	const receiver = `{"resource": {"service.name": "otelcol-copilot"}, "otelcol.component.id": "m365_copilot/emea", "otelcol.signal": "logs"`
	without := []string{
		head + "warn" + place + receiver + `}`,
		head + "error" + place + receiver + `, "error": "404"}`,
		head + "warn" + place + receiver + `, "code": "COP103"}`,
		head + "warn" + place + receiver + `, "code": "COP103", "hint": ""}`,
		head + "warn" + place + receiver + `, "code": "AADSTS7000215", "hint": "check it"}`,
	}
	with := []string{
		head + "warn" + place + receiver + `, "code": "COP103", "hint": "check it"}`,
		head + "info" + place + receiver + `}`,
		head + "warn" + place + `{"otelcol.component.id": "otlp_http", "otelcol.component.kind": "exporter"}`,
		head + "warn" + place + receiver[:40],
		"\t/go/src/main.go:12",
		"",
	}
	assert.Equal(t, without, linesWithoutCode(append(with, without...)))
}

// The warnings of the Collector's HTTP settings are lines of the receiver too.
func TestLines_OfCollectorSettingsHaveCode(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Webhook.ServerConfig.CORS = configoptional.Some(confighttp.CORSConfig{AllowedHeaders: []string{"Accept"}})
	h.run(t)
	lines := h.lines.FilterMessageSnippet("CORS").All()
	require.Len(t, lines, 1)
	assert.Equal(t, string(failure.SettingWrong), lines[0].ContextMap()["code"])
}

func TestStart_ErrorsOfCollectorSettingsHaveCode(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*m365copilotreceiver.Config){
		"a CA file that is missing":        func(c *m365copilotreceiver.Config) { c.Graph.TLS.CAFile = "/missing/ca.pem" },
		"an authenticator that is missing": func(c *m365copilotreceiver.Config) { c.Graph.Auth = authenticator() },
		"a middleware that is missing": func(c *m365copilotreceiver.Config) {
			c.Webhook.ServerConfig.Middlewares = []configmiddleware.Config{{ID: component.MustNewID("missing")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			change(h.config)
			require.ErrorContains(t, h.startError(t), string(failure.SettingWrong))
		})
	}
}
