package m365copilotreceiver

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/otelcol/otelcoltest"

	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// unmarshal decodes the receiver's part of a configuration as the Collector does.
func unmarshal(raw map[string]any) error {
	cfg := NewFactory().CreateDefaultConfig()
	return confmap.NewFromStringMap(raw).Unmarshal(&cfg)
}

// nested returns a configuration with a value at a path such as webhook.tls.cert_file.
func nested(path string, value any) map[string]any {
	for _, key := range slices.Backward(strings.Split(path, ".")) {
		value = map[string]any{key: value}
	}
	return value.(map[string]any)
}

func TestUnmarshal_ErrorNamesSetting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path  string
		value any
		want  []string
	}{
		"an unknown key":                   {"subscription.notification_uri", "x", []string{"'subscription' has invalid keys: notification_uri"}},
		"an unknown section":               {"web_hook", "x", []string{"has invalid keys: web_hook"}},
		"an unknown key of the Collector":  {"graph.proxy_uri", "x", []string{"'graph' has invalid keys: proxy_uri"}},
		"an unknown key that is squashed":  {"webhook.endpiont", "x", []string{"'webhook' has invalid keys: endpiont"}},
		"an unknown key of an option":      {"webhook.tls.cert_fil", "x", []string{"'webhook.tls' ", "has invalid keys: cert_fil"}},
		"an unknown key in a list":         {"encryption.certificates", []any{map[string]any{"cert": "a"}}, []string{"'encryption.certificates[0]' has invalid keys: cert"}},
		"another type in place of a word":  {"content.capture", true, []string{"'content.capture' ", "bool"}},
		"a transport that does not exist":  {"webhook.transport", "tpc", []string{"'webhook.transport' ", `"tpc"`}},
		"a duration of another unit":       {"subscription.lifetime", "3 days", []string{"'subscription.lifetime' ", "unknown unit"}},
		"a word in place of a duration":    {"history.reconcile.interval", "daily", []string{"'history.reconcile.interval' ", "duration"}},
		"a number in place of text":        {"auth.client_id", 12, []string{"'auth.client_id' ", "string", "int"}},
		"a word in place of a number":      {"history.requests_per_second", "many", []string{"'history.requests_per_second' ", "float64"}},
		"a word in place of a switch":      {"content.references", "yes", []string{"'content.references' ", "bool"}},
		"a number in place of a list":      {"subscription.users", 5, []string{"'subscription.users' ", "array"}},
		"a number in a list of texts":      {"subscription.users", []any{"a", 5}, []string{"'subscription.users[1]' ", "string"}},
		"a number in a section of a list":  {"encryption.certificates", []any{map[string]any{"id": 2026.11}}, []string{"'encryption.certificates[0].id' ", "string"}},
		"a number in place of a section":   {"history", 5, []string{"'history' ", "expected a map"}},
		"text in place of an option":       {"auth.client_certificate", "a.pem", []string{"'auth.client_certificate' ", "expected a map"}},
		"a number in an optional section":  {"webhook.tls", map[string]any{"cert_file": 5}, []string{"'webhook.tls' ", "'cert_file' expected type 'string'"}},
		"a day in place of a time":         {"history.replay", []any{map[string]any{"from": "2026-11-01"}}, []string{"'history.replay[0].from' ", "2006-01-02T15:04:05Z07:00"}},
		"a number in place of an id":       {"storage", 5, []string{"'storage' "}},
		"a number in place of the headers": {"graph.headers", 5, []string{"'graph.headers' "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := unmarshal(nested(test.path, test.value))
			for _, want := range append(test.want, "#settings") {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestUnmarshal_ReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	err := unmarshal(map[string]any{
		"tenantid": "x", "cloud": 5,
		"auth":         map[string]any{"client_certificate": map[string]any{"cert_fil": "x", "key_file": 7}},
		"subscription": map[string]any{"notification_uri": "x", "lifetime": "long"},
		"webhook":      map[string]any{"ack_timeout": "two", "tls": map[string]any{"reload": "1h"}},
	})
	for _, want := range []string{
		"tenantid", "'cloud'", "cert_fil", "key_file", "notification_uri", "'subscription.lifetime'", "'webhook.ack_timeout'", "reload",
	} {
		assert.ErrorContains(t, err, want)
	}
}

func TestUnmarshal_ErrorsContainNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "31415926"
	for _, path := range []string{"auth", "auth.client_certificate", "auth.client_secret", "auth.client_secret_file", "graph.headers"} {
		for _, value := range []any{31415926, secret, []any{secret}, []any{31415926}, map[string]any{"cert_file": 31415926}} {
			if err := unmarshal(nested(path, value)); err != nil {
				assert.NotContains(t, err.Error(), secret, "%s: %v", path, value)
			}
		}
	}
}

// TestUnmarshal_ErrorNamesEveryKey writes each kind of value to each key.
func TestUnmarshal_ErrorNamesEveryKey(t *testing.T) {
	t.Parallel()
	paths := tagPaths(reflect.TypeFor[Config](), "")
	require.Greater(t, len(paths), 100)
	for _, path := range paths {
		refused := 0
		for _, value := range []any{true, 7, "nonsense", []any{[]any{1}}, map[string]any{"zzz": []any{1}}} {
			err := unmarshal(nested(path, value))
			if err == nil {
				continue
			}
			refused++
			section, key, _ := strings.Cut(path, ".")
			require.ErrorContains(t, err, "'"+section)
			require.ErrorContains(t, err, key[strings.LastIndexByte(key, '.')+1:], "%s: %v", path, value)
		}
		assert.GreaterOrEqual(t, refused, 3, path)
	}
}

// tagPaths lists the keys of a type by its tags, without those of list elements.
func tagPaths(t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if get, ok := reflect.PointerTo(t).MethodByName("Get"); ok && strings.HasPrefix(t.Name(), "Optional[") {
		t = get.Type.Out(0).Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[component.ID]() {
		return nil
	}
	var paths []string
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
		if strings.Contains(options, "squash") {
			paths = append(paths, tagPaths(field.Type, path)...)
		} else if name != "" && name != "-" {
			key := strings.TrimPrefix(path+"."+name, ".")
			paths = append(append(paths, key), tagPaths(field.Type, key)...)
		}
	}
	return paths
}

// TestUnmarshal_InCollectorConfig reads a file as `otelcol validate` does. Values from the environment keep their type: text
// of digits is not a number.
func TestUnmarshal_InCollectorConfig(t *testing.T) {
	t.Setenv("COPILOT_ID", "12345")
	t.Setenv("COPILOT_WAIT", "30s")
	read := func(receiver string) (*otelcol.Config, error) {
		factories, err := otelcoltest.NopFactories()
		require.NoError(t, err)
		factories.Receivers[metadata.Type] = NewFactory()
		file := filepath.Join(t.TempDir(), "collector.yaml")
		require.NoError(t, os.WriteFile(file, []byte("receivers:\n  m365_copilot/eu:\n"+receiver+`
exporters: {nop: }
service: {pipelines: {logs: {receivers: [m365_copilot/eu], exporters: [nop]}}}
`), 0o600))
		return otelcoltest.LoadConfig(file, factories)
	}
	cfg, err := read("    auth: {client_id: '${env:COPILOT_ID}'}\n    graph: {timeout: '${env:COPILOT_WAIT}'}\n" +
		"    encryption: {certificates: [{id: '${env:COPILOT_ID}', cert_file: a, key_file: b}]}")
	require.NoError(t, err)
	got, ok := cfg.Receivers[component.MustNewIDWithName("m365_copilot", "eu")].(*Config)
	require.True(t, ok)
	assert.Equal(t, "12345", got.Auth.ClientID)
	assert.Equal(t, "12345", got.Encryption.Certificates[0].ID)
	assert.Equal(t, CaptureNone, got.Content.Capture, "a default")

	_, err = read("    auth: {client_id: '${env:COPILOT_ID}'}\n    content: {capture: true}\n    subscription: {notification_uri: x}\n" +
		"    encryption: {certificates: [{id: '${env:COPILOT_ID}', cert_fil: a, key_file: b}]}")
	for _, want := range []string{
		"m365_copilot/eu", "'content.capture' ", "'subscription' has invalid keys: notification_uri",
		"'encryption.certificates[0]' has invalid keys: cert_fil", "#settings",
	} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "client_id")
}
