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
	return &databases{
		logs: startDatabase(t, "victoria-logs", "-retentionPeriod=31d"), // by default it refuses what is older than 7 days
		// By default it hides the last 30 s.
		metrics: startDatabase(t, "victoria-metrics", append(flags, "-search.latencyOffset=0s")...),
	}
}

// startDatabase starts the database that a target of the Makefile has built, and returns its address.
func startDatabase(t *testing.T, name string, flags ...string) (address string) {
	t.Helper()
	binary := filepath.Join(root, "_tools", name)
	_, err := os.Stat(binary)
	require.NoError(t, err, "`make _tools/%s` builds it", name)
	address = freeAddress(t)
	flags = append(flags, "-httpListenAddr="+address, "-storageDataPath="+t.TempDir(), "-memory.allowedBytes=64MB")
	run(t, binary, flags, nil).awaitLine(t, "started server at", waitTimeout)
	return address
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
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", query, answer)
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
		value, err := strconv.ParseFloat(fmt.Sprint(result.Value[1]), 64)
		require.NoError(t, err)
		values[result.Metric[label]] = value
	}
	return values
}

// awaitEqual waits until a query returns what is wanted.
func awaitEqual[T any](t *testing.T, want T, query func() T, timeout time.Duration) {
	t.Helper()
	var got T
	if !assert.Eventually(t, func() bool {
		got = query()
		return assert.ObjectsAreEqual(want, got)
	}, timeout, 200*time.Millisecond) {
		require.Equal(t, want, got)
	}
}

// The names are those under which the receiver's attributes can be queried.
func TestDatabases_HaveInteractionsAndTheirSum(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	d := newDatabases(t)
	h := newCollectorHarness(t, d.exporters()+`
receivers:
  m365_copilot:
    content: {capture: text}
    metrics: {interval: 1s}
`)
	h.run(t)
	h.awaitSubscribed(t)
	turns := graphtest.NewTurns(1, graphtest.TurnSettings{TenantID: tenant})
	want, sums := map[string]map[string]string{}, map[string]float64{}
	for range 40 {
		for _, i := range turns.Next(time.Now()) {
			h.publish(t, i)
			fields := wantedFields(t, i)
			want[fields["gen_ai.conversation.id"]+" "+fields["microsoft.copilot.interaction.id"]] = fields
			sums[fields["microsoft.copilot.interaction.type"]]++
		}
	}
	awaitEqual(t, want, func() map[string]map[string]string { return d.interactions(t, want) }, waitTimeout)
	awaitEqual(t, sums, func() map[string]float64 {
		return d.queryMetrics(t, "microsoft.copilot.interaction.type",
			`sum(microsoft.copilot.interactions{microsoft.copilot.source="notification"}) by (microsoft.copilot.interaction.type)`)
	}, waitTimeout)
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
