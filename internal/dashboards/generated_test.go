// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/logs"
	"github.com/grafana/grafana-foundation-sdk/go/loki"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	grafanastat "github.com/grafana/grafana-foundation-sdk/go/stat"
	grafanatable "github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// generate writes all files into a directory of the test, and returns it.
func generate(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, writeAll(dir))
	return dir
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return content
}

func names(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

// The files that are committed are those that this package writes.
func TestGenerated_FilesAreCurrent(t *testing.T) {
	t.Parallel()
	dir, committed := generate(t), filepath.Join("..", "..", "examples", "dashboards")
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		if name, err := filepath.Rel(dir, path); !entry.IsDir() {
			require.NoError(t, err)
			assert.Equal(t, string(read(t, path)), string(read(t, committed, name)), "%s: run `make generate`", name)
		}
		return nil
	}))
}

// Strict decoding finds unknown and missing fields; decoding and encoding again finds those that the SDK does not know otherwise.
func TestGrafana_FilesRoundTrip(t *testing.T) {
	registerPlugins()
	for _, path := range names(t, generate(t), "grafana/*.json") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			content := read(t, path)
			// The SDK returns a list of problems, with none in it if all is well, and then leaves the panels out of what it decoded.
			var problems cog.BuildErrors
			require.ErrorAs(t, new(grafanaDashboard).UnmarshalJSONStrict(content), &problems)
			require.Empty(t, problems)

			var decoded grafanaDashboard
			require.NoError(t, json.Unmarshal(content, &decoded))
			again, err := json.Marshal(decoded)
			require.NoError(t, err)
			assert.JSONEq(t, string(content), string(again))
		})
	}
}

// registerPlugins tells the SDK the kinds of panels and queries that the files have. All that it knows would take minutes to compile.
func registerPlugins() {
	for _, panel := range []variants.PanelcfgConfig{
		bargauge.VariantConfig(), grafanastat.VariantConfig(), grafanatable.VariantConfig(), timeseries.VariantConfig(), logs.VariantConfig(),
	} {
		cog.NewRuntime().RegisterPanelcfgVariant(panel)
	}
	cog.NewRuntime().RegisterDataqueryVariant(prometheus.VariantConfig())
	cog.NewRuntime().RegisterDataqueryVariant(loki.VariantConfig())
}

// grafanaFile is as much of a dashboard as these tests look at.
type grafanaFile struct {
	Title, Description, UID string
	Panels                  []struct {
		Type, Title, Description string
		Targets                  []struct{ Expr, RefID string }
	}
	Templating struct {
		List []struct{ Name, Type string }
	}
}

func TestGrafana_PanelsAreDescribed(t *testing.T) {
	t.Parallel()
	for _, path := range names(t, generate(t), "grafana/*.json") {
		var file grafanaFile
		require.NoError(t, json.Unmarshal(read(t, path), &file))
		assert.NotEmpty(t, file.Title, path)
		assert.NotEmpty(t, file.Description, path)
		assert.NotEmpty(t, file.UID, path)
		titles := map[string]bool{}
		for _, p := range file.Panels {
			assert.False(t, titles[p.Title], "%s: two panels are called %s", path, p.Title)
			titles[p.Title] = true
			if p.Type == "row" {
				continue
			}
			assert.NotEmpty(t, p.Title, path)
			assert.NotEmpty(t, p.Description, "%s: %s", path, p.Title)
			assert.NotEmpty(t, p.Targets, "%s: %s", path, p.Title)
			for _, target := range p.Targets {
				assert.NotEmpty(t, target.Expr, "%s: %s", path, p.Title)
				assert.NotEmpty(t, target.RefID, "%s: %s", path, p.Title)
			}
		}
	}
}

// No file names a data source of one Grafana: each reference is a variable that the file declares, and of the kind of that variable.
func TestGrafana_DataSourcesAreVariables(t *testing.T) {
	t.Parallel()
	for _, path := range names(t, generate(t), "grafana/*.json") {
		var tree any
		require.NoError(t, json.Unmarshal(read(t, path), &tree))
		declared, references := map[string]any{}, 0
		visit(tree, func(object map[string]any) {
			if object["type"] == "datasource" {
				declared[object["name"].(string)] = object["query"]
			}
		})
		visit(tree, func(object map[string]any) {
			if source, ok := object["datasource"].(map[string]any); ok {
				references++
				name := regexp.MustCompile(`^\$\{(.*)\}$`).FindStringSubmatch(source["uid"].(string))
				require.NotNil(t, name, "%s: %s is no variable", path, source["uid"])
				assert.Equal(t, declared[name[1]], source["type"], path)
			}
		})
		assert.NotZero(t, references, path)
	}
}

// Each variable that a query names is declared, and each that is declared is used.
func TestGrafana_VariablesAreDeclared(t *testing.T) {
	t.Parallel()
	for _, path := range names(t, generate(t), "grafana/*.json") {
		var file grafanaFile
		content := read(t, path)
		require.NoError(t, json.Unmarshal(content, &file))
		declared := map[string]bool{}
		for _, v := range file.Templating.List {
			declared[v.Name] = true
		}
		unused := maps.Clone(declared)
		used := regexp.MustCompile(`\$\{([a-z]+)(?::[a-z]+)?\}`).FindAllStringSubmatch(string(content), -1)
		require.NotEmpty(t, used, path)
		for _, match := range used {
			assert.True(t, declared[match[1]], "%s: %s", path, match[1])
			delete(unused, match[1])
		}
		assert.Empty(t, unused, path)
	}
}

// visit calls a function with each object of a JSON value.
func visit(value any, each func(object map[string]any)) {
	switch value := value.(type) {
	case map[string]any:
		each(value)
		for _, v := range value {
			visit(v, each)
		}
	case []any:
		for _, v := range value {
			visit(v, each)
		}
	}
}

// vmuiSettings has the fields that vmui knows, and no others:
// https://github.com/VictoriaMetrics/VictoriaMetrics/blob/v1.151.0/app/vmui/packages/vmui/src/types/index.ts
type vmuiSettings struct {
	Title *string `json:"title"`
	Rows  []struct {
		Title  *string `json:"title"`
		Panels []struct {
			Title       *string  `json:"title"`
			Description *string  `json:"description"`
			Unit        *string  `json:"unit"`
			Expr        []string `json:"expr"`
			Alias       []string `json:"alias"`
			ShowLegend  *bool    `json:"showLegend"`
			Width       *int     `json:"width"`
		} `json:"panels"`
	} `json:"rows"`
}

func TestVMUI_FilesHaveKnownFieldsAndDefinitions(t *testing.T) {
	t.Parallel()
	for _, path := range names(t, generate(t), "vmui/*.json") {
		var file vmuiSettings
		decoder := json.NewDecoder(bytes.NewReader(read(t, path)))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&file), path)
		require.NotNil(t, file.Title, path)
		require.NotEmpty(t, file.Rows, path)
		titles := map[string]bool{}
		for _, r := range file.Rows {
			require.NotEmpty(t, r.Panels, path)
			for _, p := range r.Panels {
				require.NotNil(t, p.Title, path)
				assert.False(t, titles[*p.Title], "%s: two panels are called %s", path, *p.Title)
				titles[*p.Title] = true
				assert.NotEmpty(t, *p.Description, "%s: %s", path, *p.Title)
				assert.NotEmpty(t, p.Expr, "%s: %s", path, *p.Title)
				assert.Len(t, p.Alias, len(p.Expr), "%s: %s", path, *p.Title)
				assert.True(t, *p.Width > 0 && *p.Width <= 12, "%s: %s", path, *p.Title)
			}
		}
	}
}

// A panel shows the metrics that rules record, with the labels that they have, and each recorded metric is shown.
func TestPanels_ShowEachRecording(t *testing.T) {
	t.Parallel()
	recorded := map[string]recording{}
	for _, r := range recordings {
		recorded[seriesName(r.metric, r.labels)] = r
	}
	shown := map[string]bool{}
	for _, target := range allTargets() {
		for _, match := range regexp.MustCompile(`(copilot:[a-z_]+)(\{[^}]*\})?`).FindAllStringSubmatch(target.query, -1) {
			name := match[1] + strings.ReplaceAll(match[2], `"`, "")
			if match[2] == "" {
				name = match[1] + "{}"
			}
			require.True(t, slices.Contains(slices.Collect(maps.Keys(recorded)), name), "nothing records %s", name)
			shown[name] = true
			if by := regexp.MustCompile(`max by \(([a-z_]+)\)`).FindStringSubmatch(target.query); by != nil {
				assert.Equal(t, recorded[name].by, by[1], target.query)
			}
		}
	}
	for name := range recorded {
		assert.True(t, shown[name], "no panel shows %s", name)
	}
}

// A legend names labels by which its query groups.
func TestPanels_LegendsNameLabelsOfTheQuery(t *testing.T) {
	t.Parallel()
	for _, target := range allTargets() {
		var grouped []string
		for _, match := range regexp.MustCompile(`by \(([a-z_, ]+)\)`).FindAllStringSubmatch(target.query, -1) {
			grouped = append(grouped, strings.Split(match[1], ", ")...)
		}
		for _, label := range regexp.MustCompile(`\{\{([a-z_]+)\}\}`).FindAllStringSubmatch(target.legend, -1) {
			assert.True(t, slices.Contains(grouped, label[1]), "%s: %s", target.query, target.legend)
		}
	}
}

// VictoriaMetrics accepts more than Prometheus does.
func TestPanels_QueriesAreOfPrometheus(t *testing.T) {
	t.Parallel()
	for _, target := range allTargets() {
		_, err := parser.NewParser(parser.Options{}).ParseExpr(target.query)
		assert.NoError(t, err, target.query)
	}
}

func allTargets() (all []target) {
	for _, b := range boards {
		for _, r := range b.rows {
			for _, p := range r.panels {
				all = append(all, p.targets...)
			}
		}
	}
	return all
}
