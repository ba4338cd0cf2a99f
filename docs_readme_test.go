// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

// readmeBlock returns the only code block of a section of README.
func readmeBlock(t *testing.T, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(readFile(t, "README.md"), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)\n```[a-z]*\n(.*?)\n```\n").FindAllStringSubmatch(section, -1)
	require.Len(t, blocks, 1, heading)
	return blocks[0][1]
}

// README is for a first look; what is longer belongs in docs.
func TestREADME_IsShort(t *testing.T) {
	t.Parallel()
	assert.Less(t, len(readFile(t, "README.md")), 10_000)
}

// The configuration for production has the storage, queue and pipelines of the example.
func TestREADME_ConfigurationIsTheExample(t *testing.T) {
	t.Parallel()
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(readmeBlock(t, "In production")))
	require.NoError(t, err)
	shown, err := retrieved.AsConf()
	require.NoError(t, err)
	example, err := confmaptest.LoadConf(filepath.Join("examples", "durable.yaml"))
	require.NoError(t, err)
	for _, all := range []*confmap.Conf{shown, example} {
		require.True(t, all.Delete("extensions::file_storage::directory"))
		require.True(t, all.Delete("exporters::otlp_http::endpoint"))
	}
	assert.NotNil(t, shown.Get("receivers::m365_copilot::storage"))
	for _, part := range []string{
		"receivers::m365_copilot::storage", "extensions::file_storage", "exporters::otlp_http", "service::pipelines",
	} {
		assert.Equal(t, example.Get(part), shown.Get(part), part)
	}
}
