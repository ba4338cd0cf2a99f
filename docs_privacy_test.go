// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// names is a set of attributes.
type names map[string]bool

func (n names) add(attributes pcommon.Map) {
	for name := range attributes.All() {
		n[name] = true
	}
}

// fullInteractions returns a prompt and an answer that have a value for everything that leaves.
func fullInteractions() []interaction.Received {
	agent := &interaction.Identity{ID: "fb8d773d-7ef8-4ec0-a117-179f88add510", DisplayName: "Copilot in Teams"}
	prompt := interaction.Received{
		Interaction: interaction.Interaction{
			ID: "1764599405123", SessionID: "19:session", RequestID: "request", AppClass: "IPM.SkypeTeams.Message.Copilot.Teams",
			Type: interaction.TypeUserPrompt, ConversationType: "appchat", ETag: "1764599405123", Locale: "en-us",
			Body:     interaction.Body{ContentType: "text", Content: "What was decided?"},
			Contexts: interaction.List[interaction.Context]{{Reference: "https://teams.example.com", DisplayName: "Weekly", Type: "TeamsMeeting"}},
			Mentions: interaction.List[interaction.Mention]{{Mentioned: interaction.IdentitySet{Application: agent}}},
		},
		TenantID: "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10", Change: interaction.Created, Source: interaction.FromNotification, At: time.Now(),
		UserID: "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", UserSource: interaction.UserFromPrompt, Person: fullPerson(), Turn: "request",
	}
	answer := prompt
	answer.Type, answer.From.Application, answer.UserSource = interaction.TypeAIResponse, agent, interaction.UserFromRequest
	return []interaction.Received{prompt, answer}
}

// fullPerson returns an entry of the directory with a value for each property.
func fullPerson() *interaction.Person {
	person := &interaction.Person{Licensed: true}
	for _, field := range reflect.ValueOf(person).Elem().Fields() {
		if field.Kind() == reflect.String {
			field.SetString("value")
		}
	}
	return person
}

func logAttributes(settings privacy.Settings) names {
	leaving := names{}
	for _, resource := range translate.Logs(translate.Scope{}, settings.Apply(fullInteractions())).ResourceLogs().All() {
		leaving.add(resource.Resource().Attributes())
		for _, event := range resource.ScopeLogs().At(0).LogRecords().All() {
			leaving.add(event.Attributes())
		}
	}
	return leaving
}

func inventoryAttributes(settings privacy.Settings) names {
	leaving := names{}
	user := settings.User(privacy.LicensedUser{TenantID: "tenant", UserID: "user", Person: fullPerson(), LastActive: time.Now()})
	for _, resource := range translate.Users(translate.Scope{}, []record.User{user}).ResourceLogs().All() {
		leaving.add(resource.Resource().Attributes())
		leaving.add(resource.ScopeLogs().At(0).LogRecords().At(0).Attributes())
	}
	return leaving
}

func metricAttributes() names {
	leaving := names{}
	metrics := translate.NewMetrics(translate.MetricSettings{TenantID: "tenant", InstanceID: "instance"})
	metrics.Add(privacy.Settings{}.Apply(fullInteractions()))
	metrics.AddRecovered("reconcile", 1)
	for _, resource := range metrics.Collect(time.Now(), translate.HistoryReconciled(time.Hour, "complete")).ResourceMetrics().All() {
		leaving.add(resource.Resource().Attributes())
		for _, metric := range resource.ScopeMetrics().At(0).Metrics().All() {
			switch metric.Type() {
			case pmetric.MetricTypeSum:
				leaving.add(metric.Sum().DataPoints().At(0).Attributes())
			case pmetric.MetricTypeGauge:
				leaving.add(metric.Gauge().DataPoints().At(0).Attributes())
			case pmetric.MetricTypeHistogram:
				leaving.add(metric.Histogram().DataPoints().At(0).Attributes())
			}
		}
	}
	return leaving
}

// level is a column of the table of attributes: what a cell says of those that leave only so, from the fewest attributes to the most.
type level struct {
	column string
	cells  []cell
}

type cell struct {
	says    string
	leaving names
}

func levels(t *testing.T) []level {
	t.Helper()
	defaults, ok := createDefaultConfig().(*Config)
	require.True(t, ok)
	directory := privacy.Settings{Directory: true, Properties: defaults.Identity.DirectoryProperties}
	all := privacy.Settings{Directory: true, Properties: privacy.PropertyNames()}
	return []level{
		{"default", []cell{{"yes", logAttributes(privacy.Settings{})}}},
		{"text", []cell{{"yes", logAttributes(privacy.Settings{CaptureText: true})}}},
		{"references", []cell{{"yes", logAttributes(privacy.Settings{References: true})}}},
		{"directory", []cell{{"yes", logAttributes(directory)}, {"if listed", logAttributes(all)}}},
		{"inventory", []cell{
			{"yes", inventoryAttributes(privacy.Settings{})},
			{"with directory", inventoryAttributes(directory)},
			{"if listed", inventoryAttributes(all)},
		}},
		{"metrics", []cell{{"yes", metricAttributes()}}},
	}
}

// said returns what the cell of an attribute is to say.
func (l level) said(attribute string) string {
	for _, cell := range l.cells {
		if cell.leaving[attribute] {
			return cell.says
		}
	}
	return ""
}

// attributeTable returns the cells of the table of attributes by attribute and column.
func attributeTable(t *testing.T) map[string]map[string]string {
	t.Helper()
	code := regexp.MustCompile("`([^`]+)`")
	table, columns := map[string]map[string]string{}, []string(nil)
	for line := range strings.Lines(readFile(t, "docs/privacy.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) > 3 && cells[2] == "attributes" {
			columns = cells[3:]
		}
		if columns == nil || len(cells) != len(columns)+3 || !strings.HasPrefix(line, "|") {
			continue
		}
		for _, attribute := range code.FindAllStringSubmatch(cells[2], -1) {
			require.NotContains(t, table, attribute[1], "an attribute has two rows")
			table[attribute[1]] = map[string]string{}
			for i, column := range columns {
				table[attribute[1]][column] = cells[i+3]
			}
		}
	}
	return table
}

// TestPrivacyPage_SaysWhatLeaves lets a prompt, an answer, a licensed user and the metrics leave at each level, and compares their
// attributes with the table.
func TestPrivacyPage_SaysWhatLeaves(t *testing.T) {
	t.Parallel()
	documented, leaving := attributeTable(t), names{}
	for _, level := range levels(t) {
		for _, cell := range level.cells {
			maps.Copy(leaving, cell.leaving)
		}
		for attribute, cells := range documented {
			assert.Equal(t, level.said(attribute), cells[level.column], "%s, column %s", attribute, level.column)
		}
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(leaving)), slices.Collect(maps.Keys(documented)))
	assert.Len(t, leaving, declaredAttributes(t), "internal/translate declares attributes that are not compared")
}

// declaredAttributes returns how many names of attributes internal/translate has.
func declaredAttributes(t *testing.T) (count int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "internal/translate/attributes.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, name := range spec.Names {
				if strings.HasPrefix(name.Name, "attr") {
					count++
				}
			}
		}
		return true
	})
	return count
}

// A setting is written as code, with its section.
func TestPrivacyPages_SettingsExist(t *testing.T) {
	t.Parallel()
	keys := tagPaths(reflect.TypeFor[Config](), "")
	for _, page := range []string{"docs/privacy.md", "docs/security.md", "docs/faq.md"} {
		named := 0
		for _, match := range regexp.MustCompile("`([a-z_]+)\\.([a-z_.]+)(?:: [^`]*)?`").FindAllStringSubmatch(readFile(t, page), -1) {
			if key := match[1] + "." + match[2]; slices.Contains(keys, match[1]) && !strings.Contains(key, ".microsoft.") { // a host
				assert.True(t, slices.Contains(keys, key), "%s: there is no setting %s", page, key)
				named++
			}
		}
		assert.Greater(t, named, 10, page)
	}
}
