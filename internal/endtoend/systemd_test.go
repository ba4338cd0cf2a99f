// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

var systemd = filepath.Join(root, "examples", "systemd")

// readUnit returns the values of each key of the unit, in their order.
func readUnit(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(systemd, "otelcol-copilot.service"))
	require.NoError(t, err)
	unit := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(key, "#") {
			unit[key] = append(unit[key], value)
		}
	}
	return unit
}

func TestSystemd_FilesOfConfigurationAreThoseOfUnit(t *testing.T) {
	t.Parallel()
	unit := readUnit(t)
	config, err := confmaptest.LoadConf(filepath.Join(systemd, "collector.yaml"))
	require.NoError(t, err)
	credential, _, _ := strings.Cut(unit["LoadCredential"][0], ":")
	assert.Equal(t, "${env:CREDENTIALS_DIRECTORY}/"+credential, config.Get("receivers::m365_copilot::auth::client_secret_file"))
	assert.Equal(t, "/var/lib/"+unit["StateDirectory"][0], config.Get("extensions::file_storage::directory"))
}

func TestSystemd_ConfigurationIsValid(t *testing.T) {
	t.Parallel()
	unit := readUnit(t)
	start, reload := strings.Fields(unit["ExecStart"][0]), strings.Fields(unit["ExecReload"][0])
	require.Equal(t, "validate", reload[1])
	assert.Equal(t, start[1:], reload[2:], "what is validated is what runs")
	doctor := strings.Fields(strings.TrimPrefix(unit["ExecStartPre"][0], "-"))
	assert.Equal(t, []string{"doctor", start[1]}, doctor[1:])
	installed := strings.TrimPrefix(start[1], "--config=")
	example := filepath.Join(systemd, path.Base(installed))
	assertValid(t, start[1:], installed, example, "CREDENTIALS_DIRECTORY=/run/credentials")
	assertValid(t, reload[2:], installed, example) // to which some versions of systemd give no credentials
}

// systemd-analyze finds unknown keys and wrong values, and rates from 0 to 10 what the unit may do.
func TestSystemd_UnitIsVerified(t *testing.T) {
	skipIfShort(t, "it needs systemd-analyze")
	t.Parallel()
	analyze, environment := debianProgram(t, "systemd-analyze")
	// The programs that the unit starts must be there.
	programs := t.TempDir()
	text, err := os.ReadFile(filepath.Join(systemd, "otelcol-copilot.service"))
	require.NoError(t, err)
	unit := filepath.Join(t.TempDir(), "otelcol-copilot.service")
	require.NoError(t, os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin", programs)), 0o600))
	for _, name := range []string{"otelcol-copilot", "m365copilot"} {
		require.NoError(t, os.WriteFile(filepath.Join(programs, name), nil, 0o700))
	}
	for _, arguments := range [][]string{{"verify", "--man=no", unit}, {"security", "--offline=true", "--threshold=15", unit}} {
		command := exec.CommandContext(t.Context(), analyze, slices.Concat([]string{"--no-pager"}, arguments)...)
		command.Env = append(os.Environ(), environment...)
		out, err := command.CombinedOutput()
		require.NoError(t, err, string(out))
		if arguments[0] == "verify" {
			assert.Empty(t, string(out))
		} else {
			t.Log(string(out))
		}
	}
}
