// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"fmt"
	"os"
	"path"
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
	hostFile := path.Join(mountedDir(t, page, path.Dir(secretFile)), path.Base(secretFile))
	assert.Contains(t, page, fmt.Sprintf("install -o %d -m 400 /dev/stdin %s ", m.pod().SecurityContext.RunAsUser, hostFile))
	configFile := strings.TrimPrefix(m.collector().Args[0], "--config=")
	hostFile = path.Join(mountedDir(t, page, path.Dir(configFile)), path.Base(configFile))
	assert.Contains(t, page, "examples/kubernetes/collector.yaml "+hostFile+"\n")
	assert.Contains(t, page, "otelcol-copilot:"+m.setting(t, "extensions::file_storage::directory")+" ")
	assert.Contains(t, page, m.doctor().Command[0]+" doctor --config="+configFile)
	for _, p := range m.collector().Ports {
		assert.Contains(t, page, fmt.Sprintf("--publish 127.0.0.1:%[1]d:%[1]d ", p.ContainerPort))
	}
	assert.Contains(t, page, "certificate/"+m.ingress.Spec.TLS[0].SecretName+" ")

	_, credential, _ := strings.Cut(unit["LoadCredential"][0], ":")
	assert.Contains(t, page, "install -m 600 /dev/stdin "+credential)
	assert.Contains(t, page, "sudo env CREDENTIALS_DIRECTORY="+path.Dir(credential)+" "+strings.TrimPrefix(unit["ExecStartPre"][0], "-"))
	assert.Contains(t, page, "`"+strings.TrimPrefix(unit["EnvironmentFile"][0], "-")+"`")
	assert.Contains(t, page, collectorTarget+" "+toolTarget+" "+filepath.Dir(strings.Fields(unit["ExecStart"][0])[0])+"/")
}

// mountedDir returns the directory of the host that the command of Docker mounts at a directory.
func mountedDir(t *testing.T, page, at string) string {
	t.Helper()
	volume := regexp.MustCompile(`--volume (/\S+):` + regexp.QuoteMeta(at) + `:ro `).FindStringSubmatch(page)
	require.Len(t, volume, 2, at)
	return volume[1]
}

func TestDeployment_GoMemoryLimitIsTheSame(t *testing.T) {
	t.Parallel()
	unit, variable := readUnit(t), readManifests(t).collector().Env[0]
	limit := variable.Name + "=" + variable.Value
	assert.Contains(t, limit, "GOMEMLIMIT=")
	assert.Equal(t, []string{limit}, unit["Environment"])
	assert.Contains(t, readDeploymentPage(t), "--memory 1g --env "+limit+" ")
}
