package m365copilotreceiver

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// TestDocs_ConfigurationsAreValid completes each configuration of the documents with tenant, credential and URL.
func TestDocs_ConfigurationsAreValid(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```")
	checked := 0
	for _, file := range []string{"README.md", "docs/people.md", "docs/hybrid.md"} {
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range block.FindAllSubmatch(page, -1) {
			retrieved, err := confmap.NewRetrievedFromYAML(match[1])
			require.NoError(t, err, file)
			all, err := retrieved.AsConf()
			require.NoError(t, err, file)
			if !all.IsSet("receivers::m365_copilot") {
				continue
			}
			receiver, err := all.Sub("receivers::m365_copilot")
			require.NoError(t, err, file)
			c := loadConfig(t, "smallest.yaml")
			require.NoError(t, receiver.Unmarshal(c), "%s: %s", file, match[1])
			require.NoError(t, confmap.Validate(c), "%s: %s", file, match[1])
			checked++
		}
	}
	assert.Equal(t, 4, checked)
}
