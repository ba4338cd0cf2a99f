// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

// The manifests of examples/kubernetes name the same things in several files. No cluster is at hand to apply them, so what one file
// takes from another is compared here.

// manifests are those that kustomization.yaml lists, as far as they are compared.
type manifests struct {
	kustomization struct {
		Resources          []string
		ConfigMapGenerator []struct {
			Name  string
			Files []string
		}
		Images []struct{ Name, NewName, NewTag string }
	}
	secret struct {
		Metadata   objectMeta
		StringData map[string]string
	}
	storage    struct{ Metadata objectMeta }
	deployment deployment
	service    struct {
		Metadata objectMeta
		Spec     struct {
			Selector map[string]string
			Ports    []servicePort
		}
	}
	ingress       ingressRule
	networkPolicy struct {
		Spec struct {
			PodSelector struct{ MatchLabels map[string]string }
			Ingress     []struct{ Ports []struct{ Port string } }
		}
	}
	// config is the configuration of the collector.
	config *confmap.Conf
}

type servicePort struct {
	Name, TargetPort string
	Port             int
}

type objectMeta struct {
	Name        string
	Labels      map[string]string
	Annotations map[string]string
}

type deployment struct {
	Spec struct {
		Replicas int
		Strategy struct{ Type string }
		Selector struct{ MatchLabels map[string]string }
		Template struct {
			Metadata objectMeta
			Spec     podSpec
		}
	}
}

type podSpec struct {
	TerminationGracePeriodSeconds int
	SecurityContext               struct {
		RunAsNonRoot                   bool
		RunAsUser, RunAsGroup, FSGroup int
		SeccompProfile                 struct{ Type string }
	}
	InitContainers, Containers []container
	Volumes                    []volume
}

type container struct {
	Name, Image   string
	Command, Args []string
	Env           []struct{ Name, Value string }
	Ports         []struct {
		Name          string
		ContainerPort int
	}
	StartupProbe, LivenessProbe, ReadinessProbe *probe
	VolumeMounts                                []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem   bool
		Capabilities             struct{ Drop []string }
	}
}

type probe struct {
	HTTPGet struct{ Path, Port string }
}

type volume struct {
	Name      string
	ConfigMap *struct{ Name string }
	Secret    *struct {
		SecretName  string
		DefaultMode os.FileMode
	}
	PersistentVolumeClaim *struct{ ClaimName string }
	EmptyDir              *struct{}
}

type ingressRule struct {
	Metadata objectMeta
	Spec     struct {
		TLS []struct {
			Hosts      []string
			SecretName string
		}
		Rules []struct {
			Host string
			HTTP struct {
				Paths []struct {
					Path, PathType string
					Backend        struct {
						Service struct {
							Name string
							Port struct{ Name string }
						}
					}
				}
			}
		}
	}
}

var kubernetes = filepath.Join(root, "examples", "kubernetes")

func readManifests(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{}
	for file, into := range map[string]any{
		"kustomization.yaml": &m.kustomization, "secret.yaml": &m.secret, "storage.yaml": &m.storage, "deployment.yaml": &m.deployment,
		"service.yaml": &m.service, "ingress.yaml": &m.ingress, "networkpolicy.yaml": &m.networkPolicy,
	} {
		readYAML(t, filepath.Join(kubernetes, file), into)
	}
	config, err := confmaptest.LoadConf(filepath.Join(kubernetes, "collector.yaml"))
	require.NoError(t, err)
	m.config = config
	return m
}

// readYAML decodes a file, whatever else it contains.
func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	retrieved, err := confmap.NewRetrievedFromYAML(text)
	require.NoError(t, err, file)
	raw, err := retrieved.AsRaw()
	require.NoError(t, err, file)
	text, err = json.Marshal(raw)
	require.NoError(t, err, file)
	require.NoError(t, json.Unmarshal(text, into), file)
}

func (m *manifests) pod() podSpec { return m.deployment.Spec.Template.Spec }

// collector is the container of the collector, doctor the one that is run before it.
func (m *manifests) collector() container { return m.pod().Containers[0] }
func (m *manifests) doctor() container    { return m.pod().InitContainers[0] }

// setting returns a string of the configuration.
func (m *manifests) setting(t *testing.T, key string) string {
	t.Helper()
	value, isString := m.config.Get(key).(string)
	require.True(t, isString, key)
	return value
}

// port returns the number of a named port of the collector.
func (m *manifests) port(t *testing.T, name string) string {
	t.Helper()
	for _, p := range m.collector().Ports {
		if p.Name == name {
			return strconv.Itoa(p.ContainerPort)
		}
	}
	require.Fail(t, "there is no such port", name)
	return ""
}

// mounted returns the volume that a container has at the directory of a file, and whether it may write there.
func (m *manifests) mounted(t *testing.T, c container, directory string) (v volume, writable bool) {
	t.Helper()
	for _, mount := range c.VolumeMounts {
		if mount.MountPath != directory {
			continue
		}
		i := slices.IndexFunc(m.pod().Volumes, func(v volume) bool { return v.Name == mount.Name })
		require.GreaterOrEqual(t, i, 0, "%s mounts %s", c.Name, mount.Name)
		return m.pod().Volumes[i], !mount.ReadOnly
	}
	require.Fail(t, "nothing is mounted", "in %s at %s", c.Name, directory)
	return v, false
}

func portOf(t *testing.T, endpoint string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(endpoint)
	require.NoError(t, err)
	return port
}

func TestKubernetes_EachManifestIsListed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(kubernetes, "*.yaml"))
	require.NoError(t, err)
	listed := []string{"kustomization.yaml", "networkpolicy.yaml"} // which is optional
	m := readManifests(t)
	listed = append(append(listed, m.kustomization.Resources...), m.kustomization.ConfigMapGenerator[0].Files...)
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	assert.ElementsMatch(t, files, listed)
}

func TestKubernetes_ConfigurationIsValid(t *testing.T) {
	t.Parallel()
	assertValid(t, readManifests(t).collector().Args, "/etc/otelcol-copilot/collector.yaml", filepath.Join(kubernetes, "collector.yaml"))
}

// assertValid validates a configuration with the arguments of a collector, in which the path of the example is put.
func assertValid(t *testing.T, args []string, installed, example string, environment ...string) {
	t.Helper()
	args = slices.Clone(args)
	i := slices.Index(args, "--config="+installed)
	require.GreaterOrEqual(t, i, 0, args)
	args[i] = "--config=" + example
	command := exec.CommandContext(t.Context(), collector, append([]string{"validate"}, args...)...)
	command.Env = append(os.Environ(), environment...)
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestKubernetes_FilesOfConfigurationAreMounted(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	secretFile := m.setting(t, "receivers::m365_copilot::auth::client_secret_file")
	for _, c := range []container{m.doctor(), m.collector()} {
		v, _ := m.mounted(t, c, "/etc/otelcol-copilot")
		require.NotNil(t, v.ConfigMap)
		assert.Equal(t, m.kustomization.ConfigMapGenerator[0].Name, v.ConfigMap.Name)
		assert.Contains(t, c.Args, "--config=/etc/otelcol-copilot/"+m.kustomization.ConfigMapGenerator[0].Files[0])

		v, _ = m.mounted(t, c, path.Dir(secretFile))
		require.NotNil(t, v.Secret)
		assert.Equal(t, m.secret.Metadata.Name, v.Secret.SecretName)
		assert.Contains(t, m.secret.StringData, path.Base(secretFile))

		v, writable := m.mounted(t, c, m.setting(t, "extensions::file_storage::directory"))
		require.NotNil(t, v.PersistentVolumeClaim)
		assert.Equal(t, m.storage.Metadata.Name, v.PersistentVolumeClaim.ClaimName)
		assert.True(t, writable)

		v, writable = m.mounted(t, c, "/tmp")
		assert.NotNil(t, v.EmptyDir)
		assert.True(t, writable)
	}
}

func TestKubernetes_ProbesAskHealthCheck(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	c := m.collector()
	for _, p := range []*probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		require.NotNil(t, p)
		assert.Equal(t, portOf(t, m.setting(t, "extensions::health_check::http::endpoint")), m.port(t, p.HTTPGet.Port))
		// Which does not depend on the state of the receiver.
		assert.Equal(t, m.setting(t, "extensions::health_check::http::status::path")+"?pipeline=extensions", p.HTTPGet.Path)
	}
}

func TestKubernetes_IngressLeadsToWebhook(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	public, err := url.Parse(m.setting(t, "receivers::m365_copilot::subscription::notification_url"))
	require.NoError(t, err)
	rule := m.ingress.Spec.Rules[0]
	assert.Equal(t, public.Host, rule.Host)
	assert.Equal(t, []string{public.Host}, m.ingress.Spec.TLS[0].Hosts)
	assert.Equal(t, public.Path, rule.HTTP.Paths[0].Path)
	backend := rule.HTTP.Paths[0].Backend.Service
	assert.Equal(t, m.service.Metadata.Name, backend.Name)
	i := slices.IndexFunc(m.service.Spec.Ports, func(p servicePort) bool { return p.Name == backend.Port.Name })
	require.GreaterOrEqual(t, i, 0, backend.Port.Name)
	webhook := portOf(t, m.setting(t, "receivers::m365_copilot::webhook::endpoint"))
	assert.Equal(t, webhook, m.port(t, m.service.Spec.Ports[i].TargetPort))

	labels := m.deployment.Spec.Template.Metadata.Labels
	assert.Equal(t, labels, m.service.Spec.Selector)
	assert.Equal(t, labels, m.deployment.Spec.Selector.MatchLabels)
	assert.Equal(t, labels, m.networkPolicy.Spec.PodSelector.MatchLabels)
	for _, allowed := range m.networkPolicy.Spec.Ingress {
		for _, p := range allowed.Ports {
			m.port(t, p.Port)
		}
	}

	size, err := strconv.Atoi(strings.TrimSuffix(m.ingress.Metadata.Annotations["nginx.ingress.kubernetes.io/proxy-body-size"], "m"))
	require.NoError(t, err)
	assert.Greater(t, size<<20, maxBody)
}

// The Service has each port of the collector, by the same name and number.
func TestKubernetes_ServiceHasEveryPort(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	ports := map[string]string{}
	for _, p := range m.service.Spec.Ports {
		assert.Equal(t, p.Name, p.TargetPort)
		ports[p.Name] = strconv.Itoa(p.Port)
	}
	assert.Len(t, ports, len(m.collector().Ports))
	for _, p := range m.collector().Ports {
		assert.Equal(t, strconv.Itoa(p.ContainerPort), ports[p.Name], p.Name)
	}
	assert.Equal(t, portOf(t, m.setting(t, "extensions::health_check::http::endpoint")), ports["health"])
	assert.Contains(t, fmt.Sprint(m.config.Get("service::telemetry::metrics::readers")), "host:0.0.0.0 port:"+ports["metrics"]+"]")
}

// The storage is a file of one process, and a shutdown of the receiver takes up to 20 s where a pipeline blocks.
func TestKubernetes_PodEndsBeforeTheNextStarts(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	assert.Equal(t, 1, m.deployment.Spec.Replicas)
	assert.Equal(t, "Recreate", m.deployment.Spec.Strategy.Type)
	assert.GreaterOrEqual(t, m.pod().TerminationGracePeriodSeconds, 30)
}

// What the Pod Security Standard "restricted" of the namespace requires, and a root file system that is not writable.
func TestKubernetes_PodIsRestricted(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	context := m.pod().SecurityContext
	assert.True(t, context.RunAsNonRoot)
	assert.Equal(t, "RuntimeDefault", context.SeccompProfile.Type)
	for _, c := range []container{m.doctor(), m.collector()} {
		require.NotNil(t, c.SecurityContext.AllowPrivilegeEscalation)
		assert.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
		assert.True(t, c.SecurityContext.ReadOnlyRootFilesystem)
		assert.Equal(t, []string{"ALL"}, c.SecurityContext.Capabilities.Drop)
	}
}

// The image has one name, and the version of the distribution.
func TestKubernetes_ImageIsThatOfDockerfile(t *testing.T) {
	t.Parallel()
	m := readManifests(t)
	image := m.kustomization.Images[0]
	assert.Equal(t, image.Name, m.collector().Image)
	assert.Equal(t, image.Name, m.doctor().Image)
	var manifest struct{ Dist struct{ Version string } }
	readYAML(t, filepath.Join(root, "builder-config.yaml"), &manifest)
	assert.Equal(t, manifest.Dist.Version, image.NewTag)
	assert.Equal(t, image.Name, image.NewName, "which is to be filled in")
	tag := " -t " + image.NewName + ":" + image.NewTag + " "
	for _, file := range []string{"examples/docker/Dockerfile", "docs/deployment.md"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		assert.Contains(t, string(text), tag, file)
	}
}
