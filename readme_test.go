package m365copilotreceiver

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// setting is a row of the README's table of settings for one key.
type setting struct{ key, value string }

// readmeSettings returns the documented settings with their defaults, empty where a row has no default. In a row such as
// `dedupe.window`, `.max_entries` the later keys are in the section of the first, and each has its default in the same place.
func readmeSettings(t *testing.T) []setting {
	t.Helper()
	page, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "\n## Settings\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	code := regexp.MustCompile("`([^`]+)`")
	var settings []setting
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		keys, values := code.FindAllStringSubmatch(cells[1], -1), code.FindAllStringSubmatch(cells[2], -1)
		for i, key := range keys {
			s := setting{key: key[1]}
			if suffix, inSection := strings.CutPrefix(s.key, "."); inSection {
				first, _, _ := strings.Cut(keys[0][1], ".")
				s.key = first + "." + suffix
			}
			if i < len(values) {
				s.value = values[i][1]
			}
			settings = append(settings, s)
		}
	}
	return settings
}

// TestREADME_ListsEveryKey accepts a row for a whole section, such as graph.*, for the keys of the Collector's HTTP client.
func TestREADME_ListsEveryKey(t *testing.T) {
	t.Parallel()
	documented, keys := readmeSettings(t), tagPaths(reflect.TypeFor[Config](), "")
	for _, key := range keys {
		section := slices.ContainsFunc(keys, func(other string) bool { return strings.HasPrefix(other, key+".") })
		assert.True(t, section || slices.ContainsFunc(documented, func(s setting) bool {
			return strings.HasPrefix(key+".", strings.TrimSuffix(s.key, ".*")+".")
		}), "%s is missing in the table of settings", key)
	}
	for _, s := range documented {
		assert.Contains(t, keys, strings.TrimSuffix(s.key, ".*"), "the table of settings has a key that does not exist")
	}
}

// TestREADME_StatesDefaults writes each documented default into a configuration, which must not change by that.
func TestREADME_StatesDefaults(t *testing.T) {
	t.Parallel()
	derived := []string{"auth.token_url", "auth.scope", "auth.audiences", "webhook.path", "history.reconcile.interval"} // from other keys
	stated := 0
	for _, s := range readmeSettings(t) {
		if s.value == "" || slices.Contains(derived, s.key) {
			continue
		}
		retrieved, err := confmap.NewRetrievedFromYAML([]byte(s.value))
		require.NoError(t, err, s.key)
		raw, err := retrieved.AsRaw()
		require.NoError(t, err, s.key)
		c := createDefaultConfig()
		require.NoError(t, confmap.NewFromStringMap(nested(s.key, raw)).Unmarshal(c), s.key)
		assert.Equal(t, printed(t, createDefaultConfig()), printed(t, c), "the default of %s is another", s.key)
		stated++
	}
	assert.Greater(t, stated, 30)
}

// printed returns a configuration as text, in which an empty list and none are the same.
func printed(t *testing.T, config any) string {
	t.Helper()
	conf := confmap.New()
	require.NoError(t, conf.Marshal(config))
	return fmt.Sprint(conf.ToStringMap())
}
