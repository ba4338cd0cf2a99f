// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"
)

// Unmarshal decodes the configuration as the Collector does by default, and adds to each of its errors what to write instead.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if err := conf.Unmarshal(c); err != nil {
		// The Collector prefixes the first line, so the problems begin on the second.
		return fmt.Errorf("these settings can't be read:\n%w", errors.Join(withHints(err)...))
	}
	return nil
}

// withHints returns the errors of the single settings in an error of confmap, each with its path and a hint.
func withHints(err error) []error {
	switch e := err.(type) { //nolint:errorlint // the wrapped errors follow
	case interface{ Name() string }: // as mapstructure names a setting
		path := e.Name() + ": "
		if e.Name() == reflect.TypeFor[Config]().String() {
			path = "" // of a key that is unknown at the top
		}
		return []error{fmt.Errorf("%s%w%s", path, errors.Unwrap(err), hint(typeAt(e.Name())))}
	case interface{ Unwrap() []error }:
		var all []error
		for _, wrapped := range e.Unwrap() {
			all = append(all, withHints(wrapped)...)
		}
		return all
	case interface{ Unwrap() error }:
		return withHints(e.Unwrap())
	default:
		return []error{err}
	}
}

const exampleTime = "a time such as 2026-11-01T00:00:00Z"

// hint returns what to write for a type, and nothing where the error of confmap says it.
func hint(t reflect.Type) string {
	switch keys := keysOf(t); {
	case enumerations[t] != nil:
		return ": write one of " + strings.Join(enumerations[t], ", ")
	case t == reflect.TypeFor[time.Duration]():
		return ": write a duration such as 30s"
	case t == reflect.TypeFor[time.Time]():
		return ": write " + exampleTime
	case len(keys) > 0:
		return ": write a mapping with keys of these: " + strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
	default:
		return ""
	}
}

// typeAt returns the type of the setting at a path such as encryption.certificates[0].id. For the path of a whole configuration,
// the name of its type, it returns that type.
func typeAt(path string) reflect.Type {
	t := reflect.TypeFor[Config]()
	for _, key := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		} else if inner, known := keysOf(t)[key]; known {
			t = inner
		}
	}
	return t
}

// keysOf returns the keys of a section with the types of their values, and none for the type of another setting.
func keysOf(section reflect.Type) map[string]reflect.Type {
	if section.Kind() != reflect.Struct {
		return nil
	}
	keys := map[string]reflect.Type{}
	for field := range section.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get(confmap.MapstructureTag), ",")
		value := field.Type
		if value.Kind() == reflect.Pointer {
			value = value.Elem()
		} else if get, ok := reflect.PointerTo(value).MethodByName("GetOrInsertDefault"); ok { // of a configoptional.Optional
			value = get.Type.Out(0).Elem()
		}
		if options == "squash" {
			maps.Copy(keys, keysOf(value))
		} else if name != "" && name != "-" {
			keys[name] = value
		}
	}
	return keys
}
