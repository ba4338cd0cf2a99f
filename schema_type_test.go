// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// jsonSchema is a JSON Schema with the keywords that the one of the configuration needs, in the order in which they are written.
type jsonSchema struct {
	Dialect              string                 `yaml:"$schema,omitempty"`
	Title                string                 `yaml:"title,omitempty"`
	Description          string                 `yaml:"description,omitempty"`
	Type                 typeNames              `yaml:"type,omitempty"`
	Default              *yaml.Node             `yaml:"default,omitempty"`
	Enum                 []any                  `yaml:"enum,omitempty,flow"`
	Pattern              string                 `yaml:"pattern,omitempty"`
	PatternErrorMessage  string                 `yaml:"patternErrorMessage,omitempty"` // of the YAML language server
	MinLength            *int                   `yaml:"minLength,omitempty"`
	MaxLength            *int                   `yaml:"maxLength,omitempty"`
	Minimum              *int64                 `yaml:"minimum,omitempty"`
	Maximum              *int64                 `yaml:"maximum,omitempty"`
	ExclusiveMinimum     *int64                 `yaml:"exclusiveMinimum,omitempty"`
	MinItems             *int                   `yaml:"minItems,omitempty"`
	UniqueItems          bool                   `yaml:"uniqueItems,omitempty"`
	Items                *jsonSchema            `yaml:"items,omitempty"`
	Properties           map[string]*jsonSchema `yaml:"properties,omitempty"`
	AdditionalProperties any                    `yaml:"additionalProperties,omitempty"`
	Required             []string               `yaml:"required,omitempty,flow"`
	If                   *jsonSchema            `yaml:"if,omitempty"`
	Then                 *jsonSchema            `yaml:"then,omitempty"`
	Not                  *jsonSchema            `yaml:"not,omitempty"`
	AllOf                []*jsonSchema          `yaml:"allOf,omitempty"`
	AnyOf                []*jsonSchema          `yaml:"anyOf,omitempty"`
	OneOf                []*jsonSchema          `yaml:"oneOf,omitempty"`
}

// typeNames are the types that a value may have.
type typeNames []string

// MarshalYAML writes a single type as JSON Schemas usually do, without a list.
func (n typeNames) MarshalYAML() (any, error) {
	if len(n) == 1 {
		return n[0], nil
	}
	return oneLine([]string(n)), nil
}

// oneLine returns a value that is written without a line for each entry, nil for none.
func oneLine(value any) *yaml.Node {
	if value == nil {
		return nil
	}
	node := &yaml.Node{}
	if err := node.Encode(value); err != nil {
		panic(err)
	}
	if node.Kind == yaml.SequenceNode {
		node.Style = yaml.FlowStyle
	}
	return node
}

// expansion is part of a value that the Collector replaces, such as ${env:NAME}. What it will be is not known to a schema, so a
// string that contains one is accepted for every key.
const expansion = `\$\{`

// orExpansion accepts an expansion for a value that is no string. The message says what to write in place of another string.
func (s *jsonSchema) orExpansion(message string) *jsonSchema {
	s.Type = append(s.Type, "string")
	s.Pattern, s.PatternErrorMessage = expansion, message
	return s
}

// matching accepts the strings that match a regular expression, and expansions. Only what both Go and JavaScript know may be used
// in it. The message says what to write in place of another string.
func matching(expression, message string) *jsonSchema {
	return &jsonSchema{Type: []string{"string"}, Pattern: expression + "|" + expansion, PatternErrorMessage: message}
}

// oneOfValues has the values apart from the expansion, so that an editor offers them.
func oneOfValues(values ...string) *jsonSchema {
	s := &jsonSchema{AnyOf: []*jsonSchema{{}, {Type: []string{"string"}, Pattern: expansion}}}
	for _, value := range values {
		s.AnyOf[0].Enum = append(s.AnyOf[0].Enum, value)
	}
	return s
}

// has accepts an object that has the key at a path such as auth.client_id, with a value that a schema accepts.
func has(path string, value *jsonSchema) *jsonSchema {
	for _, key := range slices.Backward(strings.Split(path, ".")) {
		value = &jsonSchema{Type: []string{"object"}, Properties: map[string]*jsonSchema{key: value}, Required: []string{key}}
	}
	return value
}

// where applies a schema to the value of the key at a path, if there is one.
func where(path string, value *jsonSchema) *jsonSchema {
	for _, key := range slices.Backward(strings.Split(path, ".")) {
		value = &jsonSchema{Properties: map[string]*jsonSchema{key: value}}
	}
	return value
}

func not(s *jsonSchema) *jsonSchema        { return &jsonSchema{Not: s} }
func anyOf(all ...*jsonSchema) *jsonSchema { return &jsonSchema{AnyOf: all} }

// at returns the schema of the key at a path such as encryption.certificates[].id.
func (s *jsonSchema) at(path string) *jsonSchema {
	for _, key := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		key, list := strings.CutSuffix(key, "[]")
		s = s.Properties[key]
		if s == nil {
			return nil
		}
		if list {
			s = s.Items
		}
	}
	return s
}

// keys returns the paths of all keys of a schema, in order.
func (s *jsonSchema) keys(path string) (paths []string) {
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		inner, at := s.Properties[key], strings.TrimPrefix(path+"."+key, ".")
		paths = append(append(paths, at), inner.keys(at)...)
		if inner.Items != nil {
			paths = append(paths, inner.Items.keys(at+"[]")...)
		}
	}
	return paths
}
