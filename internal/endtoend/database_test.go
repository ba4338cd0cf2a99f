// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// databases are VictoriaLogs and VictoriaMetrics, each in a process of its own.
type databases struct {
	logs, metrics string // addresses
}

// newDatabases starts both, that of metrics with further flags. They end with the test.
func newDatabases(t *testing.T, flags ...string) *databases {
	t.Helper()
	return &databases{logs: startLogDatabase(t), metrics: startMetricsDatabase(t, flags...)}
}

func startLogDatabase(t *testing.T) (address string) {
	t.Helper()
	return startDatabase(t, "victoria-logs", "-retentionPeriod=31d") // by default it refuses what is older than 7 days
}

func startMetricsDatabase(t *testing.T, flags ...string) (address string) {
	t.Helper()
	return startDatabase(t, "victoria-metrics", append(flags, "-search.latencyOffset=0s")...) // by default it hides the last 30 s
}

// startDatabase starts one of VictoriaMetrics, and returns its address.
func startDatabase(t *testing.T, name string, flags ...string) (address string) {
	t.Helper()
	address = freeAddress(t)
	flags = append(flags, "-httpListenAddr="+address, "-storageDataPath="+t.TempDir(), "-memory.allowedBytes=64MB")
	run(t, built(t, "_tools/"+name), flags, nil).awaitLine(t, "started server at", waitTimeout)
	return address
}

// built returns the path of a program that a target of the Makefile has built.
func built(t *testing.T, target string) (path string) {
	t.Helper()
	path = filepath.Join(root, target)
	_, err := os.Stat(path)
	require.NoError(t, err, "`make %s` builds it", target)
	return path
}

// exporters returns configuration that sends to the databases in place of the backend.
func (d *databases) exporters() string {
	return fmt.Sprintf(`
exporters:
  otlp_http:
    logs_endpoint: http://%s/insert/opentelemetry/v1/logs
    metrics_endpoint: http://%s/opentelemetry/v1/metrics
`, d.logs, d.metrics)
}

// post sends a query and returns the answer.
func post(t *testing.T, target, query string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(url.Values{"query": {query}}.Encode()))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, request)
}

// send sends a request that must succeed, and returns the answer.
func send(t *testing.T, request *http.Request) []byte {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", request.URL, answer)
	return answer
}

// queryLogs returns the fields of each result of a LogsQL query: https://docs.victoriametrics.com/victorialogs/querying/#http-api
func (d *databases) queryLogs(t *testing.T, query string) (results []map[string]string) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(post(t, "http://"+d.logs+"/select/logsql/query", query)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var fields map[string]string
		require.NoError(t, json.Unmarshal(lines.Bytes(), &fields))
		results = append(results, fields)
	}
	require.NoError(t, lines.Err())
	return results
}

// queryMetrics returns the values of a PromQL query by the value of a label, empty where there is none:
// https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
func (d *databases) queryMetrics(t *testing.T, label, query string) map[string]float64 {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // time and value
			}
		}
	}
	require.NoError(t, json.Unmarshal(post(t, "http://"+d.metrics+"/api/v1/query", query), &answer))
	values := map[string]float64{}
	for _, result := range answer.Data.Result {
		values[result.Metric[label]] = number(t, fmt.Sprint(result.Value[1]))
	}
	return values
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return n
}

// metricNames returns the names of the receiver's metrics, sorted:
// https://prometheus.io/docs/prometheus/latest/querying/api/#querying-label-values
func (d *databases) metricNames(t *testing.T) []string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.metrics+"/api/v1/label/__name__/values", http.NoBody)
	require.NoError(t, err)
	var answer struct{ Data []string }
	require.NoError(t, json.Unmarshal(send(t, request), &answer))
	names := slices.DeleteFunc(answer.Data, func(name string) bool { return !strings.HasPrefix(name, "microsoft") })
	slices.Sort(names)
	return names
}

// awaitEqual waits until a query returns what is wanted.
func awaitEqual[T any](t *testing.T, want T, query func() T, timeout time.Duration) {
	t.Helper()
	for end := time.Now().Add(timeout); ; time.Sleep(200 * time.Millisecond) {
		got := query()
		if assert.ObjectsAreEqual(want, got) {
			return
		}
		if time.Now().After(end) {
			require.Equal(t, want, got)
		}
	}
}

// wantedFields returns what VictoriaLogs has of a created interaction, as far as the receiver copies it.
func wantedFields(t *testing.T, i graphtest.Interaction) map[string]string {
	t.Helper()
	var graph struct {
		ID, SessionID, RequestID, AppClass, ConversationType, Locale, InteractionType, ETag string
		From                                                                                struct {
			User, Application struct{ ID, DisplayName string }
		}
	}
	require.NoError(t, json.Unmarshal(i.JSON, &graph))
	fields := map[string]string{
		"event_name": "microsoft.copilot.interaction", "service.name": "microsoft-365-copilot", "microsoft.tenant.id": tenant,
		"severity_text": "Info", "gen_ai.provider.name": "microsoft.copilot", "gen_ai.operation.name": "invoke_agent",
		"microsoft.copilot.change.type": "created", "microsoft.copilot.source": "notification",
		"microsoft.copilot.interaction.id": graph.ID, "microsoft.copilot.interaction.type": graph.InteractionType,
		"microsoft.copilot.interaction.etag": graph.ETag, "microsoft.copilot.request.id": graph.RequestID,
		"microsoft.copilot.conversation.type": graph.ConversationType, "microsoft.copilot.locale": graph.Locale,
		"microsoft.copilot.app.class": graph.AppClass, "gen_ai.conversation.id": graph.SessionID,
		"gen_ai.agent.id": graph.From.Application.ID, "gen_ai.agent.name": graph.From.Application.DisplayName,
	}
	if graph.InteractionType == "aiResponse" {
		fields["gen_ai.response.id"] = graph.ID
	} else {
		fields["user.id"], fields["microsoft.copilot.user.source"] = graph.From.User.ID, "prompt"
	}
	for name, value := range fields {
		if value == "" {
			delete(fields, name) // what has no value is absent
		}
	}
	return fields
}

// interactions returns the interactions in VictoriaLogs by conversation and id, with those fields alone that are wanted. The others
// are computed by the receiver, and must be there.
func (d *databases) interactions(t *testing.T, wanted map[string]map[string]string) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	for _, fields := range d.queryLogs(t, `{event_name="microsoft.copilot.interaction"}`) {
		for _, computed := range []string{
			"_msg", "_time", "log.record.uid", "microsoft.copilot.app.name", "microsoft.copilot.content.captured",
			"microsoft.copilot.content.length", "microsoft.copilot.attachment.count", "microsoft.copilot.link.count",
			"microsoft.copilot.mention.count", "microsoft.copilot.context.count", "microsoft.copilot.ingestion.delay",
		} {
			require.NotEmpty(t, fields[computed], computed)
		}
		key := fields["gen_ai.conversation.id"] + " " + fields["microsoft.copilot.interaction.id"]
		for name := range fields {
			if _, compared := wanted[key][name]; !compared {
				delete(fields, name)
			}
		}
		found[key] = fields
	}
	return found
}
