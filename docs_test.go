// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// standardMetrics are those of the Collector that the documents name:
// https://opentelemetry.io/docs/collector/internal-telemetry/#lists-of-internal-metrics
var standardMetrics = []string{
	"otelcol_exporter_queue_capacity", "otelcol_exporter_queue_size", "otelcol_exporter_send_failed_log_records",
	"otelcol_exporter_sent_log_records", "otelcol_process_cpu_seconds", "otelcol_process_uptime",
	"otelcol_receiver_accepted_log_records", "otelcol_receiver_failed_log_records", "otelcol_receiver_refused_log_records",
}

// ownMetric is a metric of metadata.yaml, and ownAttribute one of its attributes.
type (
	ownMetric struct {
		Attributes []string `mapstructure:"attributes"`
	}
	ownAttribute struct {
		Name string   `mapstructure:"name_override"`
		Enum []string `mapstructure:"enum"`
	}
)

// ownTelemetry returns what metadata.yaml declares: the metrics by their full names, with the names of their attributes, and the
// attributes by their keys.
func ownTelemetry(t *testing.T) (metrics map[string][]string, attributes map[string]ownAttribute) {
	t.Helper()
	all, err := confmaptest.LoadConf("metadata.yaml")
	require.NoError(t, err)
	var declared struct {
		Attributes map[string]ownAttribute `mapstructure:"attributes"`
		Telemetry  struct {
			Metrics map[string]ownMetric `mapstructure:"metrics"`
		} `mapstructure:"telemetry"`
	}
	require.NoError(t, all.Unmarshal(&declared, confmap.WithIgnoreUnused()))
	metrics, attributes = map[string][]string{}, declared.Attributes
	for key, attribute := range attributes {
		if attribute.Name == "" {
			attribute.Name = key
			attributes[key] = attribute
		}
	}
	for name, metric := range declared.Telemetry.Metrics {
		var names []string
		for _, key := range metric.Attributes {
			names = append(names, attributes[key].Name)
		}
		metrics["otelcol_"+name] = names
	}
	require.NotEmpty(t, metrics)
	return metrics, attributes
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// pages returns the text of the pages that people read, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	texts := map[string]string{}
	for _, path := range append(paths, "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md") {
		texts[path] = readFile(t, path)
	}
	require.Contains(t, texts, "docs/troubleshooting.md")
	return texts
}

// sources returns the text of the Go files below a directory, without tests.
func sources(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	return all.String()
}

// The values of an attribute are those of a type, which tests and telemetry use.
func TestMetadata_ListsEveryAttributeValue(t *testing.T) {
	t.Parallel()
	_, attributes := ownTelemetry(t)
	for key, of := range map[string]struct{ dir, typeName string }{
		"gap_reason":        {"internal/gap", "Reason"},
		"reason":            {"internal/notification", "Reason"},
		"recreation_reason": {"internal/subscription", "Reason"},
		"outcome":           {"internal/webhook", "Outcome"},
		"source":            {"internal/interaction", "Source"},
	} {
		values := constants(t, of.dir, of.typeName)
		if key == "outcome" {
			values = append(values, "rejected") // which is counted by reason, and not by the webhook
		}
		assert.ElementsMatch(t, attributes[key].Enum, values, key)
	}
}

// constants returns the values of the constants of a type in a package.
func constants(t *testing.T, dir, typeName string) (values []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if named, ok := spec.Type.(*ast.Ident); !ok || named.Name != typeName {
				return true
			}
			for _, value := range spec.Values {
				if literal, ok := value.(*ast.BasicLit); ok {
					text, err := strconv.Unquote(literal.Value)
					require.NoError(t, err)
					values = append(values, text)
				}
			}
			return true
		})
	}
	require.NotEmpty(t, values)
	return values
}

// TestDocs_NamesExist accepts names that end with `_` or `.` for all that begin so.
func TestDocs_NamesExist(t *testing.T) {
	t.Parallel()
	own, _ := ownTelemetry(t)
	metrics, translated := slices.Concat(slices.Collect(maps.Keys(own)), standardMetrics), sources(t, "internal/translate")
	histogram := regexp.MustCompile("_(bucket|sum|count)$")
	for page, text := range pages(t) {
		for _, name := range regexp.MustCompile(`otelcol_[a-z0-9_]+`).FindAllString(text, -1) {
			assert.True(t, slices.ContainsFunc(metrics, func(m string) bool {
				return m == histogram.ReplaceAllString(name, "") || strings.HasSuffix(name, "_") && strings.HasPrefix(m, name)
			}), "%s: there is no metric %s", page, name)
		}
		for _, name := range regexp.MustCompile("`(microsoft\\.copilot\\.[a-z_.]+)`").FindAllStringSubmatch(text, -1) {
			known := `"` + name[1] + `"`
			if strings.HasSuffix(name[1], ".") {
				known = strings.TrimSuffix(known, `"`)
			}
			if !strings.Contains(translated, known) {
				assert.Failf(t, "a name is wrong", "%s: there is no %s", page, name[1])
			}
		}
		for _, code := range regexp.MustCompile(`COP[0-9]+`).FindAllString(text, -1) {
			assert.NotEmpty(t, failure.New(failure.Code(code)).Hint, "%s: there is no code %s", page, code)
		}
	}
}

// otherNames look like settings: hosts, and a permission of Dynatrace.
var otherNames = []string{"graph.microsoft.com", "graph.microsoft.us", "metrics.ingest"}

// A setting is written as `section.key` or `section.key: value`.
func TestDocs_KeysExist(t *testing.T) {
	t.Parallel()
	keys, named := tagPaths(reflect.TypeFor[Config](), ""), 0
	for page, text := range pages(t) {
		for _, match := range regexp.MustCompile("`([a-z_]+)\\.([a-z_.]+)(?:: [^`]*)?`").FindAllStringSubmatch(text, -1) {
			key := match[1] + "." + strings.TrimSuffix(match[2], ".")
			if slices.Contains(keys, match[1]) && !slices.Contains(otherNames, key) {
				assert.True(t, slices.Contains(keys, key), "%s: there is no setting %s", page, key)
				named++
			}
		}
	}
	assert.Greater(t, named, 100)
}

// An attribute of the receiver's own telemetry is written as attribute="value".
func TestTroubleshooting_ValuesExist(t *testing.T) {
	t.Parallel()
	text := readFile(t, "docs/troubleshooting.md")
	_, attributes := ownTelemetry(t)
	values := map[string][]string{}
	for _, attribute := range attributes {
		values[attribute.Name] = append(values[attribute.Name], attribute.Enum...)
	}
	for _, match := range regexp.MustCompile(`\b([a-z]+)="([a-z_]+)"`).FindAllStringSubmatch(text, -1) {
		assert.Contains(t, values[match[1]], match[2], match[1])
	}
}

// A log line is written as code of several words in lower case.
func TestTroubleshooting_LogLinesExist(t *testing.T) {
	t.Parallel()
	logged := sources(t, "internal") + sources(t, "receiver")
	lines := regexp.MustCompile("`([a-z]+(?: [a-z']+)+)`").FindAllStringSubmatch(readFile(t, "docs/troubleshooting.md"), -1)
	require.NotEmpty(t, lines)
	for _, line := range lines {
		if !strings.Contains(logged, line[1]) {
			assert.Failf(t, "a log line is wrong", "nothing logs %q", line[1])
		}
	}
}

func TestTroubleshooting_HasFourStepsAtMost(t *testing.T) {
	t.Parallel()
	symptomText, alertText, found := strings.Cut(readFile(t, "docs/troubleshooting.md"), "\n## Alerts\n")
	require.True(t, found)
	_, symptomText, _ = strings.Cut(symptomText, "\n## ")
	_, alertText, _ = strings.Cut(alertText, "\n### ")
	var symptoms []string
	for section := range strings.SplitSeq(symptomText, "\n## ") {
		symptoms = append(symptoms, assertFourSteps(t, section))
	}
	for section := range strings.SplitSeq(alertText, "\n### ") {
		assertFourSteps(t, section)
	}
	assert.Equal(t, []string{
		"Nothing arrives", "It arrives late", "It arrives twice", "Records without user", "Records without text", "Only some users arrive",
		"Graph gets 503 or times out", "A gap stays open",
	}, symptoms)
}

// assertFourSteps checks the steps of a section, and returns its heading.
func assertFourSteps(t *testing.T, section string) (heading string) {
	t.Helper()
	heading, steps, _ := strings.Cut(section, "\n")
	numbered := regexp.MustCompile(`(?m)^[0-9]\. .*`).FindAllString(steps, -1)
	assert.NotEmpty(t, numbered, heading)
	assert.LessOrEqual(t, len(numbered), 4, heading)
	for _, step := range numbered {
		assert.Contains(t, step, "`", "%s: a command, a metric, an attribute or a text to look for", heading)
	}
	return heading
}

// TestDocs_ReceiversAreValid completes the settings of each receiver in the documents with tenant, credential, URL and storage.
func TestDocs_ReceiversAreValid(t *testing.T) {
	t.Parallel()
	block, variable := regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```"), regexp.MustCompile(`\$\{env:\w+[^}]*\}`)
	checked := map[string]int{}
	for page, text := range pages(t) {
		for _, match := range block.FindAllStringSubmatch(text, -1) {
			configuration := regexp.MustCompile("(?m)^"+match[1]).ReplaceAllString(match[2], "")
			if !regexp.MustCompile(`(?m)^receivers:(.*\n +[^ -]| \{)`).MatchString(configuration) {
				continue // nor a manifest of ocb, where it is a list
			}
			retrieved, err := confmap.NewRetrievedFromYAML([]byte(variable.ReplaceAllString(configuration, "value")))
			require.NoError(t, err, "%s: %s", page, configuration)
			all, err := retrieved.AsConf()
			require.NoError(t, err, page)
			receivers, err := all.Sub("receivers")
			require.NoError(t, err, page)
			for name := range receivers.ToStringMap() {
				settings, err := receivers.Sub(name)
				require.NoError(t, err, page)
				if !strings.HasPrefix(name, "m365_copilot") || settings.IsSet("tenant_id") && settings.Get("tenant_id") == "value" {
					continue // the collector validates whole configurations, with values for their variables
				}
				c := loadConfig(t, "smallest.yaml")
				storage := component.MustNewID("file_storage")
				c.Storage = &storage
				if settings.IsSet("auth") {
					c.Auth.ClientSecret = "" // the block may have another credential
				}
				if settings.IsSet("history::poll_interval") {
					c.Subscription.NotificationURL = ""
				}
				require.NoError(t, settings.Unmarshal(c), "%s: %s", page, configuration)
				require.NoError(t, confmap.Validate(c), "%s: %s", page, configuration)
				checked[page]++
			}
		}
	}
	assert.Greater(t, len(checked), 4, "pages with settings of the receiver: %v", checked)
}

// TestDocs_LinksLeadSomewhere follows the links within the repository, to a heading of a page too.
func TestDocs_LinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	for page, text := range pages(t) {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, ":") {
				continue // elsewhere
			}
			path := filepath.Join(filepath.Dir(page), target)
			if target == "" {
				path = page
			}
			if _, err := os.Stat(path); err != nil {
				assert.Failf(t, "a link is broken", "%s links to %s", page, link[1])
			} else if anchor != "" {
				assert.Contains(t, anchors(readFile(t, path)), anchor, "%s links to %s", page, link[1])
			}
		}
	}
}

// anchors returns the anchors of a page: those that GitHub derives from its headings, and explicit ones.
func anchors(text string) (all []string) {
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			all = append(all, strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
					return unicode.ToLower(r)
				default:
					return -1
				}
			}, strings.TrimSpace(heading)))
		}
	}
	for _, explicit := range regexp.MustCompile(`<a (?:id|name)="([^"]+)">`).FindAllStringSubmatch(text, -1) {
		all = append(all, explicit[1])
	}
	return all
}
