// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
)

// TestDoctorPage_SettingsAreValid completes the settings of the receiver that docs/doctor.md recommends with tenant, credential,
// URL and storage. Its other examples are those of other components.
func TestDoctorPage_SettingsAreValid(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/doctor.md")
	require.NoError(t, err)
	checked := 0
	for _, match := range regexp.MustCompile("(?s)\n *```yaml\n(.*?)\n *```").FindAllStringSubmatch(string(page), -1) {
		text := regexp.MustCompile(`\$\{env:\w+\}`).ReplaceAllString(match[1], "value")
		retrieved, err := confmap.NewRetrievedFromYAML([]byte(text))
		require.NoError(t, err, match[1])
		settings, err := retrieved.AsConf()
		require.NoError(t, err, match[1])
		if settings.IsSet("receivers::m365_copilot") {
			settings, err = settings.Sub("receivers::m365_copilot")
			require.NoError(t, err, match[1])
		}
		sections := []string{"auth", "graph", "subscription", "webhook", "encryption", "history", "dedupe", "storage"}
		if !slices.ContainsFunc(sections, settings.IsSet) {
			continue
		}
		c := loadConfig(t, "smallest.yaml")
		storage := component.MustNewID("file_storage")
		c.Storage = &storage
		require.NoError(t, settings.Unmarshal(c), match[1])
		require.NoError(t, confmap.Validate(c), match[1])
		checked++
	}
	assert.Greater(t, checked, 8)
}
