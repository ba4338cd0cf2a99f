// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"reflect"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configopaque"
)

// schemaGenerator makes the JSON Schema of the configuration of its Go types and their doc comments. It is test code, since the
// rules of validate.go that the schema states are not exported, and no collector needs it.
type schemaGenerator struct {
	comments docComments
	ranges   map[string]durationRule
}

const (
	durationUnit = `(ns|us|µs|μs|ms|s|m|h)`
	// durationForm is what time.ParseDuration reads, without a sign.
	durationForm = `^(([0-9]+(\.[0-9]*)?|\.[0-9]+)` + durationUnit + `)+$`
	// positiveDurationForm is the same with a digit above 0 in it.
	positiveDurationForm = `^([0.]+` + durationUnit + `)*[0.]*[1-9][0-9.]*` + durationUnit + `([0-9.]+` + durationUnit + `)*$`
	timeForm             = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`
	componentIDForm      = `^\s*[a-zA-Z][0-9a-zA-Z_]{0,62}\s*(/.+)?$`
)

// generateSchema returns the schema of what is under m365_copilot in the configuration of a collector.
func generateSchema(comments docComments) *jsonSchema {
	config := createDefaultConfig().(*Config)
	g := schemaGenerator{comments: comments, ranges: map[string]durationRule{}}
	for _, rule := range config.durationRules() {
		g.ranges[rule.path] = rule
	}
	s := g.section(reflect.TypeFor[Config](), reflect.ValueOf(config).Elem(), "")
	s.Dialect = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "m365_copilot"
	s.Description = "The settings of the m365_copilot receiver. Generated from config.go by make generate."
	s.Type, s.Pattern, s.PatternErrorMessage = []string{"object"}, "", ""
	s.AllOf = relations()
	for path, rule := range schemaRules() {
		rule(s.at(path))
	}
	return s
}

// section describes a mapping. An empty one, which is null, has the defaults, unless a key is required.
func (g *schemaGenerator) section(t reflect.Type, byDefault reflect.Value, path string) *jsonSchema {
	s := &jsonSchema{
		Type: []string{"object"}, Properties: map[string]*jsonSchema{}, AdditionalProperties: false, Required: requiredKeys[path],
	}
	if len(s.Required) == 0 {
		s.Type = append(s.Type, "null")
	}
	for _, setting := range settingFields(t) {
		var value reflect.Value
		if byDefault.IsValid() {
			value = byDefault.FieldByIndex(setting.index)
		}
		key := g.of(setting.field.Type, value, strings.TrimPrefix(path+"."+setting.key, "."))
		key.Description = g.comments.ofField(setting.in, setting.field, setting.key)
		s.Properties[setting.key] = key
	}
	return s.orExpansion("write a mapping")
}

// of describes the value of a key.
func (g *schemaGenerator) of(t reflect.Type, byDefault reflect.Value, path string) *jsonSchema {
	switch {
	case t.Kind() == reflect.Pointer:
		s := g.of(t.Elem(), reflect.Value{}, path)
		s.Type = append(s.Type, "null")
		return s
	case isOptional(t):
		return g.optional(t, byDefault, path)
	case t == reflect.TypeFor[configopaque.MapList]():
		return headers()
	case isSection(t):
		return g.section(t, byDefault, path)
	case t.Kind() == reflect.Slice:
		s := &jsonSchema{Type: []string{"array"}, Items: g.of(t.Elem(), reflect.Value{}, path+"[]")}
		if t.Elem().Kind() == reflect.Struct {
			s.Items.Description = g.comments.ofElement(t.Elem())
		}
		s.Default = oneLine(written(byDefault))
		return s.orExpansion("write a list")
	default:
		s := g.scalar(t, path)
		s.Default = oneLine(written(byDefault))
		return s
	}
}

// optional describes a section that enabled: false turns off.
func (g *schemaGenerator) optional(t reflect.Type, byDefault reflect.Value, path string) *jsonSchema {
	var inner reflect.Value
	if value := optionalValue(byDefault); value != nil {
		inner = *value
	}
	s := g.section(deref(t), inner, path)
	s.Properties["enabled"] = boolean()
	s.Properties["enabled"].Description = "enabled: false turns this section off."
	return s
}

// scalar describes the value of a key that is neither a mapping nor a list.
func (g *schemaGenerator) scalar(t reflect.Type, path string) *jsonSchema {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return g.duration(path)
	case t == reflect.TypeFor[time.Time]():
		return matching(timeForm, "write "+exampleTime)
	case t == reflect.TypeFor[component.ID]():
		return matching(componentIDForm, "write the id of an extension, such as file_storage")
	case t == reflect.TypeFor[configcompression.Type]():
		return oneOfValues("gzip", "zlib", "deflate", "snappy", "x-snappy-framed", "zstd", "lz4", "none", "")
	case enumerations[t] != nil:
		return oneOfValues(enumerations[t]...)
	}
	switch t.Kind() {
	case reflect.Bool:
		return boolean()
	case reflect.Int, reflect.Int64:
		return (&jsonSchema{Type: []string{"integer"}}).orExpansion("write a whole number")
	case reflect.Float64:
		return (&jsonSchema{Type: []string{"number"}}).orExpansion("write a number")
	case reflect.String:
		return &jsonSchema{Type: []string{"string"}}
	default:
		panic("no schema for " + t.String())
	}
}

func boolean() *jsonSchema {
	return (&jsonSchema{Type: []string{"boolean"}}).orExpansion("write true or false")
}

// duration describes a duration. A number without a unit, which confmap reads as nanoseconds, is accepted only where it is 0.
func (g *schemaGenerator) duration(path string) *jsonSchema {
	if rule, ok := g.ranges[path]; ok && !rule.orZero {
		return matching(positiveDurationForm, "write a duration such as 30s")
	}
	s := matching(durationForm+"|^0$", "write a duration such as 30s, or 0s")
	s.Type = []string{"string", "integer"}
	s.Minimum, s.Maximum = new(int64), new(int64)
	return s
}

// headers describes names with values, as a mapping or as a list.
func headers() *jsonSchema {
	text := func() *jsonSchema { return &jsonSchema{Type: []string{"string"}} }
	s := &jsonSchema{
		Type:                 []string{"object", "array", "null"},
		AdditionalProperties: text(),
		Items: &jsonSchema{
			Type:                 []string{"object"},
			Properties:           map[string]*jsonSchema{"name": text(), "value": text()},
			AdditionalProperties: false,
		},
	}
	return s.orExpansion("write a mapping of names to values")
}
