// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// telemetrySection returns the part of docs/telemetry.md below a heading, up to the next one, of whatever level.
func telemetrySection(t *testing.T, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(readFile(t, "docs/telemetry.md"), "# "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n#")
	return section
}

// tableRows returns the cells of the rows that begin with code, of the tables with a number of columns; 0 means any.
func tableRows(section string, columns int) (rows [][]string) {
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if (columns == 0 || len(cells) == columns) && strings.HasPrefix(cells[0], "`") {
			rows = append(rows, cells)
		}
	}
	return rows
}

// codes returns what is written as code in a cell.
func codes(cell string) (all []string) {
	for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		all = append(all, code[1])
	}
	return all
}

// firstCodes returns what is written as code in the first cell of each row.
func firstCodes(rows [][]string) (all []string) {
	for _, row := range rows {
		all = append(all, codes(row[0])...)
	}
	return all
}

// goldenRecord is what the translator makes of one interaction or user, with its resource.
type goldenRecord struct {
	plog.LogRecord
	resource pcommon.Map
}

// goldenRecords returns the records of the golden files of the translator, by their names.
func goldenRecords(t *testing.T) map[string]goldenRecord {
	t.Helper()
	paths, err := filepath.Glob("internal/translate/testdata/*.golden.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	records := map[string]goldenRecord{}
	for _, path := range paths {
		logs, err := golden.ReadLogs(path)
		require.NoError(t, err)
		of := logs.ResourceLogs().At(0)
		name := strings.TrimSuffix(filepath.Base(path), ".golden.yaml")
		records[name] = goldenRecord{of.ScopeLogs().At(0).LogRecords().At(0), of.Resource().Attributes()}
	}
	return records
}

// attributeDoc is the type of an attribute of the records of an event, and whether each of them has it.
type attributeDoc struct {
	Type   string
	Always bool
}

// attributeType returns the type of a value, as the semantic conventions name it.
func attributeType(v pcommon.Value) string {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return "string"
	case pcommon.ValueTypeBool:
		return "boolean"
	case pcommon.ValueTypeSlice:
		return attributeType(v.Slice().At(0)) + "[]"
	default:
		return strings.ToLower(v.Type().String())
	}
}

// emittedAttributes returns the attributes of the golden records of an event.
func emittedAttributes(t *testing.T, event string) map[string]attributeDoc {
	t.Helper()
	emitted, records, present := map[string]attributeDoc{}, 0, map[string]int{}
	for _, r := range goldenRecords(t) {
		if r.EventName() != event {
			continue
		}
		records++
		for name, value := range r.Attributes().All() {
			present[name]++
			emitted[name] = attributeDoc{Type: attributeType(value)}
		}
	}
	require.Greater(t, records, 1, event)
	for name, attribute := range emitted {
		attribute.Always = present[name] == records
		emitted[name] = attribute
	}
	return emitted
}

// documentedAttributes returns the attributes of the tables with the columns attribute, type, when present, meaning.
func documentedAttributes(section string) map[string]attributeDoc {
	documented := map[string]attributeDoc{}
	for _, row := range tableRows(section, 4) {
		for _, name := range codes(row[0]) {
			documented[name] = attributeDoc{Type: row[1], Always: row[2] == "always"}
		}
	}
	return documented
}

func TestTelemetryPage_ListsRecordAttributes(t *testing.T) {
	t.Parallel()
	for heading, event := range map[string]string{
		"Attributes": "microsoft.copilot.interaction", "Inventory": "microsoft.copilot.user",
	} {
		section := telemetrySection(t, heading)
		assert.Equal(t, emittedAttributes(t, event), documentedAttributes(section), heading)
		assert.Len(t, firstCodes(tableRows(section, 4)), len(documentedAttributes(section)), "%s: one is there twice", heading)
	}
}

func TestTelemetryPage_ListsResourceAttributes(t *testing.T) {
	t.Parallel()
	documented := documentedAttributes(telemetrySection(t, "Logs"))
	collected := allMetrics().ResourceMetrics().At(0).Resource().Attributes()
	assert.ElementsMatch(t, slices.Collect(maps.Keys(collected.AsRaw())), slices.Collect(maps.Keys(documented)))
	for name, attribute := range documented {
		value, found := collected.Get(name)
		require.True(t, found, name)
		assert.Equal(t, attributeType(value), attribute.Type, name)
	}
	for of, r := range goldenRecords(t) {
		for name, attribute := range documented {
			_, present := r.resource.Get(name)
			assert.Equal(t, present, attribute.Always, "%s of %s", name, of)
		}
	}
}

// Each name of the translator is in a table. Those of the semantic conventions are compared by their constants, such as
// GenAIAgentIDKey.
func TestTelemetryPage_ListsEveryNameInCode(t *testing.T) {
	t.Parallel()
	plain := func(name string) string { return strings.ToLower(strings.NewReplacer(".", "", "_", "").Replace(name)) }
	var declared, documented []string
	constant := regexp.MustCompile(`\tattr\w+ *= (?:"([^"]+)"|string\(semconv\.(\w+)Key\))\n`)
	source := readFile(t, "internal/translate/attributes.go")
	for _, match := range constant.FindAllStringSubmatch(source, -1) {
		declared = append(declared, plain(match[1]+match[2]))
	}
	require.Len(t, declared, len(regexp.MustCompile(`\n\tattr[A-Z]`).FindAllString(source, -1)), "one is declared in another way")
	for _, heading := range []string{"Logs", "Attributes", "Inventory"} {
		documented = append(documented, firstCodes(tableRows(telemetrySection(t, heading), 4))...)
	}
	documented = append(documented, firstCodes(tableRows(telemetrySection(t, "Metrics"), 3))...)
	for i := range documented {
		documented[i] = plain(documented[i])
	}
	slices.Sort(documented)
	assert.ElementsMatch(t, declared, slices.Compact(documented))
}

// The values of a closed set are the only code in the meaning of an attribute, and so are the keys of a map.
func TestTelemetryPage_ListsValuesOfRecordAttributes(t *testing.T) {
	t.Parallel()
	keys := map[string]any{}
	for _, r := range goldenRecords(t) {
		if references, found := r.Attributes().Get("microsoft.copilot.references"); found {
			for _, reference := range references.Slice().All() {
				maps.Copy(keys, reference.Map().AsRaw())
			}
		}
	}
	values := map[string][]string{
		"microsoft.copilot.change.type": constants(t, "internal/interaction", "Change"),
		"microsoft.copilot.source":      constants(t, "internal/interaction", "Source"),
		"microsoft.copilot.user.source": constants(t, "internal/interaction", "UserSource"),
		"microsoft.copilot.references":  slices.Collect(maps.Keys(keys)),
	}
	found := 0
	for _, row := range tableRows(telemetrySection(t, "Attributes"), 4) {
		if want, closed := values[codes(row[0])[0]]; closed {
			assert.ElementsMatch(t, want, codes(row[3]), row[0])
			found++
		}
	}
	assert.Len(t, values, found)
}

// debugOutput returns a record as the debug exporter prints it in detail, without what is empty or the same for all.
func debugOutput(r plog.LogRecord) string {
	value := func(v pcommon.Value) string { return fmt.Sprintf("%s(%s)", v.Type(), v.AsString()) }
	var b strings.Builder
	fmt.Fprintf(&b, "ObservedTimestamp: %s\nTimestamp: %s\n", r.ObservedTimestamp(), r.Timestamp())
	fmt.Fprintf(&b, "SeverityNumber: %s(%d)\nEventName: %s\n", r.SeverityNumber(), r.SeverityNumber(), r.EventName())
	fmt.Fprintf(&b, "Body: %s\nAttributes:\n", value(r.Body()))
	for name, v := range r.Attributes().All() {
		fmt.Fprintf(&b, "     -> %s: %s\n", name, value(v))
	}
	return b.String()
}

// Each record of the page is that of the golden file that the comment before it names. A failure prints what belongs there.
func TestTelemetryPage_RecordsAreTheTranslators(t *testing.T) {
	t.Parallel()
	records := goldenRecords(t)
	var shown []string
	block := regexp.MustCompile("(?s)<!-- record: (\\w+) -->\n```\n(.*?)```\n")
	for _, match := range block.FindAllStringSubmatch(readFile(t, "docs/telemetry.md"), -1) {
		require.Contains(t, records, match[1])
		want := debugOutput(records[match[1]].LogRecord)
		assert.Equal(t, want, match[2], "the block of %s must be:\n%s", match[1], want)
		shown = append(shown, match[1])
	}
	assert.Equal(t, []string{
		"prompt", "chat_response", "file_prompt", "updated", "tombstone", "history", "person_hybrid", "user_active",
	}, shown)
}

// allMetrics returns every metric of the metrics pipeline, with each of its attributes.
func allMetrics() pmetric.Metrics {
	metrics := translate.NewMetrics(translate.MetricSettings{TenantID: "tenant", InstanceID: "instance"})
	metrics.Add([]record.Record{{AppName: "Word", Type: "userPrompt", Source: "notification", Change: "created"}})
	metrics.AddRecovered("reconcile", 1)
	return metrics.Collect(
		time.Now(), translate.ActiveUsers(1), metrics.ActiveUsersByApp(map[string]int{"Word": 1}), translate.LicensedUsers(1, true),
		translate.NotificationAge(time.Second, true), translate.SubscriptionTimeLeft(time.Second, true),
		translate.HistoryGap(map[gap.Reason]time.Duration{gap.Startup: 0}), translate.HistoryReconciled(time.Second, "complete"),
	)
}

// metricDoc is what the page says of a metric, with the attributes in order.
type metricDoc struct {
	Kind, Unit string
	Attributes []string
}

// metricDocOf returns what there is to say of a metric, and its first point is to have all attributes.
func metricDocOf(metric pmetric.Metric) metricDoc {
	doc := metricDoc{Unit: metric.Unit()}
	var attributes pcommon.Map
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		if metric.Sum().IsMonotonic() && metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityCumulative {
			doc.Kind = "counter"
		}
		attributes = metric.Sum().DataPoints().At(0).Attributes()
	case pmetric.MetricTypeHistogram:
		if metric.Histogram().AggregationTemporality() == pmetric.AggregationTemporalityCumulative {
			doc.Kind = "histogram"
		}
		attributes = metric.Histogram().DataPoints().At(0).Attributes()
	default:
		doc.Kind, attributes = strings.ToLower(metric.Type().String()), metric.Gauge().DataPoints().At(0).Attributes()
	}
	doc.Attributes = slices.Sorted(maps.Keys(attributes.AsRaw()))
	return doc
}

// documentedMetrics returns the metrics of a table with the columns metric, kind, unit, attributes, meaning.
func documentedMetrics(section string) map[string]metricDoc {
	documented := map[string]metricDoc{}
	for _, row := range tableRows(section, 5) {
		doc := metricDoc{Kind: row[1], Unit: strings.Trim(row[2], "`"), Attributes: codes(row[3])}
		slices.Sort(doc.Attributes)
		documented[codes(row[0])[0]] = doc
	}
	return documented
}

func TestTelemetryPage_ListsEveryMetric(t *testing.T) {
	t.Parallel()
	emitted := map[string]metricDoc{}
	for _, metric := range allMetrics().ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		emitted[metric.Name()] = metricDocOf(metric)
	}
	assert.Equal(t, emitted, documentedMetrics(telemetrySection(t, "Metrics")))

	var defined []string
	definition := regexp.MustCompile(`definition\{\s*"([^"]+)"`)
	for _, match := range definition.FindAllStringSubmatch(readFile(t, "internal/translate/metrics.go"), -1) {
		defined = append(defined, match[1])
	}
	assert.ElementsMatch(t, defined, slices.Collect(maps.Keys(emitted)), "allMetrics lacks some")
}

func TestTelemetryPage_ListsMetricAttributes(t *testing.T) {
	t.Parallel()
	section := telemetrySection(t, "Metrics")
	var used []string
	for _, metric := range documentedMetrics(section) {
		used = append(used, metric.Attributes...)
	}
	slices.Sort(used)
	rows := tableRows(section, 3)
	assert.ElementsMatch(t, slices.Compact(used), firstCodes(rows))
	values := map[string][]string{
		"microsoft.copilot.source": constants(t, "internal/interaction", "Source"),
		"microsoft.copilot.result": constants(t, "internal/gap", "Outcome"),
	}
	for _, row := range rows {
		assert.ElementsMatch(t, values[codes(row[0])[0]], codes(row[1]), row[0])
	}
}

func TestTelemetryPage_StatesLimitsOfMetrics(t *testing.T) {
	t.Parallel()
	section := telemetrySection(t, "Metrics")
	source := readFile(t, "internal/translate/metrics.go")
	limit := func(name string) int {
		match := regexp.MustCompile(name + ` *= (\d+)`).FindStringSubmatch(source)
		require.NotNil(t, match, name)
		n, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		return n
	}
	apps, types := limit("maxAppNames"), limit("maxInteractionTypes")
	sources := len(constants(t, "internal/interaction", "Source"))
	assert.Contains(t, section, fmt.Sprintf("the first %d have series of their own", apps))
	assert.Contains(t, section, fmt.Sprintf("the first %d have series of their own", types))
	series := (apps + 2) * (types + 2) * sources
	product := fmt.Sprintf("at most %d × %d × %d = %d,%03d series", apps+2, types+2, sources, series/1000, series%1000)
	assert.Contains(t, section, product)
	assert.Contains(t, section, fmt.Sprintf("%d histograms of the", (apps+2)*sources))

	for _, metric := range allMetrics().ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		if metric.Type() == pmetric.MetricTypeHistogram {
			bounds := fmt.Sprint(metric.Histogram().DataPoints().At(0).ExplicitBounds().AsRaw())
			assert.Contains(t, section, "end at "+strings.ReplaceAll(strings.Trim(bounds, "[]"), " ", ", ")+" seconds")
		}
	}
}

// ownPrefix is that of the receiver's own metrics.
const ownPrefix = "otelcol_receiver_m365_copilot_"

// declaredMetrics returns the metrics of metadata.yaml, by their names without the prefix that all have.
func declaredMetrics(t *testing.T) map[string]metricDoc {
	t.Helper()
	conf, err := confmaptest.LoadConf("metadata.yaml")
	require.NoError(t, err)
	conf, err = conf.Sub("telemetry::metrics")
	require.NoError(t, err)
	attributes, _ := ownTelemetry(t)
	declared := map[string]metricDoc{}
	for key := range conf.ToStringMap() {
		metric, err := conf.Sub(key)
		require.NoError(t, err)
		doc := metricDoc{Kind: kindOf(metric), Unit: metric.Get("unit").(string)}
		for _, name := range attributes["otelcol_"+key] {
			if name != "receiver" { // which all have
				doc.Attributes = append(doc.Attributes, name)
			}
		}
		slices.Sort(doc.Attributes)
		declared[strings.TrimPrefix("otelcol_"+key, ownPrefix)] = doc
	}
	return declared
}

func kindOf(metric *confmap.Conf) string {
	for _, kind := range []string{"gauge", "histogram"} {
		if metric.IsSet(kind) {
			return kind
		}
	}
	if metric.Get("sum::monotonic") == true {
		return "counter"
	}
	return "sum"
}

func TestTelemetryPage_ListsEveryOwnMetric(t *testing.T) {
	t.Parallel()
	assert.Equal(t, declaredMetrics(t), documentedMetrics(telemetrySection(t, "The receiver's own telemetry")))
}

// valueTables are the headings of the tables of values, by the keys of attributes in metadata.yaml. The values of the other
// attributes are in the table of attributes.
var valueTables = map[string]string{
	"outcome": "Outcomes", "reason": "Rejection reasons", "gap_reason": "Gap reasons", "recreation_reason": "Subscription reasons",
	"operation": "Operations",
}

func TestTelemetryPage_ListsOwnAttributesAndValues(t *testing.T) {
	t.Parallel()
	_, declared := ownTelemetry(t)
	values, names := map[string][]string{}, map[string]bool{}
	for _, row := range tableRows(telemetrySection(t, "The receiver's own telemetry"), 3) {
		values[codes(row[0])[0]] = codes(row[1])
	}
	for key, attribute := range declared {
		names[attribute.Name] = true
		documented := values[attribute.Name]
		if heading, ok := valueTables[key]; ok {
			assert.Empty(t, documented, "%s has a table", key)
			documented = firstCodes(tableRows(telemetrySection(t, heading), 0))
		}
		assert.ElementsMatch(t, attribute.Enum, documented, key)
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(names)), slices.Collect(maps.Keys(values)))
}

func TestTelemetryPage_StatesCodesOfRejections(t *testing.T) {
	t.Parallel()
	rows := tableRows(telemetrySection(t, "Rejection reasons"), 3)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		rejected := &notification.Error{Reason: notification.Reason(codes(row[0])[0])}
		assert.Equal(t, []string{string(rejected.Failure().Code)}, codes(row[2]), row[0])
	}
}

func TestTelemetryPage_StatesWhatGapsCountAs(t *testing.T) {
	t.Parallel()
	word := map[bool]string{true: "yes", false: "no"}
	missing := new(gap.State).Missing(gap.Rules{}, time.Now())
	var documented []gap.Reason
	for _, row := range tableRows(telemetrySection(t, "Gap reasons"), 4) {
		reason := gap.Reason(codes(row[0])[0])
		_, counts := missing[reason]
		assert.Equal(t, []string{word[counts], word[reason.CountsAsRecovered()]}, row[2:], reason)
		documented = append(documented, reason)
	}
	assert.Equal(t, gap.Reasons(), documented, "the order is that of severity")
}

// What to watch names an attribute with a value as `outcome: rejected`.
func TestTelemetryPage_WatchedValuesExist(t *testing.T) {
	t.Parallel()
	_, declared := ownTelemetry(t)
	values := map[string][]string{
		"microsoft.copilot.reason": constants(t, "internal/gap", "Reason"),
		"microsoft.copilot.source": constants(t, "internal/interaction", "Source"),
	}
	for _, attribute := range declared {
		values[attribute.Name] = append(values[attribute.Name], attribute.Enum...)
	}
	watched := regexp.MustCompile("`([a-z_.]+): ([a-z_]+)`").FindAllStringSubmatch(telemetrySection(t, "What to watch"), -1)
	require.NotEmpty(t, watched)
	for _, match := range watched {
		assert.Contains(t, values[match[1]], match[2], match[1])
	}
}

func TestTelemetryPage_SettingsExist(t *testing.T) {
	t.Parallel()
	keys := tagPaths(reflect.TypeFor[Config](), "")
	named := 0
	for _, match := range regexp.MustCompile("`([a-z_]+)\\.([a-z_.]+)(?:: [^`]*)?`").FindAllStringSubmatch(
		readFile(t, "docs/telemetry.md"), -1) {
		if slices.Contains(keys, match[1]) {
			assert.Contains(t, keys, match[1]+"."+match[2], "there is no such setting")
			named++
		}
	}
	assert.Greater(t, named, 10)
}
