// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
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

// demoMoment is the demonstration at a moment, of which everything has arrived.
type demoMoment struct {
	*demoHarness
	demoTruth
	// received is what the log database has of created interactions.
	received []receivedInteraction
}

// receivedInteraction is when an interaction was received, and how.
type receivedInteraction struct {
	source, kind string
	at           time.Time
	delay        float64 // seconds
}

func (r *receivedInteraction) created() time.Time {
	return r.at.Add(-time.Duration(r.delay * float64(time.Second)))
}

// historyEnd returns the time of the last interaction of the tenant's history.
func (d *demoMoment) historyEnd() (end time.Time) {
	for i := range d.all {
		if one := &d.all[i]; one.History {
			end = latest(end, one.Created)
		}
	}
	return end
}

// bounds are between what numbers are, by the values of the labels of their series. Where the lower bound is 0, there may be no series.
type bounds = map[string][2]float64

// exactly returns the bounds of numbers that are known.
func exactly(numbers values) bounds {
	all := bounds{}
	for key, n := range numbers {
		all[key] = [2]float64{n, n}
	}
	return all
}

func between(low, high float64) bounds { return bounds{"": {low, high}} }

// scaled returns numbers times a factor, divided by those with the same labels if by is not nil. There is no share of nothing.
func scaled(factor float64, of, by values) bounds {
	all := bounds{}
	for key, n := range of {
		value := factor * n
		if by != nil {
			value /= by[key]
		}
		if math.IsNaN(value) {
			continue
		}
		all[key] = [2]float64{value, value}
	}
	return all
}

// publishTime is more than the time from the creation of an interaction until it is published, which is at the end of its turn.
const publishTime = 15 * time.Second

// newDemoMoment starts the demonstration, and waits until what was created before a moment is in the databases.
func newDemoMoment(t *testing.T, flags ...string) *demoMoment {
	t.Helper()
	d := &demoMoment{demoHarness: startDemo(t, flags...)}
	d.people = graphtest.Company(1, 200)
	const openGap = `max(sum without (microsoft_copilot_reason) (microsoft_copilot_history_gap_seconds))`
	awaitEqual(t, map[string]float64{"": 0}, func() map[string]float64 { return d.queryMetrics(t, "", openGap) }, demoTimeout)
	for d.choose(t); !d.inventoryIsSettled(); {
		d.choose(t)
	}
	created := `{event_name="microsoft.copilot.interaction"} _time:<` + d.at.UTC().Format(time.RFC3339) + ` microsoft.copilot.change.type:="created"`
	awaitEqual(t, strconv.Itoa(len(d.all)), func() string {
		return d.queryLogs(t, created+" | stats count_uniq(log.record.uid) as n")[0]["n"]
	}, time.Minute)
	d.readReceived(t)
	return d
}

// choose makes this moment the one of which all is known, and waits until it is. Rules are evaluated at full minutes: the samples of the
// test are to be the only ones at their time.
func (d *demoMoment) choose(t *testing.T) {
	t.Helper()
	d.at, d.all = time.Now().Truncate(time.Second), nil
	if d.at.Second() == 0 {
		d.at = d.at.Add(-time.Second)
	}
	awaitEqual(t, true, func() bool {
		all := d.published(t)
		return all[len(all)-1].Created.After(d.at.Add(publishTime))
	}, 2*time.Minute)
	for _, one := range d.published(t) {
		if one.Created.Before(d.at) {
			d.all = append(d.all, one)
		}
	}
}

// inventoryIsSettled reports whether nobody became active just before the moment, which the inventory says some seconds later.
func (d *demoMoment) inventoryIsSettled() bool {
	before := demoTruth{at: d.at.Add(-publishTime), people: d.people, all: d.all}
	never, neverBefore, active, activeBefore := d.neverPrompted(), before.neverPrompted(), d.activeDays(), before.activeDays()
	return !slices.ContainsFunc(d.people, func(p graphtest.Person) bool {
		return never(p.ID) != neverBefore(p.ID) || active(p.ID) != activeBefore(p.ID)
	})
}

// readReceived reads when what was created so far was received, also after the moment.
func (d *demoMoment) readReceived(t *testing.T) {
	t.Helper()
	const query = `{event_name="microsoft.copilot.interaction"} microsoft.copilot.change.type:="created"
| fields _time, microsoft.copilot.source, microsoft.copilot.interaction.type, microsoft.copilot.ingestion.delay`
	for _, fields := range d.queryLogs(t, query) {
		created, err := time.Parse(time.RFC3339, fields["_time"])
		require.NoError(t, err)
		delay := number(t, fields["microsoft.copilot.ingestion.delay"])
		d.received = append(d.received, receivedInteraction{
			source: fields["microsoft.copilot.source"], kind: fields["microsoft.copilot.interaction.type"], delay: delay,
			at: created.Add(time.Duration(delay * float64(time.Second))),
		})
	}
}

// demoRule is a recording rule, or an alert.
type demoRule struct {
	Record string            `mapstructure:"record"`
	Alert  string            `mapstructure:"alert"`
	Expr   string            `mapstructure:"expr"`
	Labels map[string]string `mapstructure:"labels"`
}

func (r *demoRule) key() string {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		if value := r.Labels[name]; value != "" {
			labels = append(labels, name+"="+strconv.Quote(value))
		}
	}
	if len(labels) == 0 {
		return r.Record
	}
	return r.Record + "{" + strings.Join(labels, ",") + "}"
}

// demoRules returns the rules of a file of examples/dashboards/rules.
func demoRules(t *testing.T, file string) (rules []demoRule) {
	t.Helper()
	var content struct {
		Groups []struct {
			Rules []demoRule `mapstructure:"rules"`
		} `mapstructure:"groups"`
	}
	decodeYAML(t, filepath.Join(root, "examples", "dashboards", "rules", file), &content)
	for _, group := range content.Groups {
		rules = append(rules, group.Rules...)
	}
	require.NotEmpty(t, rules)
	return rules
}

// demoPanel is a panel of a dashboard of vmui.
type demoPanel struct {
	Title string   `json:"title"`
	Expr  []string `json:"expr"`
	Alias []string `json:"alias"`
}

// demoPanels returns the panels of all dashboards of vmui by the name of the dashboard and their title.
func demoPanels(t *testing.T) map[string]demoPanel {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "examples", "dashboards", "vmui", "*.json"))
	require.NoError(t, err)
	panels := map[string]demoPanel{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var board struct {
			Rows []struct{ Panels []demoPanel }
		}
		require.NoError(t, json.Unmarshal(text, &board))
		for _, row := range board.Rows {
			for _, panel := range row.Panels {
				key := strings.TrimSuffix(filepath.Base(path), ".json") + ": " + panel.Title
				require.NotContains(t, panels, key, "two panels have the same title")
				panels[key] = panel
			}
		}
	}
	require.NotEmpty(t, panels)
	return panels
}

// Each number that the dashboards of the demonstration show is the one that is true of its company: those that are computed from the
// logs, and those of each panel. No alert fires.
// It is not parallel, because a demonstration that starts takes all processors for some seconds.
func TestDemo_PanelsShowTrueNumbers(t *testing.T) {
	skipIfShort(t, "it starts databases")
	d := newDemoMoment(t)
	recorded := d.recordedTruth()
	rules := demoRules(t, "recording-victorialogs.yaml")
	t.Run("recording rules", func(t *testing.T) {
		var found []string
		for _, rule := range rules {
			key := rule.key()
			found = append(found, key)
			assertWithin(t, exactly(recorded[key]), d.recordAt(t, &rule), key)
		}
		assert.ElementsMatch(t, slices.Collect(maps.Keys(recorded)), found, "each rule has an expectation")
	})
	panels, expected := demoPanels(t), d.panelTruth(t, recorded)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(expected)), slices.Collect(maps.Keys(panels)), "each panel has an expectation")
	for _, key := range slices.Sorted(maps.Keys(panels)) {
		t.Run(key, func(t *testing.T) {
			panel := panels[key]
			require.Len(t, panel.Expr, len(expected[key]), "each query has an expectation")
			for n, want := range expected[key] {
				assertWithin(t, want, d.metricsAt(t, panel.Expr[n], d.at), panel.Expr[n])
			}
		})
	}
	t.Run("alerts", func(t *testing.T) {
		for _, rule := range demoRules(t, "alerts.yaml") {
			assert.Empty(t, d.metricsAt(t, rule.Expr, d.at), rule.Alert)
		}
	})
}

// assertWithin asserts that there are all numbers, and no others.
func assertWithin(t *testing.T, want bounds, got values, message string) {
	t.Helper()
	const rounding = 1e-9
	for key, n := range got {
		if limits, known := want[key]; assert.True(t, known, "%s: %q has %v, want none", message, key, n) {
			assert.GreaterOrEqual(t, n, limits[0]-rounding, "%s: %q", message, key)
			assert.LessOrEqual(t, n, limits[1]+rounding, "%s: %q", message, key)
		}
	}
	for key, limits := range want {
		if _, found := got[key]; !found && limits[0] > 0 {
			assert.Fail(t, "a number is missing", "%s: %q, want %v", message, key, limits)
		}
	}
}

// labelValues returns the key of a series: the values of its labels in the order of their names, without its name.
func labelValues(metric map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(metric)) {
		if name != "__name__" {
			all = append(all, metric[name])
		}
	}
	return strings.Join(all, " ")
}

// sample is a series with its value.
type sample struct {
	Metric map[string]string
	Value  [2]any // time and value
}

// samplesAt evaluates a query at a moment.
func samplesAt(t *testing.T, target, query string, at time.Time) []sample {
	t.Helper()
	var answer struct {
		Data struct{ Result []sample }
	}
	parameters := "?time=" + url.QueryEscape(at.UTC().Format(time.RFC3339))
	require.NoError(t, json.Unmarshal(post(t, target+parameters, query), &answer))
	return slices.DeleteFunc(answer.Data.Result, func(s sample) bool { return fmt.Sprint(s.Value[1]) == "NaN" })
}

// metricsAt returns the values of a PromQL query at a moment.
func (d *demoMoment) metricsAt(t *testing.T, query string, at time.Time) values {
	t.Helper()
	numbers := values{}
	for _, s := range samplesAt(t, "http://"+d.metrics+"/api/v1/query", query, at) {
		key := labelValues(s.Metric)
		require.NotContains(t, numbers, key, query)
		numbers[key] = number(t, fmt.Sprint(s.Value[1]))
	}
	return numbers
}

// recordAt evaluates a recording rule at the moment, writes the results as vmalert does, and returns them.
func (d *demoMoment) recordAt(t *testing.T, rule *demoRule) values {
	t.Helper()
	numbers := values{}
	var lines strings.Builder
	for _, s := range samplesAt(t, "http://"+d.logs+"/select/logsql/stats_query", rule.Expr, d.at) {
		value := number(t, fmt.Sprint(s.Value[1]))
		numbers[labelValues(s.Metric)] = value
		labels := maps.Clone(s.Metric)
		maps.Copy(labels, rule.Labels)
		labels["__name__"] = rule.Record
		maps.DeleteFunc(labels, func(_, value string) bool { return value == "" })
		line, err := json.Marshal(map[string]any{"metric": labels, "values": []float64{value}, "timestamps": []int64{d.at.UnixMilli()}})
		require.NoError(t, err)
		fmt.Fprintln(&lines, string(line))
	}
	d.postMetrics(t, "/api/v1/import", lines.String())
	d.postMetrics(t, "/internal/force_flush", "")
	return numbers
}

func (d *demoMoment) postMetrics(t *testing.T, path, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.metrics+path, strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 2, response.StatusCode/100)
}
