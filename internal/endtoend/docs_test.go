// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documentedConfigurations returns the whole configurations of the documents: each YAML block with receivers, exporters and service.
func documentedConfigurations(t *testing.T) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^( *)```ya?ml\n(.*?)^ *```")
	configurations := map[string][]string{}
	for _, path := range append(paths, filepath.Join(root, "README.md")) {
		page, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, block := range blocks.FindAllStringSubmatch(string(page), -1) {
			text := regexp.MustCompile("(?m)^"+block[1]).ReplaceAllString(block[2], "")
			whole := true
			for _, section := range []string{"receivers", "exporters", "service"} {
				whole = whole && regexp.MustCompile("(?m)^"+section+":").MatchString(text)
			}
			if whole {
				configurations[path] = append(configurations[path], text)
			}
		}
	}
	return configurations
}

// The collector itself validates what users copy.
func TestDocs_WholeConfigurationsAreValid(t *testing.T) {
	t.Parallel()
	configurations := documentedConfigurations(t)
	assert.NotEmpty(t, configurations[filepath.Join(root, "README.md")])
	for page, texts := range configurations {
		for _, text := range texts {
			command := exec.CommandContext(t.Context(), collector, "validate",
				"--feature-gates=extension.healthcheck.useComponentStatus", "--config", writeFile(t, text))
			command.Env = append(os.Environ(), documentedEnvironment(text)...)
			output, err := command.CombinedOutput()
			assert.NoError(t, err, "%s\n%s\n%s", page, text, output)
		}
	}
}

// documentedEnvironment gives each variable that a configuration names a value of the kind that its name asks for.
func documentedEnvironment(text string) (environment []string) {
	for _, variable := range regexp.MustCompile(`\$\{env:(\w+)[^}]*\}`).FindAllStringSubmatch(text, -1) {
		value := "value"
		switch name := variable[1]; {
		case strings.HasSuffix(name, "_TENANT_ID"), strings.HasSuffix(name, "_CLIENT_ID"):
			value = tenant
		case strings.HasSuffix(name, "_URL"), strings.HasSuffix(name, "_ENDPOINT"):
			value = "https://service.example.com/path"
		}
		environment = append(environment, variable[1]+"="+value)
	}
	return environment
}
