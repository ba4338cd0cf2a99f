// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const backendsPage = "docs/backends.md"

// exampleBackend is where an example of examples/backends sends to.
type exampleBackend struct {
	*databases
	// environment is that of the collector.
	environment []string
	// config is merged over the example.
	config string
	// sum is a query for the number of interactions by the label typeLabel.
	sum, typeLabel string
}

// sumWithDots and sumWithUnderscores are the same query with the names of VictoriaMetrics and of Prometheus.
const (
	sumWithDots = `sum(microsoft.copilot.interactions{microsoft.copilot.source="notification", service.name="microsoft-365-copilot", ` +
		`microsoft.tenant.id="` + tenant + `"}) by (microsoft.copilot.interaction.type)`
	sumWithUnderscores = `sum(microsoft_copilot_interactions_total{microsoft_copilot_source="notification", job="microsoft-365-copilot", ` +
		`microsoft_tenant_id="` + tenant + `"}) by (microsoft_copilot_interaction_type)`
)

// exampleBackends start the backend of each example.
func exampleBackends() map[string]func(t *testing.T) exampleBackend {
	return map[string]func(t *testing.T) exampleBackend{
		"victoriametrics.yaml": func(t *testing.T) exampleBackend {
			t.Helper()
			d := newDatabases(t)
			return exampleBackend{
				databases: d, sum: sumWithDots, typeLabel: "microsoft.copilot.interaction.type",
				environment: []string{"VICTORIALOGS_URL=http://" + d.logs, "VICTORIAMETRICS_URL=http://" + d.metrics},
			}
		},
		"prometheus.yaml": func(t *testing.T) exampleBackend {
			t.Helper()
			d := &databases{logs: startLogDatabase(t), metrics: startPrometheus(t)}
			return exampleBackend{
				databases: d, sum: sumWithUnderscores, typeLabel: "microsoft_copilot_interaction_type",
				environment: []string{"OTLP_ENDPOINT=http://" + d.logs + "/insert/opentelemetry", "PROMETHEUS_URL=http://" + d.metrics},
			}
		},
		"collector-grpc.yaml": func(t *testing.T) exampleBackend {
			t.Helper()
			g := startGateway(t)
			b := g.backend(g.grpc)
			b.config = `exporters: {otlp_http: {endpoint: "http://127.0.0.1:1"}}` // unused, but the harness has settings for it
			return b
		},
		"collector-http.yaml": func(t *testing.T) exampleBackend {
			t.Helper()
			g := startGateway(t)
			return g.backend("https://" + g.http)
		},
	}
}

// startPrometheus starts Prometheus as its documentation says, and returns its address.
func startPrometheus(t *testing.T) (address string) {
	t.Helper()
	address = freeAddress(t)
	flags := []string{
		"--web.enable-otlp-receiver", "--web.listen-address=" + address, "--storage.tsdb.path=" + t.TempDir(),
		"--config.file=" + writeFile(t, documentedQueries(t, backendsPage, "# prometheus.yml")[0]),
	}
	run(t, built(t, "_tools/prometheus"), flags, nil).awaitLine(t, "Server is ready to receive web requests", waitTimeout)
	return address
}

// gateway is a second collector, which sends to databases.
type gateway struct {
	*databases
	grpc, http string // addresses
	// ca is the authority of its certificate, cert and key are those of a client that it accepts: paths.
	ca, cert, key string
}

// startGateway starts a collector whose receiver is configured as the documentation says, with addresses and certificates of the test.
func startGateway(t *testing.T) *gateway {
	t.Helper()
	server, err := graphtest.ServerCertificate(validFor)
	require.NoError(t, err)
	client, err := graphtest.EncryptionCertificate(2048, validFor) // which may be used for anything
	require.NoError(t, err)
	g := &gateway{
		databases: newDatabases(t), grpc: freeAddress(t), http: freeAddress(t),
		ca: writeFile(t, string(server.Certificate)), cert: writeFile(t, string(client.Certificate)), key: writeFile(t, string(client.Key)),
	}
	tls := fmt.Sprintf("{cert_file: %q, key_file: %q, client_ca_file: %q}", g.ca, writeFile(t, string(server.Key)), g.cert)
	config := g.exporters() + fmt.Sprintf(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %q, tls: %s}
      http: {endpoint: %q, tls: %s}
service:
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], exporters: [otlp_http]}
  telemetry: {metrics: {level: none}}
`, g.grpc, tls, g.http, tls)
	documented := documentedQueries(t, backendsPage, "receivers:\n  otlp:")[0]
	require.Contains(t, documented, "client_ca_file")
	run(t, built(t, "_build/otelcol-gateway/otelcol-gateway"), nil, nil, writeFile(t, documented), writeFile(t, config)).
		awaitLine(t, "Everything is ready", waitTimeout)
	return g
}

func (g *gateway) backend(endpoint string) exampleBackend {
	return exampleBackend{
		databases: g.databases, sum: sumWithDots, typeLabel: "microsoft.copilot.interaction.type",
		environment: []string{
			"GATEWAY_ENDPOINT=" + endpoint, "GATEWAY_CA_FILE=" + g.ca, "GATEWAY_CERT_FILE=" + g.cert, "GATEWAY_KEY_FILE=" + g.key,
		},
	}
}

// What each example sends can be queried by the attributes, whose values are those that Graph sent.
func TestBackends_HaveAttributesOfInteractions(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(root, "examples", "backends", "*.yaml"))
	require.NoError(t, err)
	require.Len(t, paths, len(exampleBackends()), "each example is tested")
	for _, path := range paths {
		example := filepath.Base(path)
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			start := exampleBackends()[example]
			require.NotNil(t, start)
			b := start(t)
			health := freeAddress(t)
			h := newCollectorHarness(t, "receivers: {m365_copilot: {content: {capture: text}, metrics: {interval: 1s}}}\n"+b.config+
				fmt.Sprintf("\nextensions: {health_check: {http: {endpoint: %q}}}\n", health))
			h.example, h.environment = filepath.Join("backends", example), b.environment
			h.run(t)
			h.awaitSubscribed(t)

			want, sums := map[string]map[string]string{}, map[string]float64{}
			for _, i := range h.publishTurns(t, 40) {
				fields := wantedFields(t, i)
				want[fields["gen_ai.conversation.id"]+" "+fields["microsoft.copilot.interaction.id"]] = fields
				sums[fields["microsoft.copilot.interaction.type"]]++
			}
			awaitEqual(t, want, func() map[string]map[string]string { return b.interactions(t, want) }, waitTimeout)
			awaitEqual(t, sums, func() map[string]float64 { return b.queryMetrics(t, b.typeLabel, b.sum) }, waitTimeout)
			awaitHealth(t, health, http.StatusOK)
		})
	}
}

// publishTurns publishes the interactions of turns one by one, and returns them.
func (h *collectorHarness) publishTurns(t *testing.T, n int) (published []graphtest.Interaction) {
	t.Helper()
	turns := graphtest.NewTurns(1, graphtest.TurnSettings{TenantID: tenant})
	for range n {
		for _, i := range turns.Next(time.Now()) {
			h.publish(t, i)
			published = append(published, i)
		}
	}
	return published
}

// promptsByApp counts prompts by the name of the app.
func promptsByApp(t *testing.T, interactions []graphtest.Interaction) map[string]float64 {
	t.Helper()
	prompts := map[string]float64{}
	for _, i := range interactions {
		var graph struct{ AppClass, InteractionType string }
		require.NoError(t, json.Unmarshal(i.JSON, &graph))
		app, found := strings.CutPrefix(graph.AppClass, "IPM.SkypeTeams.Message.Copilot.")
		if !found {
			app = "ConnectedAIApp.Entra"
		}
		if graph.InteractionType == "userPrompt" {
			prompts[app]++
		}
	}
	return prompts
}

// The page has the names of all metrics in Prometheus and VictoriaMetrics, and of no others, and its queries have the right answers.
func TestBackends_NamesAndQueriesAreDocumented(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	b := exampleBackends()["prometheus.yaml"](t)
	underscores := &databases{metrics: startMetricsDatabase(t, "-opentelemetry.usePrometheusNaming")}
	dots := &databases{metrics: startMetricsDatabase(t)}
	h := newCollectorHarness(t, fmt.Sprintf(`
receivers:
  m365_copilot:
    history: {reconcile: {interval: 5s, delay: 3s}}
    identity: {directory: true}
    metrics: {interval: 1s}
exporters:
  otlp_http/underscores: {metrics_endpoint: "http://%s/opentelemetry/v1/metrics"}
  otlp_http/dots: {metrics_endpoint: "http://%s/opentelemetry/v1/metrics"}
service: {pipelines: {metrics: {exporters: [otlp_http/prometheus, otlp_http/underscores, otlp_http/dots]}}}
`, underscores.metrics, dots.metrics), withDirectory)
	h.example, h.environment = "backends/prometheus.yaml", b.environment
	h.run(t)
	h.awaitSubscribed(t)
	prompts := promptsByApp(t, h.publishTurns(t, 40))

	original, renamed := documentedMetricNames(t)
	awaitEqual(t, renamed, func() []string { return b.metricNames(t) }, time.Minute)
	awaitEqual(t, renamed, func() []string { return underscores.metricNames(t) }, waitTimeout)
	awaitEqual(t, original, func() []string { return dots.metricNames(t) }, waitTimeout)

	query := documentedQueries(t, backendsPage, "sum by (microsoft_copilot_app_name) (microsoft_copilot")[0]
	for _, d := range []*databases{b.databases, underscores} {
		awaitEqual(t, prompts, func() map[string]float64 { return d.queryMetrics(t, "microsoft_copilot_app_name", query) }, waitTimeout)
	}
	awaitEqual(t, prompts, func() map[string]float64 {
		got := map[string]float64{}
		for _, fields := range b.queryLogs(t, documentedQueries(t, backendsPage, `{event_name="microsoft.copilot.interaction"}`)[0]) {
			got[fields["microsoft.copilot.app.name"]] = number(t, fields["prompts"])
		}
		return got
	}, waitTimeout)
}

// documentedMetricNames returns the names of the page's table, sorted: those that keep the dots, and those in Prometheus.
func documentedMetricNames(t *testing.T) (original, renamed []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, backendsPage))
	require.NoError(t, err)
	code := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.Contains(cells[2], "`microsoft_copilot_") {
			continue
		}
		name := code.FindStringSubmatch(cells[1])[1]
		for _, match := range code.FindAllStringSubmatch(cells[2], -1) {
			renamed = append(renamed, match[1])
			original = append(original, name+regexp.MustCompile("_(bucket|sum|count)$").FindString(match[1]))
		}
	}
	slices.Sort(original)
	slices.Sort(renamed)
	return original, renamed
}

// The collector accepts the settings of exporters that it contains, in durable.yaml.
func TestBackends_DocumentedSettingsAreValid(t *testing.T) {
	t.Parallel()
	variables := regexp.MustCompile(`\$\{env:([A-Z_]+)\}`)
	blocks := slices.Concat(documentedQueries(t, backendsPage, "exporters:"), documentedQueries(t, backendsPage, "extensions:"))
	checked := 0
	for _, block := range blocks {
		if !strings.Contains(block, "\n  otlp_http:") {
			continue // of another distribution
		}
		h := &collectorHarness{backend: &backend{address: "127.0.0.1:1"}, webhook: "127.0.0.1:1", storage: t.TempDir()}
		for _, variable := range variables.FindAllStringSubmatch(block, -1) {
			h.environment = append(h.environment, variable[1]+"=https://example.com")
		}
		command := exec.CommandContext(deadline(t), collector, "validate", useComponentStatus,
			"--config", filepath.Join(root, "examples", "durable.yaml"), "--config", writeFile(t, block))
		command.Env = append(os.Environ(), h.variables()...)
		out, err := command.CombinedOutput()
		require.NoError(t, err, "%s\n%s", block, out)
		checked++
	}
	assert.Equal(t, 7, checked)
}
