// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func readDeploymentPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "deployment.md"))
	require.NoError(t, err)
	return string(text)
}

func TestDeployment_FilesOfCommandsExist(t *testing.T) {
	t.Parallel()
	files := regexp.MustCompile(`examples/[\w/]+[\w.-]*\w`).FindAllString(readDeploymentPage(t), -1)
	require.Greater(t, len(files), 10)
	for _, file := range files {
		_, err := os.Stat(filepath.Join(root, file))
		assert.NoError(t, err)
	}
}

// The command of Docker mounts what the manifests mount, and that of systemd installs what the unit names.
func TestDeployment_CommandsNameTheSamePaths(t *testing.T) {
	t.Parallel()
	page, m, unit := readDeploymentPage(t), readManifests(t), readUnit(t)
	secretFile := m.setting(t, "receivers::m365_copilot::auth::client_secret_file")
	assert.Contains(t, page, "/client_secret:"+secretFile+":ro")
	assert.Contains(t, page, "otelcol-copilot:"+m.setting(t, "extensions::file_storage::directory")+" ")
	configFile := strings.TrimPrefix(m.collector().Args[0], "--config=")
	assert.Contains(t, page, "examples/kubernetes/collector.yaml:"+configFile+":ro")
	assert.Contains(t, page, m.doctor().Command[0]+" doctor --config="+configFile)

	_, credential, _ := strings.Cut(unit["LoadCredential"][0], ":")
	assert.Contains(t, page, "install -m 600 /dev/stdin "+credential)
	assert.Contains(t, page, collectorTarget+" "+toolTarget+" "+filepath.Dir(strings.Fields(unit["ExecStart"][0])[0])+"/")
}
