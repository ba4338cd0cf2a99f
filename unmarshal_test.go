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

func TestUnmarshal_SuggestsSimilarKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ path, want string }{
		"one word is another":               {"subscription.notification_uri", "subscription.notification_uri: there is no such key here: write subscription.notification_url"},
		"a letter is missing":               {"auth.client_scret", "write auth.client_secret"},
		"two letters are swapped":           {"webhook.endpiont", "write webhook.endpoint"},
		"it is written in camel case":       {"tenantId", "tenantId: there is no such key here: write tenant_id"},
		"it is written with hyphens":        {"auth.client-id", "auth.client-id: there is no such key here: write auth.client_id"},
		"it is a key of a section":          {"notification_url", "notification_url: there is no such key here: write subscription.notification_url"},
		"it is a misspelled key of another": {"auth.notification_uri", "write subscription.notification_url"},
		"two sections have it":              {"dedupe.users", "write one of history.users, subscription.users"},
		"it is a key of the Collector's":    {"graph.proxy_uri", "write graph.proxy_url"},
		"it is a key of an optional part":   {"webhook.tls.cert_fil", "write webhook.tls.cert_file"},
		"a section itself is misspelled":    {"web_hook", "write webhook"},
		"no key is similar":                 {"content.surprise", "content.surprise: there is no such key here: write one of capture, references"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.ErrorContains(t, unmarshal(nested(test.path, "x")), test.want)
		})
	}
}

func TestUnmarshal_ErrorSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path  string
		value any
		want  string
	}{
		"of words":                         {"content.capture", true, "content.capture: write one of none, text, not true"},
		"of clouds":                        {"cloud", 1, "cloud: write one of global, us_gov, us_gov_dod, china, not a number"},
		"of transports":                    {"webhook.transport", "tpc", `webhook.transport: write one of tcp, tcp4, tcp6, not "tpc"`},
		"of durations":                     {"subscription.lifetime", "3 days", `subscription.lifetime: write a duration such as 30s, not "3 days"`},
		"of a duration without unit":       {"webhook.read_timeout", 30, "webhook.read_timeout: write the unit too, such as 30s, not 30 alone"},
		"of texts that look like a number": {"auth.client_id", 12, "auth.client_id: write text, in quotes where YAML would read something else, not a number"},
		"of whole numbers":                 {"history.concurrency", 2.5, "history.concurrency: write a whole number, not 2.5"},
		"of numbers":                       {"history.requests_per_second", "many", "history.requests_per_second: write a number, not this text"},
		"of switches":                      {"content.references", "yes", "content.references: write true or false, not this text"},
		"of lists":                         {"subscription.users", 5, "subscription.users: write a list such as [a, b], not a number"},
		"of elements of a list":            {"subscription.users", []any{"a", 5}, "subscription.users[1]: write text"},
		"of sections":                      {"history", 5, "history: write a mapping with keys of these: concurrency, enabled"},
		"of lists of sections":             {"encryption.certificates", "a.pem", "encryption.certificates: write a list of mappings with keys of these: cert_file, id, key_file"},
		"of sections in a list":            {"encryption.certificates", []any{map[string]any{"id": "a"}, 8}, "encryption.certificates[1]: write a mapping with keys of these: cert_file, id, key_file, not a number"},
		"of keys of sections in a list":    {"encryption.certificates", []any{map[string]any{"cert": "a"}}, "encryption.certificates[0].cert: there is no such key here"},
		"of values of sections in a list":  {"encryption.certificates", []any{map[string]any{"id": 2026.11}}, "encryption.certificates[0].id: write text"},
		"of optional sections":             {"auth.client_certificate", "a.pem", "auth.client_certificate: write a mapping with keys of these: cert_file, enabled, key_file"},
		"of values of optional sections":   {"webhook.tls", map[string]any{"cert_file": 5}, "webhook.tls.cert_file: write text"},
		"of optional durations":            {"history.reconcile.interval", "daily", `history.reconcile.interval: write a duration such as 30s, not "daily"`},
		"of an optional one without unit":  {"history.reconcile.interval", 24, "history.reconcile.interval: write the unit too, such as 30s, not 24 alone"},
		"of times":                         {"history.replay", []any{map[string]any{"from": "2026-11-01"}}, `history.replay[0].from: write a time such as 2026-11-01T00:00:00Z, not "2026-11-01"`},
		"of ids":                           {"storage", 5, "storage: write the id of an extension, such as file_storage"},
		"of headers":                       {"graph.headers", 5, "graph.headers: write a mapping of names to values"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.ErrorContains(t, unmarshal(nested(test.path, test.value)), test.want)
		})
	}
}

func TestUnmarshal_ReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	err := unmarshal(map[string]any{
		"tenantid": "x", "cloud": 5,
		"auth":         map[string]any{"client_certificate": map[string]any{"cert_fil": "x", "key_file": 7}},
		"subscription": map[string]any{"notification_uri": "x", "lifetime": "long"},
		"webhook":      map[string]any{"ack_timeout": 2, "tls": map[string]any{"reload": "1h"}},
	})
	require.Error(t, err)
	_, problems, _ := strings.Cut(err.Error(), "can't be read:\n")
	assert.Len(t, strings.Split(problems, "\n"), 8, err)
}

func TestUnmarshal_ErrorsContainNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "31415926"
	for _, path := range []string{"auth", "auth.client_certificate", "auth.client_secret", "auth.client_secret_file", "graph.headers", "storage"} {
		for _, value := range []any{31415926, secret, []any{secret}, []any{31415926}, map[string]any{"cert_file": 31415926}} {
			if err := unmarshal(nested(path, value)); err != nil {
				assert.NotContains(t, err.Error(), secret, "%s: %v", path, value)
			}
		}
	}
}

// TestUnmarshal_AgreesWithDecoderForEveryKey writes each kind of value to each key. What the Collector's decoder rejects must be
// rejected with its path, and what it accepts must be accepted, except numbers that it misreads.
func TestUnmarshal_AgreesWithDecoderForEveryKey(t *testing.T) {
	t.Parallel()
	paths := tagPaths(reflect.TypeFor[Config](), "")
	require.Greater(t, len(paths), 100)
	for _, path := range paths {
		refused := 0
		for _, value := range []any{true, 7, "nonsense", []any{[]any{1}}, map[string]any{"zzz": []any{1}}} {
			raw := nested(path, value)
			decoder := confmap.NewFromStringMap(raw).Unmarshal(new(plainConfig))
			err := unmarshal(raw)
			if decoder == nil {
				if err != nil {
					require.ErrorContains(t, err, path+": write the unit too")
				}
				continue
			}
			refused++
			if assert.Error(t, err, "%s: %v", path, value) {
				assert.ErrorContains(t, err, "\n"+path)
				assert.Contains(t, err.Error(), ": write ")
				assert.NotContains(t, err.Error(), "unconvertible")
			}
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
		"m365_copilot/eu", "content.capture: write one of none, text, not true",
		"subscription.notification_uri: there is no such key here: write subscription.notification_url",
		"encryption.certificates[0].cert_fil: there is no such key here: write encryption.certificates[0].cert_file",
	} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "client_id")
}
