// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// alertRule is a rule of examples/dashboards/rules/alerts.yaml.
type alertRule struct {
	Name       string            `mapstructure:"alert"`
	Expression string            `mapstructure:"expr"`
	Texts      map[string]string `mapstructure:"annotations"`
}

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(readFile(t, "examples/dashboards/rules/alerts.yaml")))
	require.NoError(t, err)
	conf, err := retrieved.AsConf()
	require.NoError(t, err)
	var all struct {
		Groups []struct {
			Rules []alertRule `mapstructure:"rules"`
		} `mapstructure:"groups"`
	}
	require.NoError(t, conf.Unmarshal(&all, confmap.WithIgnoreUnused()))
	for _, group := range all.Groups {
		rules = append(rules, group.Rules...)
	}
	require.NotEmpty(t, rules)
	return rules
}

// prometheusName turns the name of a metric or attribute into that of a metric or label.
func prometheusName(name string) string { return strings.ReplaceAll(name, ".", "_") }

// Each metric is one that docs/backends.md names, the receiver's own, or a standard one.
func TestAlerts_MetricsExist(t *testing.T) {
	t.Parallel()
	own, _ := ownTelemetry(t)
	backends := readFile(t, "docs/backends.md")
	metric := regexp.MustCompile(`\b(?:microsoft_copilot|otelcol)_[a-z0-9_]+`)
	label := regexp.MustCompile(`\{[^}]*\}|\b(?:by|on) \([^)]*\)`)
	for _, rule := range alertRules(t) {
		names := metric.FindAllString(label.ReplaceAllString(rule.Expression, ""), -1)
		assert.NotEmpty(t, names, rule.Name)
		for _, name := range names {
			if _, declared := own[name]; !declared && !slices.Contains(standardMetrics, name) {
				assert.Contains(t, backends, "`"+name+"`", rule.Name)
			}
		}
	}
}

// A label is an attribute of the metrics, with values that exist.
func TestAlerts_LabelsExist(t *testing.T) {
	t.Parallel()
	_, attributes := ownTelemetry(t)
	values := map[string][]string{
		"microsoft_copilot_reason": constants(t, "internal/gap", "Reason"),
		"microsoft_copilot_source": constants(t, "internal/interaction", "Source"),
		"microsoft_copilot_result": constants(t, "internal/gap", "Outcome"),
	}
	for _, attribute := range attributes {
		values[attribute.Name] = append(values[attribute.Name], attribute.Enum...)
	}
	matcher, checked := regexp.MustCompile(`([a-z0-9_]+)[!=]~?"([^"]*)"`), 0
	for _, rule := range alertRules(t) {
		for _, match := range matcher.FindAllStringSubmatch(rule.Expression, -1) {
			for value := range strings.SplitSeq(match[2], "|") {
				assert.Contains(t, values[match[1]], value, "%s: %s", rule.Name, match[1])
				checked++
			}
		}
	}
	assert.Greater(t, checked, 30)
}

// A rejection with the right client state raises one alert: of forged or altered notifications, or of those that can't be used.
func TestAlerts_RejectionRaisesOne(t *testing.T) {
	t.Parallel()
	matcher := regexp.MustCompile(`outcome="rejected", reason(=~|!~)"([^"]+)"`)
	alerts := map[string]int{}
	for _, rule := range alertRules(t) {
		match := matcher.FindStringSubmatch(rule.Expression)
		if match == nil {
			continue
		}
		for _, reason := range constants(t, "internal/notification", "Reason") {
			if listed := slices.Contains(strings.Split(match[2], "|"), reason); listed == (match[1] == "=~") {
				alerts[reason]++
			}
		}
	}
	want := map[string]int{}
	for _, reason := range constants(t, "internal/notification", "Reason") {
		if notification.Reason(reason) != notification.ReasonClientState {
			want[reason] = 1
		}
	}
	assert.Equal(t, want, alerts)
}

// Each alert has a section with its name in docs/troubleshooting.md, in the same order, and links to it.
func TestAlerts_HaveRunbooks(t *testing.T) {
	t.Parallel()
	const page = "https://github.com/otelcopilot/m365copilotreceiver/blob/main/docs/troubleshooting.md#"
	text := readFile(t, "docs/troubleshooting.md")
	_, section, found := strings.Cut(text, "\n## Alerts\n")
	require.True(t, found)
	var documented, names []string
	for _, heading := range regexp.MustCompile(`(?m)^### (.+)$`).FindAllStringSubmatch(section, -1) {
		documented = append(documented, heading[1])
	}
	for _, rule := range alertRules(t) {
		names = append(names, rule.Name)
		anchor, found := strings.CutPrefix(rule.Texts["runbook_url"], page)
		assert.True(t, found, rule.Name)
		assert.Equal(t, strings.ToLower(rule.Name), anchor)
		assert.Contains(t, anchors(text), anchor)
	}
	assert.Equal(t, names, documented)
}

// The table of docs/telemetry.md has a row for each alert, with numbers and values of attributes that are in its expression.
func TestAlerts_AreWhatToWatch(t *testing.T) {
	t.Parallel()
	rules := map[string]alertRule{}
	for _, rule := range alertRules(t) {
		rules[strings.ToLower(rule.Name)] = rule
	}
	link := regexp.MustCompile(`^\[(\w+)\]\(troubleshooting\.md#(\w+)\)$`)
	value, threshold := regexp.MustCompile("`[a-z_.]+: ([a-z_]+)`"), regexp.MustCompile(`\b[0-9]{4,}\b`)
	rows := rowsByFirstCell(telemetrySection(t, "What to watch"))
	delete(rows, "alert when")
	for condition, cells := range rows {
		match := link.FindStringSubmatch(cells[1])
		if match == nil {
			assert.Empty(t, cells[1], condition)
			continue
		}
		rule, found := rules[match[2]]
		if !assert.True(t, found, "%s: there is no such alert, or it has a second row", match[2]) {
			continue
		}
		assert.Equal(t, rule.Name, "M365Copilot"+match[1])
		for _, metric := range regexp.MustCompile("`((?:microsoft\\.copilot|otelcol_)[a-z0-9_.]+)`").FindAllStringSubmatch(condition, -1) {
			assert.Contains(t, rule.Expression, prometheusName(metric[1]), rule.Name)
		}
		for _, number := range threshold.FindAllString(condition, -1) {
			assert.Contains(t, rule.Expression, number, rule.Name)
		}
		for _, attribute := range value.FindAllStringSubmatch(condition, -1) {
			assert.Contains(t, rule.Expression, attribute[1], rule.Name)
		}
		delete(rules, match[2])
	}
	assert.Empty(t, rules, "alerts without a row")
}
