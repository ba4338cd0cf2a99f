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

// The tests of this file run the commands of the documents as they stand, and not in parallel: they compile, which would disturb tests
// that measure time.

// published is the address that the documents clone.
const published = "https://github.com/otelcopilot/m365copilotreceiver"

// commands returns the shell blocks of a section, without the indentation of a list.
func commands(t *testing.T, page, heading string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, "%s: %s", page, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range regexp.MustCompile("(?ms)^( *)```sh\n(.*?)^ *```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, regexp.MustCompile("(?m)^"+block[1]).ReplaceAllString(block[2], ""))
	}
	return blocks
}

// shell runs a script in a directory, with more variables in its environment, and returns its output.
func shell(t *testing.T, dir, script string, environment ...string) (output string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	command.Dir = dir
	command.Env = append(os.Environ(), environment...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// clonable returns the variables with which git clones the working tree, changes that are not committed included, where it is told to
// clone the published repository.
func clonable(t *testing.T) []string {
	t.Helper()
	tree, err := filepath.Abs(root)
	require.NoError(t, err)
	repository := t.TempDir()
	out, err := shell(t, tree, `
git init --quiet
git add --all
git -c user.name=test -c user.email=test@example.com commit --quiet --message "working tree"
`, "GIT_DIR="+repository, "GIT_WORK_TREE="+tree)
	require.NoError(t, err, out)
	return []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url." + repository + ".insteadOf", "GIT_CONFIG_VALUE_0=" + published}
}

// From an empty directory to interactions of an emulated tenant, and to the doctor of a real one, which names what is not filled in.
func TestREADME_CommandsWork(t *testing.T) {
	skipIfShort(t, "it builds the collector in an empty directory")
	dir := t.TempDir()
	try := commands(t, "README.md", "Try it")
	require.Len(t, try, 1)
	out, err := shell(t, dir, try[0], append(clonable(t), "DURATION=20s")...)
	require.NoError(t, err, out)

	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	summary := regexp.MustCompile("(?m)^-- last .*$").FindString(string(text))
	require.NotEmpty(t, summary)
	assert.Regexp(t, "(?m)^"+regexp.MustCompile(`[0-9]+`).ReplaceAllString(regexp.QuoteMeta(summary), "[0-9]+")+"$", out)

	steps := commands(t, "README.md", "A real tenant")
	require.Len(t, steps, 2)
	clone := filepath.Join(dir, filepath.Base(published))
	out, err = shell(t, clone, steps[0])
	require.Error(t, err, out)
	assert.Contains(t, out, "tenant_id")
	assert.NotContains(t, out, "not found")
	// The collector itself would ask Microsoft for a token.
	run := strings.Replace(steps[1], " --config", " validate --config", 1)
	out, err = shell(t, clone, run, "COPILOT_TENANT_ID="+tenant, "COPILOT_CLIENT_ID="+tenant, "COPILOT_CLIENT_SECRET=x",
		"COPILOT_NOTIFICATION_URL=https://copilot.example.com/n", "OTLP_ENDPOINT=https://otlp.example.com")
	require.NoError(t, err, out)
}

// From an empty directory to a distribution of one's own that accepts a configuration with the receiver.
func TestDistribution_CommandsWork(t *testing.T) {
	skipIfShort(t, "it builds a collector in an empty directory")
	build, run := commands(t, "docs/distribution.md", "Build it"), commands(t, "docs/distribution.md", "Run it")
	require.Len(t, build, 1)
	require.Len(t, run, 2)
	out, err := shell(t, t.TempDir(), build[0]+run[0], clonable(t)...)
	require.NoError(t, err, out)
	assert.Regexp(t, `name: m365_copilot\n\s+module: \S+ v[0-9.]+\n\s+stability:\n\s+logs: Alpha\n\s+metrics: Alpha\n`, out)

	// The collector itself would ask Microsoft for a token. It is run with what was validated.
	_, arguments, found := strings.Cut(run[0], "otelcol-custom validate ")
	require.True(t, found)
	assert.Contains(t, run[1], "otelcol-custom "+arguments)
}
