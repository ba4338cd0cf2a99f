// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// No container engine is at hand, so the image is made by hand of what the Dockerfile copies, and its programs are run in it as the
// Deployment does.

// instruction is one of a Dockerfile.
type instruction struct{ name, arguments string }

// readDockerfile returns the instructions of each stage.
func readDockerfile(t *testing.T) (stages [][]instruction) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "examples", "docker", "Dockerfile"))
	require.NoError(t, err)
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		name, arguments, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || name == "#" {
			continue
		}
		if name == "FROM" {
			stages = append(stages, nil)
		}
		stages[len(stages)-1] = append(stages[len(stages)-1], instruction{name, arguments})
	}
	require.Len(t, stages, 2)
	return stages
}

// imageFiles are where the image has the programs, by their paths in the repository.
func imageFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, i := range readDockerfile(t)[1] {
		words := strings.Fields(i.arguments)
		if source, ours := strings.CutPrefix(words[max(0, len(words)-2)], "/src/"); ours && i.name == "COPY" {
			require.Equal(t, "--from=build", words[0])
			files[source] = words[len(words)-1]
		}
	}
	return files
}

// imageCommand is an instruction of the image in the form of a list.
func imageCommand(t *testing.T, name string) (words []string) {
	t.Helper()
	last := readDockerfile(t)[1]
	i := slices.IndexFunc(last, func(i instruction) bool { return i.name == name })
	require.GreaterOrEqual(t, i, 0, name)
	require.NoError(t, json.Unmarshal([]byte(last[i].arguments), &words))
	return words
}

func TestDockerfile_CopiesWhatMakeBuilds(t *testing.T) {
	t.Parallel()
	build := readDockerfile(t)[0]
	for _, i := range []instruction{{"WORKDIR", "/src"}, {"COPY", ". ."}, {"RUN", "make build"}} {
		assert.Contains(t, build, i)
	}
	files := imageFiles(t)
	assert.Len(t, files, 2)
	assert.Contains(t, files, collectorTarget)
	assert.Contains(t, files, toolTarget)

	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	version, _, _ := strings.Cut(build[0].arguments, " ")
	assert.Contains(t, string(gomod), "\ngo "+strings.TrimPrefix(version, "golang:"), "the version of Go")
}

// What git ignores is not needed to build, and may be large; everything else may be needed.
func TestDockerfile_LeavesOutWhatGitIgnores(t *testing.T) {
	t.Parallel()
	ignored, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	require.NoError(t, err)
	left, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	require.NoError(t, err)
	want := []string{".git"}
	for line := range strings.Lines(string(ignored)) {
		want = append(want, strings.Trim(strings.TrimSpace(line), "/"))
	}
	assert.ElementsMatch(t, want, strings.Fields(string(left)))
}

func TestDockerfile_ProgramsAreStatic(t *testing.T) {
	t.Parallel()
	for _, program := range []string{collector, tool} {
		file, err := elf.Open(program)
		require.NoError(t, err)
		for _, segment := range file.Progs {
			assert.NotEqual(t, elf.PT_INTERP, segment.Type, "%s needs a dynamic linker, which the image does not have", program)
		}
		require.NoError(t, file.Close())
	}
}

// The image starts the collector as the Deployment does, so that it also runs without arguments.
func TestDockerfile_CommandIsThatOfDeployment(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	assert.Empty(t, m.collector().Command, "the entry point of the image")
	assert.Equal(t, imageCommand(t, "CMD"), m.collector().Args)
	files := imageFiles(t)
	assert.Equal(t, []string{files[collectorTarget]}, imageCommand(t, "ENTRYPOINT"))
	assert.Equal(t, []string{files[toolTarget]}, m.doctor().Command)
	user := m.pod().SecurityContext
	assert.Contains(t, readDockerfile(t)[1], instruction{"USER", fmt.Sprintf("%d:%d", user.RunAsUser, user.RunAsGroup)})
}

// pod is the pod of the Deployment on this machine: a root directory with the programs of the image and the volumes, in which commands
// run as its user.
type pod struct {
	*collectorHarness

	manifests *manifests
	dir       string
}

func newPod(t *testing.T, health string) *pod {
	t.Helper()
	h := newDoctorHarness(t, "")
	m := readManifests(t)
	p := &pod{collectorHarness: h, manifests: m, dir: t.TempDir()}
	for built, installed := range map[string]string{collector: imageFiles(t)[collectorTarget], tool: imageFiles(t)[toolTarget]} {
		program, err := os.ReadFile(built)
		require.NoError(t, err)
		p.write(t, installed, program, 0o755)
	}
	for _, mount := range m.collector().VolumeMounts {
		v, _ := m.mounted(t, m.collector(), mount.MountPath)
		p.mount(t, v, mount.MountPath)
	}
	// The harness's configuration comes on top, at the same paths.
	h.configure(t, fmt.Sprintf(`
extensions: {health_check: {http: {endpoint: %q}}}
receivers:
  m365_copilot:
    tenant_id: %s
    auth: {client_id: %s}
    subscription: {notification_url: "https://%s/graph/notifications"}
exporters: {otlp_http: {endpoint: "http://%s"}}
`, health, tenant, client, h.webhook, h.backend.address))
	for _, file := range []string{"server.crt", "server.key", "base.yaml"} {
		p.copyIn(t, filepath.Join(h.overlay, file))
	}
	p.copyIn(t, h.ownConfig)
	return p
}

// mount puts what a volume holds into the root directory.
func (p *pod) mount(t *testing.T, v volume, at string) {
	t.Helper()
	switch {
	case v.ConfigMap != nil:
		for _, name := range p.manifests.kustomization.ConfigMapGenerator[0].Files {
			text, err := os.ReadFile(filepath.Join(kubernetes, name))
			require.NoError(t, err)
			p.write(t, path.Join(at, name), text, 0o644)
		}
	case v.Secret != nil:
		for name := range p.manifests.secret.StringData {
			p.write(t, path.Join(at, name), []byte(secret), v.Secret.DefaultMode)
			p.chown(t, path.Join(at, name), 0)
		}
	default:
		require.NoError(t, os.MkdirAll(p.dir+at, 0o755))
		p.chown(t, at, p.manifests.pod().SecurityContext.RunAsUser)
	}
}

// write writes a file. No process may be started meanwhile, since it would hold a program open for writing for an instant, in which
// the program can't be started.
func (p *pod) write(t *testing.T, file string, content []byte, mode os.FileMode) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(t, os.MkdirAll(p.dir+path.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(p.dir+file, content, mode))
}

// copyIn makes a file of this machine readable at the same path in the pod.
func (p *pod) copyIn(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	p.write(t, file, content, 0o644)
}

// chown gives a file to a user and to the pod's group. Who is not root is all users of the pod.
func (p *pod) chown(t *testing.T, file string, user int) {
	t.Helper()
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(p.dir+file, user, p.manifests.pod().SecurityContext.FSGroup))
	}
}

// command is that of a container, with the harness's configuration behind its own.
func (p *pod) command(c container, entryPoint []string) *exec.Cmd {
	words := slices.Concat(entryPoint, c.Command, c.Args, []string{
		"--config=" + filepath.Join(p.overlay, "base.yaml"), "--config=" + p.ownConfig,
	})
	command := exec.Command(words[0], words[1:]...) //nolint:noctx // it is killed, or ends by itself
	for _, variable := range c.Env {
		command.Env = append(command.Env, variable.Name+"="+variable.Value)
	}
	command.Env = append(command.Env, "SSL_CERT_FILE="+filepath.Join(p.overlay, "server.crt"))
	command.Dir = "/"
	user, group := p.manifests.pod().SecurityContext.RunAsUser, p.manifests.pod().SecurityContext.RunAsGroup
	command.SysProcAttr = &syscall.SysProcAttr{
		Chroot: p.dir, Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(group)},
	}
	if os.Geteuid() != 0 { // another user name space, in which that is allowed
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		command.SysProcAttr.Credential.NoSetGroups = true
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Geteuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: group, HostID: os.Getegid(), Size: 1}}
	}
	return command
}

// runDoctor runs the init container.
func (p *pod) runDoctor(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	command := p.command(p.manifests.doctor(), nil)
	command.Stdout, command.Stderr = &out, &out
	require.NoError(t, command.Run(), out.String())
	assert.Contains(t, out.String(), "ok: interactions can arrive")
	t.Log(out.String())
}

// The manifests and the Dockerfile fit together: the doctor finds nothing, the probes succeed, and interactions arrive.
func TestImage_RunsAsInKubernetes(t *testing.T) {
	t.Parallel()
	health := freeAddress(t)
	p := newPod(t, health)
	p.runDoctor(t)
	collector := start(t, p.command(p.manifests.collector(), imageCommand(t, "ENTRYPOINT")))
	p.awaitSubscribed(t)
	for _, probe := range []*probe{p.manifests.collector().LivenessProbe, p.manifests.collector().ReadinessProbe} {
		require.Eventually(t, func() bool { return getStatus(t, "http://"+health+probe.HTTPGet.Path) == http.StatusOK },
			waitTimeout, 50*time.Millisecond, "the collector may become ready after it has subscribed")
	}
	in := prompts(t, 20, 4)
	p.publish(t, in...)
	p.backend.await(t, interactionKeys(t, in...), waitTimeout)
	p.runDoctor(t)

	began := time.Now()
	collector.terminate(t)
	assert.Zero(t, collector.command.ProcessState.ExitCode())
	assert.Less(t, time.Since(began), time.Duration(p.manifests.pod().TerminationGracePeriodSeconds)*time.Second)
	require.Len(t, p.emulator.Requests(graphtest.OpCreate), 1)

	restarted := start(t, p.command(p.manifests.collector(), imageCommand(t, "ENTRYPOINT")))
	restarted.awaitLine(t, "subscription adopted", waitTimeout) // since the storage has the key
}

func getStatus(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	return response.StatusCode
}
