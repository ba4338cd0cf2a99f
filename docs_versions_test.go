// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

// gomodPattern matches an entry of a builder manifest.
var gomodPattern = regexp.MustCompile(`(?m)- gomod: (\S+) (v\S+)`)

// manifestVersions returns the versions in the manifest of the distribution, by module.
func manifestVersions(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, entry := range gomodPattern.FindAllStringSubmatch(readFile(t, "builder-config.yaml"), -1) {
		if known := versions[entry[1]]; known != "" {
			assert.Equal(t, known, entry[2], "builder-config.yaml has two versions of %s", entry[1])
		}
		versions[entry[1]] = entry[2]
	}
	require.Contains(t, versions, module)
	return versions
}

// The manifest, the distribution that it builds, and the changelog's first heading have the same version.
func TestVersions_ReleaseIsOne(t *testing.T) {
	t.Parallel()
	release := manifestVersions(t)[module]
	all, err := confmaptest.LoadConf("builder-config.yaml")
	require.NoError(t, err)
	assert.Equal(t, release, "v"+all.Get("dist::version").(string))
	headings := regexp.MustCompile(`(?m)^## (.*)$`).FindStringSubmatch(readFile(t, "CHANGELOG.md"))
	require.NotNil(t, headings)
	version, _, _ := strings.Cut(headings[1], " ")
	assert.Equal(t, release, version)
	for _, page := range []string{"README.md", "docs/distribution.md"} {
		assert.Contains(t, readFile(t, page), "- gomod: "+module+" "+release+"\n", page)
	}
}

// Each manifest entry in the documents has the version of the distribution's manifest. A component that the distribution does not have
// has that of one of the same repository.
func TestVersions_DocumentedManifestsMatch(t *testing.T) {
	t.Parallel()
	versions := manifestVersions(t)
	for page, text := range pages(t) {
		for _, entry := range gomodPattern.FindAllStringSubmatch(text, -1) {
			known, ok := versions[entry[1]]
			if repository, _, inContrib := strings.Cut(entry[1], "-contrib/"); !ok && inContrib {
				known = versions[repository+"-contrib/extension/healthcheckextension"]
			}
			assert.Equal(t, known, entry[2], "%s: %s", page, entry[1])
		}
	}
}

// What the page on distributions names as versions of the Collector, of its stable modules, of ocb and of Go are those of go.mod and of
// the manifest; README and the page name no others.
func TestVersions_CollectorIsTheOneOfGoMod(t *testing.T) {
	t.Parallel()
	gomod, tools := readFile(t, "go.mod"), readFile(t, "internal/tools/go.mod")
	required := func(file, pattern string) string {
		match := regexp.MustCompile(`(?m)^\s*` + pattern + `\b`).FindStringSubmatch(file)
		require.NotNil(t, match, pattern)
		return match[1]
	}
	collector := required(gomod, `go\.opentelemetry\.io/collector/otelcol (v[0-9.]+)`)
	stable := required(gomod, `go\.opentelemetry\.io/collector/component (v[0-9.]+)`)
	language := required(gomod, `go ([0-9]+\.[0-9]+)`)
	builder := required(tools, `go\.opentelemetry\.io/collector/cmd/builder (v[0-9.]+)`)
	manifest := manifestVersions(t)
	assert.Equal(t, collector, builder)
	assert.Equal(t, collector, manifest["go.opentelemetry.io/collector/exporter/otlphttpexporter"])
	assert.Equal(t, stable, manifest["go.opentelemetry.io/collector/confmap/provider/envprovider"])

	page := readFile(t, "docs/distribution.md")
	for _, row := range []string{
		"| receiver | " + manifest[module] + ",", "| Collector components | " + collector + " |", "| " + stable + " |", "| Go | " + language + " |",
		"collector/cmd/builder@" + builder + "\n",
	} {
		assert.Contains(t, page, row)
	}
	assert.Contains(t, readFile(t, "README.md"), "Go "+language)
	for _, path := range []string{"README.md", "docs/distribution.md"} {
		for _, version := range regexp.MustCompile(`\bv[0-9]+\.[0-9]+\.[0-9]+\b`).FindAllString(readFile(t, path), -1) {
			known := version == collector || version == stable || slices.Contains(slices.Collect(maps.Values(manifest)), version)
			assert.True(t, known, "%s: %s is no version of the manifest", path, version)
		}
	}
}
