// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
)

const configurationPage = "docs/configuration.md"

// setting is a row of a table of the page.
type setting struct{ key, typeName, byDefault, meaning string }

// derivedDefaults depend on other keys, so that the page states them in words.
var derivedDefaults = []string{
	"graph.endpoint", "auth.authority", "auth.token_url", "auth.scope", "auth.issuers", "auth.audiences",
	"webhook.path", "encryption.certificates[].id", "history.reconcile.interval",
}

func documentedSettings(t *testing.T) (settings []setting) {
	t.Helper()
	row := regexp.MustCompile("^\\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\| (.*) \\|$")
	table := false
	for line := range strings.Lines(readFile(t, configurationPage)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "| key | type | default | meaning |":
			table = true
		case !strings.HasPrefix(line, "|"):
			table = false
		case table && line != "|---|---|---|---|":
			cells := row.FindStringSubmatch(line)
			require.NotNil(t, cells, line)
			settings = append(settings, setting{cells[1], strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]), cells[4]})
		}
	}
	require.NotEmpty(t, settings)
	return settings
}

// fieldAt returns the type of a key and its default, which is the zero value in a list.
func fieldAt(t *testing.T, path string) (reflect.Type, reflect.Value) {
	t.Helper()
	config := createDefaultConfig().(*Config)
	value := reflect.ValueOf(config).Elem()
	parts := strings.Split(path, ".")
	for i, part := range parts {
		key, list := strings.CutSuffix(part, "[]")
		fields := settingFields(value.Type())
		at := slices.IndexFunc(fields, func(f settingField) bool { return f.key == key })
		require.GreaterOrEqual(t, at, 0, "there is no key %s", path)
		value = value.FieldByIndex(fields[at].index)
		switch inner := optionalValue(value); {
		case list:
			value = reflect.Zero(value.Type().Elem())
		case i == len(parts)-1:
		case inner != nil:
			value = *inner
		case isOptional(value.Type()):
			value = reflect.Zero(deref(value.Type()))
		}
	}
	return value.Type(), value
}

func TestConfigurationPage_ListsEveryKey(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, s := range documentedSettings(t) {
		require.NotContains(t, documented, s.key, "twice")
		documented = append(documented, s.key)
	}
	known := generateSchema(docComments{})
	for _, key := range ownKeys() {
		assert.Contains(t, documented, key)
	}
	for _, key := range documented {
		assert.NotNil(t, known.at(key), "there is no key %s", key)
	}
}

// TestConfigurationPage_HasEverySection expects a key in the section of its name, and those that have none in the first.
func TestConfigurationPage_HasEverySection(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(readFile(t, configurationPage), "\n## General\n")
	key := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
	titles := []string{"general"}
	for section := range strings.SplitSeq("general\n"+text, "\n## ") {
		title, rest, _ := strings.Cut(section, "\n")
		for _, match := range key.FindAllStringSubmatch(rest, -1) {
			if of, _, inSection := strings.Cut(match[1], "."); inSection {
				assert.Equal(t, title, of, match[1])
			} else {
				assert.Equal(t, "general", title, match[1])
			}
		}
		titles = append(titles, title)
	}
	for _, setting := range settingFields(reflect.TypeFor[Config]()) {
		if isSection(setting.field.Type) {
			assert.Contains(t, titles, setting.key)
		}
	}
}

func TestConfigurationPage_StatesTypes(t *testing.T) {
	t.Parallel()
	for _, s := range documentedSettings(t) {
		of, _ := fieldAt(t, s.key)
		assert.Equal(t, documentedType(of), s.typeName, s.key)
	}
}

// documentedType returns what the page calls a type.
func documentedType(of reflect.Type) string {
	of = deref(of)
	switch {
	case of == reflect.TypeFor[time.Duration]():
		return "duration"
	case of == reflect.TypeFor[time.Time]():
		return "time"
	case of == reflect.TypeFor[component.ID]():
		return "component id"
	case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.String:
		return "list of strings"
	case of.Kind() == reflect.Slice && of.Name() == "":
		return "list of mappings"
	}
	return map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer", reflect.Float64: "number",
		reflect.Struct: "mapping", reflect.Slice: "mapping", // of headers
	}[of.Kind()]
}

// TestConfigurationPage_StatesDefaults writes each default as documented into a configuration, which must not change by that.
func TestConfigurationPage_StatesDefaults(t *testing.T) {
	t.Parallel()
	var derived []string
	for _, s := range documentedSettings(t) {
		_, value := fieldAt(t, s.key)
		stated, isCode := strings.CutPrefix(s.byDefault, "`")
		section, key := "", s.key
		if i := strings.LastIndexByte(s.key, '.'); i >= 0 {
			section, key = s.key[:i], s.key[i+1:]
		}
		switch {
		case slices.Contains(requiredKeys[section], key):
			assert.Equal(t, "required", s.byDefault, s.key)
		case s.byDefault == "":
			assert.True(t, value.IsZero(), "%s has the default %v", s.key, value)
			assert.Contains(t, []string{"string", "component id", "mapping"}, s.typeName, "%s: state the default", s.key)
		case !isCode:
			derived = append(derived, s.key)
		case strings.Contains(s.key, "[]."):
			assert.Equal(t, "[]`", stated, s.key)
		default:
			assertDefault(t, s.key, strings.TrimSuffix(stated, "`"))
		}
	}
	assert.ElementsMatch(t, derivedDefaults, derived, "in words")
}

func assertDefault(t *testing.T, key, text string) {
	t.Helper()
	c := createDefaultConfig()
	value, err := confmap.NewRetrievedFromYAML([]byte(text))
	require.NoError(t, err, key)
	raw, err := value.AsRaw()
	require.NoError(t, err, key)
	require.NoError(t, confmap.NewFromStringMap(nested(key, raw)).Unmarshal(c), key)
	assert.Equal(t, printed(t, createDefaultConfig()), printed(t, c), "the default of %s is another", key)
}

// printed returns a configuration as text, in which an empty list and none are the same.
func printed(t *testing.T, config any) string {
	t.Helper()
	conf := confmap.New()
	require.NoError(t, conf.Marshal(config))
	return fmt.Sprint(conf.ToStringMap())
}

func TestConfigurationPage_NamesEveryAllowedValue(t *testing.T) {
	t.Parallel()
	schema := generateSchema(docComments{})
	for _, s := range documentedSettings(t) {
		of := schema.at(s.key)
		require.NotNil(t, of, s.key)
		if of.Items != nil {
			of = of.Items
		}
		for _, alternative := range of.AnyOf {
			for _, value := range alternative.Enum {
				if value != "" {
					assert.Contains(t, s.byDefault+" "+s.meaning, fmt.Sprint(value), s.key)
				}
			}
		}
	}
}

// completeSettings returns the block of the page that has every key, and the same with what is commented out.
func completeSettings(t *testing.T) (as, uncommented map[string]any) {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, configurationPage), "\n## Every key\n")
	require.True(t, found)
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, _ = strings.Cut(text, "\n```")
	receiver := func(text string) map[string]any {
		settings, ok := receiversOf(readYAML(t, text))["m365_copilot"].(map[string]any)
		require.True(t, ok)
		return settings
	}
	return receiver(text), receiver(regexp.MustCompile(`(?m)^( *)# `).ReplaceAllString(text, "$1"))
}

// TestConfigurationPage_CompleteBlockHasDefaults: only what has no default differs from it.
func TestConfigurationPage_CompleteBlockHasDefaults(t *testing.T) {
	t.Parallel()
	settings, _ := completeSettings(t)
	c := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(settings).Unmarshal(c))
	require.NoError(t, confmap.Validate(c))
	auth := map[string]any{"client_id": c.Auth.ClientID, "client_secret": string(c.Auth.ClientSecret)}
	want := map[string]any{
		"tenant_id": c.TenantID, "auth": auth, "storage": "file_storage",
		"subscription": map[string]any{"notification_url": c.Subscription.NotificationURL},
	}
	assert.Equal(t, want, withoutEmptyLists(writtenConfig(c)))
}

// withoutEmptyLists removes lists that are empty, which have the same effect as none, and sections of nothing else.
func withoutEmptyLists(section map[string]any) map[string]any {
	for key, value := range section {
		if inner, ok := value.(map[string]any); ok {
			section[key] = withoutEmptyLists(inner)
		}
		if reflect.ValueOf(section[key]).Kind() != reflect.String && reflect.ValueOf(section[key]).Len() == 0 {
			delete(section, key)
		}
	}
	return section
}

func TestConfigurationPage_CompleteBlockHasEveryKey(t *testing.T) {
	t.Parallel()
	_, settings := completeSettings(t)
	require.NoError(t, unmarshal(settings))
	for _, key := range ownKeys() {
		var value any = settings
		for part := range strings.SplitSeq(strings.ReplaceAll(key, "[]", ""), ".") {
			if list, ok := value.([]any); ok {
				require.NotEmpty(t, list, key)
				value = list[0]
			}
			section, ok := value.(map[string]any)
			require.True(t, ok, key)
			assert.Contains(t, section, part, key)
			value = section[part]
		}
	}
}

// TestConfigurationPage_EditorSchemaIsOfReceivers compiles the schema that the page gives for the configuration of a collector.
func TestConfigurationPage_EditorSchemaIsOfReceivers(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?s)```yaml\n(\\$schema: .*?)\n```").FindStringSubmatch(readFile(t, configurationPage))
	require.NotNil(t, block)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource(schemaFile, readYAML(t, readFile(t, schemaFile))))
	require.NoError(t, compiler.AddResource("collector.schema.yaml", readYAML(t, block[1])))
	schema, err := compiler.Compile("collector.schema.yaml")
	require.NoError(t, err)
	for _, example := range []string{"examples/durable.yaml", "examples/people.yaml"} {
		require.NoError(t, schema.Validate(readYAML(t, readFile(t, example))), example)
	}
	for receiver, wrong := range map[string]bool{
		"m365_copilot": true, "m365_copilot/emea": true, "m365_copilots": false, "otlp": false,
	} {
		err := schema.Validate(readYAML(t, "receivers: {"+receiver+": {tenant: x}}"))
		assert.Equal(t, wrong, err != nil, receiver)
	}
}
