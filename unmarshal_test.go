// SPDX-License-Identifier: Apache-2.0

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

// unknownKey is a key that does not exist, with the beginning of the error and a key that it suggests.
type unknownKey struct{ path, section, want string }

func unknownKeys() map[string]unknownKey {
	return map[string]unknownKey{
		"one word is another":             {"subscription.notification_uri", "\nsubscription: ", "notification_url"},
		"a letter is missing":             {"auth.client_scret", "\nauth: ", "client_secret"},
		"it is written in camel case":     {"tenantId", "\nhas invalid keys: ", "tenant_id"},
		"it is written with hyphens":      {"auth.client-id", "\nauth: ", "client_id"},
		"it is a key of the Collector's":  {"graph.proxy_uri", "\ngraph: ", "proxy_url"},
		"it is one that is squashed":      {"webhook.endpiont", "\nwebhook: ", "endpoint"},
		"it is a key of an optional part": {"webhook.tls.cert_fil", "\nwebhook.tls: ", "cert_file"},
		"it is in a section of a section": {"history.reconcile.dely", "\nhistory.reconcile: ", "delay"},
		"a section itself is misspelled":  {"web_hook", "\nhas invalid keys: ", "webhook"},
	}
}

func TestUnmarshal_ListsKeysWhereOneIsUnknown(t *testing.T) {
	t.Parallel()
	for name, test := range unknownKeys() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := unmarshal(nested(test.path, "x"))
			require.ErrorContains(t, err, test.section)
			unknown := test.path[strings.LastIndexByte(test.path, '.')+1:]
			cause, keys, _ := strings.Cut(err.Error(), ": write a mapping with keys of these: ")
			assert.Contains(t, cause, "has invalid keys: "+unknown)
			assert.Contains(t, strings.Split(keys, ", "), test.want)
		})
	}
}

// unreadable is a value of another type than that of its key, with what the error contains.
type unreadable struct {
	path  string
	value any
	want  []string
}

func unreadableValues() map[string]unreadable {
	return map[string]unreadable{
		"of words":                         {"content.capture", true, []string{"\ncontent.capture: ", "write one of none, text"}},
		"of clouds":                        {"cloud", 1, []string{"\ncloud: ", "write one of global, us_gov, us_gov_dod, china"}},
		"of transports":                    {"webhook.transport", "tpc", []string{"\nwebhook.transport: ", "tpc", "write one of tcp, tcp4, tcp6"}},
		"of compressions":                  {"graph.compression", "zip", []string{"\ngraph.compression: ", "unsupported", "zip"}},
		"of durations":                     {"subscription.lifetime", "3 days", []string{"\nsubscription.lifetime: ", "write a duration such as 30s"}},
		"of texts that look like a number": {"auth.client_id", 12, []string{"\nauth.client_id: ", "string"}},
		"of numbers":                       {"history.requests_per_second", "many", []string{"\nhistory.requests_per_second: ", "float64"}},
		"of switches":                      {"content.references", "yes", []string{"\ncontent.references: ", "bool"}},
		"of lists":                         {"subscription.users", 5, []string{"\nsubscription.users: ", "array"}},
		"of elements of a list":            {"subscription.users", []any{"a", 5}, []string{"\nsubscription.users[1]: ", "string"}},
		"of sections":                      {"history", 5, []string{"\nhistory: ", "write a mapping with keys of these: concurrency, enabled"}},
		"of lists of sections":             {"encryption.certificates", "a.pem", []string{"\nencryption.certificates: ", "array"}},
		"of sections in a list":            {"encryption.certificates", []any{map[string]any{"id": "a"}, 8}, []string{"\nencryption.certificates[1]: ", "write a mapping with keys of these: cert_file, id, key_file"}},
		"of keys of sections in a list":    {"encryption.certificates", []any{map[string]any{"cert": "a"}}, []string{"\nencryption.certificates[0]: has invalid keys: cert: write", "cert_file"}},
		"of values of sections in a list":  {"encryption.certificates", []any{map[string]any{"id": 2026.11}}, []string{"\nencryption.certificates[0].id: ", "string"}},
		"of optional sections":             {"auth.client_certificate", "a.pem", []string{"\nauth.client_certificate: ", "write a mapping with keys of these: cert_file, key_file"}},
		"of values of optional sections":   {"webhook.tls", map[string]any{"cert_file": 5}, []string{"\nwebhook.tls: ", "'cert_file' expected type 'string'"}},
		"of optional durations":            {"history.reconcile.interval", "daily", []string{"\nhistory.reconcile.interval: ", "write a duration such as 30s"}},
		"of times":                         {"history.replay", []any{map[string]any{"from": "2026-11-01"}}, []string{"\nhistory.replay[0].from: ", "write a time such as 2026-11-01T00:00:00Z"}},
		"of properties":                    {"identity.directory_properties", []any{"country", 5}, []string{"\nidentity.directory_properties[1]: ", "string"}},
		"of the directory":                 {"identity.directory", "yes", []string{"\nidentity.directory: ", "bool"}},
		"of the inventory":                 {"identity.inventory", "daily", []string{"\nidentity.inventory: ", "write a duration such as 30s"}},
		"of ids":                           {"storage", 5, []string{"\nstorage: "}},
		"of headers":                       {"graph.headers", 5, []string{"\ngraph.headers: "}},
	}
}

func TestUnmarshal_ErrorSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	for name, test := range unreadableValues() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := unmarshal(nested(test.path, test.value))
			for _, want := range test.want {
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
		"tenantid", "\ncloud: ", "cert_fil", "key_file", "notification_uri", "\nsubscription.lifetime: ", "\nwebhook.ack_timeout: ", "reload",
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

// wrongValues are of every kind; no key accepts more than two of them.
func wrongValues() []any {
	return []any{true, 7, "nonsense", []any{[]any{1}}, map[string]any{"zzz": []any{1}}}
}

// TestUnmarshal_ErrorNamesEveryKey writes each kind of value to each key. Errors in an optional section begin with its path.
func TestUnmarshal_ErrorNamesEveryKey(t *testing.T) {
	t.Parallel()
	paths := tagPaths(reflect.TypeFor[Config](), "")
	require.Greater(t, len(paths), 100)
	for _, path := range paths {
		refused := 0
		for _, value := range wrongValues() {
			err := unmarshal(nested(path, value))
			if err == nil {
				continue
			}
			refused++
			section, key, _ := strings.Cut(path, ".")
			require.ErrorContains(t, err, "\n"+section)
			require.ErrorContains(t, err, key[strings.LastIndexByte(key, '.')+1:], "%s: %v", path, value)
		}
		assert.GreaterOrEqual(t, refused, 3, path)
	}
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
		"m365_copilot/eu", "content.capture: ", "write one of none, text", "subscription: has invalid keys: notification_uri: ", "notification_url",
		"encryption.certificates[0]: has invalid keys: cert_fil: ", "cert_file",
	} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "client_id")
}
