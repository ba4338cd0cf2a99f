// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
)

// settingField is the field of a key, in the struct that declares it.
type settingField struct {
	key   string
	in    reflect.Type
	field reflect.StructField
	index []int // from the section
}

// settingFields returns the fields of a section with their keys, in order, those of squashed structs included.
func settingFields(section reflect.Type) (fields []settingField) {
	for field := range section.Fields() {
		key, options, _ := strings.Cut(field.Tag.Get(confmap.MapstructureTag), ",")
		switch {
		case slices.Contains(strings.Split(options, ","), "squash"):
			for _, inner := range settingFields(field.Type) {
				inner.index = slices.Concat(field.Index, inner.index)
				fields = append(fields, inner)
			}
		case key != "" && key != "-":
			fields = append(fields, settingField{key: key, in: section, field: field, index: field.Index})
		}
	}
	return fields
}

// tagPaths lists the keys of a section, those of the Collector's included, without those of list elements.
func tagPaths(section reflect.Type, path string) (paths []string) {
	for _, setting := range settingFields(section) {
		at, inner := strings.TrimPrefix(path+"."+setting.key, "."), deref(setting.field.Type)
		paths = append(paths, at)
		if isSection(inner) {
			paths = append(paths, tagPaths(inner, at)...)
		}
	}
	return paths
}

// ownKeys returns the keys that this package declares, those of lists as in history.replay[].from. A section that only groups keys
// is none itself, and neither are the Collector's keys.
func ownKeys() []string { return ownKeysOf(reflect.TypeFor[Config](), "") }

func ownKeysOf(section reflect.Type, path string) (keys []string) {
	for _, setting := range settingFields(section) {
		t, at := setting.field.Type, strings.TrimPrefix(path+"."+setting.key, ".")
		inner := deref(t)
		own := inner.PkgPath() == reflect.TypeFor[Config]().PkgPath()
		switch {
		case setting.in.PkgPath() != section.PkgPath(): // squashed
		case isSection(t) && !isOptional(t):
			if own {
				keys = append(keys, ownKeysOf(t, at)...)
			}
		case isOptional(t):
			keys = append(append(keys, at), ownKeysOf(inner, at)...)
		case t.Kind() == reflect.Slice && isSection(t.Elem()):
			keys = append(append(keys, at), ownKeysOf(t.Elem(), at+"[]")...)
		default:
			keys = append(keys, at)
		}
	}
	return keys
}

// deref returns what a pointer, or an optional of the Collector, holds.
func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	if isOptional(t) {
		get, _ := reflect.PointerTo(t).MethodByName("Get")
		return get.Type.Out(0).Elem()
	}
	return t
}

// isSection reports whether a value of a type is written as a mapping.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]() && t != reflect.TypeFor[component.ID]()
}

func isOptional(t reflect.Type) bool {
	return strings.HasSuffix(t.PkgPath(), "/configoptional") && strings.HasPrefix(t.Name(), "Optional[")
}
