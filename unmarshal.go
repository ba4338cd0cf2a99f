package m365copilotreceiver

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
)

// enumerations lists the allowed values of each enumeration type.
var enumerations = map[reflect.Type][]string{
	reflect.TypeFor[Cloud]():                   toStrings(CloudGlobal, CloudUSGov, CloudUSGovDoD, CloudChina),
	reflect.TypeFor[AuthStyle]():               toStrings(AuthStyleHeader, AuthStyleBody),
	reflect.TypeFor[Capture]():                 toStrings(CaptureNone, CaptureText),
	reflect.TypeFor[confignet.TransportType](): toStrings(transports...),
	reflect.TypeFor[configcompression.Type](): append(toStrings(configcompression.TypeGzip, configcompression.TypeZlib, configcompression.TypeDeflate,
		configcompression.TypeSnappy, configcompression.TypeSnappyFramed, configcompression.TypeZstd, configcompression.TypeLz4), "none"),
}

func toStrings[T ~string](values ...T) []string {
	all := make([]string, len(values))
	for i, value := range values {
		all[i] = string(value)
	}
	return all
}

var optionalPackage = reflect.TypeFor[configoptional.Optional[struct{}]]().PkgPath()

// plainConfig is Config without its Unmarshal.
type plainConfig Config

// Unmarshal decodes the configuration as the Collector would by default. It exists for its errors on unknown keys and on
// values of the wrong type: those of the Collector name neither the existing keys nor the accepted values.
// The error joins one error for each problem, with its YAML path and what to write instead. None quotes text that may be secret.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if problems := unmarshalErrors(conf, reflect.TypeFor[plainConfig](), ""); len(problems) > 0 {
		// The Collector prefixes the first line, so the problems begin on the second.
		return fmt.Errorf("these settings can't be read:\n%w", errors.Join(problems...))
	}
	return conf.Unmarshal(c)
}

// unmarshalErrors returns an error for each key of conf that the struct type does not have, and for each value that confmap
// can't decode into it.
func unmarshalErrors(conf *confmap.Conf, into reflect.Type, path string) []error {
	var problems []error
	keys, values := keysOf(into), conf.ToStringMap()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		at := joinPath(path, key)
		t, known := keys[key]
		if !known {
			problems = append(problems, fmt.Errorf("%s: there is no such key here: write %s", at, suggestKeys(key, path, keys)))
			continue
		}
		_, isMap := values[key].(map[string]any)
		list, isList := values[key].([]any)
		switch {
		case isMap && keysOf(t) != nil:
			sub, err := conf.Sub(key)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", at, err))
				continue
			}
			problems = append(problems, unmarshalErrors(sub, t, at)...)
		case decodes(onlyKey(conf, key), into):
			problems = append(problems, numberErrors(values[key], t, at)...)
		case isList && t.Kind() == reflect.Slice:
			problems = append(problems, elementErrors(list, t.Elem(), at)...)
		default:
			problems = append(problems, typeError(values[key], t, at))
		}
	}
	return problems
}

// elementErrors returns an error for each element of a list that can't be decoded into the type.
func elementErrors(list []any, into reflect.Type, path string) []error {
	var problems []error
	element := reflect.StructOf([]reflect.StructField{{Name: "Element", Type: into, Tag: `mapstructure:"element"`}})
	for i, value := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		conf := confmap.NewFromStringMap(map[string]any{"element": value})
		if members, isMap := value.(map[string]any); isMap && keysOf(into) != nil {
			problems = append(problems, unmarshalErrors(confmap.NewFromStringMap(members), into, at)...)
		} else if !decodes(conf, element) {
			problems = append(problems, typeError(value, into, at))
		}
	}
	return problems
}

func decodes(conf *confmap.Conf, into reflect.Type) bool {
	return conf.Unmarshal(reflect.New(into).Interface()) == nil
}

// onlyKey copies conf with one of its keys. The copy keeps what the Collector recorded about values from the environment.
func onlyKey(conf *confmap.Conf, key string) *confmap.Conf {
	one := confmap.New()
	// Merging into an empty configuration can't conflict.
	_ = one.Merge(conf)
	for other := range conf.ToStringMap() {
		if other != key {
			one.Delete(other)
		}
	}
	return one
}

// numberErrors reports numbers that confmap accepts but misreads: a duration without unit is read as nanoseconds, and a
// fraction is truncated.
func numberErrors(value any, t reflect.Type, path string) []error {
	number := reflect.ValueOf(value)
	switch {
	case innerType(t) == reflect.TypeFor[time.Duration]() && (number.CanInt() || number.CanFloat()) && !number.IsZero():
		return []error{fmt.Errorf("%s: write the unit too, such as 30s, not %v alone", path, value)}
	case t.Kind() != reflect.Float64 && number.CanFloat() && number.Float() != math.Trunc(number.Float()):
		return []error{fmt.Errorf("%s: write a whole number, not %v", path, value)}
	default:
		return nil
	}
}

func typeError(value any, t reflect.Type, path string) error {
	return fmt.Errorf("%s: write %s, not %s", path, describeType(t), describeValue(value, t))
}

const exampleTime = "a time such as 2026-11-01T00:00:00Z"

// describeType returns what to write for a type.
func describeType(t reflect.Type) string {
	inner := innerType(t)
	switch keys := keysOf(t); {
	case enumerations[inner] != nil:
		return "one of " + strings.Join(enumerations[inner], ", ")
	case inner == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s"
	case inner == reflect.TypeFor[time.Time]():
		return exampleTime
	case inner == reflect.TypeFor[component.ID]():
		return "the id of an extension, such as file_storage or file_storage/copilot"
	case keys != nil:
		return "a mapping with keys of these: " + strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
	case inner.Kind() == reflect.Map || implements[confmap.Unmarshaler](inner):
		return "a mapping of names to values"
	case inner.Kind() == reflect.Slice && keysOf(inner.Elem()) != nil:
		return "a list of mappings with keys of these: " + strings.Join(slices.Sorted(maps.Keys(keysOf(inner.Elem()))), ", ")
	case inner.Kind() == reflect.Slice:
		return "a list such as [a, b]"
	case inner.Kind() == reflect.Bool:
		return "true or false"
	case inner.Kind() == reflect.String:
		return "text, in quotes where YAML would read something else"
	default:
		return "a number"
	}
}

// describeValue describes a value. Text is quoted only where no secret is expected.
func describeValue(value any, t reflect.Type) string {
	switch v := value.(type) {
	case nil:
		return "nothing"
	case bool:
		return strconv.FormatBool(v)
	case string:
		if inner := innerType(t); enumerations[inner] != nil || inner == reflect.TypeFor[time.Duration]() || inner == reflect.TypeFor[time.Time]() {
			return fmt.Sprintf("%q", v)
		}
		return "this text"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	default:
		return "a number"
	}
}

// keysOf returns the keys that a mapping for the type may have, with their types; nil if the type is not decoded from a
// mapping with fixed keys.
func keysOf(t reflect.Type) map[string]reflect.Type {
	inner := innerType(t)
	if inner.Kind() != reflect.Struct || implements[encoding.TextUnmarshaler](inner) || implements[confmap.Unmarshaler](inner) {
		return nil
	}
	keys := map[string]reflect.Type{}
	if inner != t && t.Kind() == reflect.Struct { // configoptional accepts this key too
		keys["enabled"] = reflect.TypeFor[bool]()
	}
	for field := range inner.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get(confmap.MapstructureTag), ",")
		switch {
		case !field.IsExported() || name == "-":
		case strings.Contains(options, "squash"):
			maps.Copy(keys, keysOf(field.Type))
		case name == "":
			keys[strings.ToLower(field.Name)] = field.Type
		default:
			keys[name] = field.Type
		}
	}
	return keys
}

// innerType returns T for *T and for configoptional.Optional[T], which has no exported field, and the type itself for others.
func innerType(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	if get, ok := reflect.PointerTo(t).MethodByName("Get"); ok && t.PkgPath() == optionalPackage && get.Type.NumOut() == 1 {
		return get.Type.Out(0).Elem()
	}
	return t
}

func implements[I any](t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[I]())
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// suggestKeys names the keys that were probably meant by an unknown key at path: the most similar ones of the same section,
// else of the whole configuration, since a line may be indented wrongly; if none is similar, all keys of the section.
func suggestKeys(key, path string, here map[string]reflect.Type) string {
	var siblings []string
	for name := range here {
		siblings = append(siblings, joinPath(path, name))
	}
	for _, paths := range [][]string{siblings, keyPaths(reflect.TypeFor[plainConfig](), "")} {
		if matches := closestPaths(key, paths); len(matches) == 1 {
			return matches[0]
		} else if len(matches) > 0 {
			return "one of " + strings.Join(matches, ", ")
		}
	}
	return "one of " + strings.Join(slices.Sorted(maps.Keys(here)), ", ")
}

// closestPaths returns the paths whose last key is closest to key, with at most a third of its letters changed.
func closestPaths(key string, paths []string) []string {
	var matches []string
	least := max(1, len(key)/3)
	for _, path := range slices.Sorted(slices.Values(paths)) {
		last := path[strings.LastIndexByte(path, '.')+1:]
		switch d := levenshtein(normalizeKey(key), normalizeKey(last)); {
		case d < least:
			least, matches = d, []string{path}
		case d == least:
			matches = append(matches, path)
		}
	}
	return matches
}

// normalizeKey makes clientId, client-id and client_id equal.
func normalizeKey(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(key))
}

// levenshtein returns how many letters have to be inserted, deleted or replaced to turn a into b.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// keyPaths returns the paths of all keys of a type, without those inside of lists.
func keyPaths(t reflect.Type, path string) []string {
	var paths []string
	for key, inner := range keysOf(t) {
		at := joinPath(path, key)
		paths = append(append(paths, at), keyPaths(inner, at)...)
	}
	return paths
}
