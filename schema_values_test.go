// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"encoding"
	"reflect"
	"strings"
	"time"
)

// written returns a value of the configuration as a user would write it in YAML, and nil for what is not written.
func written(value reflect.Value) any {
	if !value.IsValid() {
		return nil
	}
	switch v := value.Interface().(type) {
	case time.Duration:
		return writtenDuration(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case encoding.TextMarshaler:
		if value.Kind() != reflect.String { // which would be redacted
			text, err := v.MarshalText()
			if err != nil {
				panic(err)
			}
			return string(text)
		}
	}
	switch value.Kind() {
	case reflect.String:
		if value.String() == "" {
			return nil
		}
		return value.String()
	case reflect.Bool:
		return value.Bool()
	case reflect.Int, reflect.Int64:
		return value.Int()
	case reflect.Float64:
		return value.Float()
	case reflect.Slice:
		list := []any{}
		for i := range value.Len() {
			list = append(list, writtenElement(value.Index(i)))
		}
		return list
	default:
		panic("no written form of " + value.Type().String())
	}
}

func writtenElement(element reflect.Value) any {
	if isSection(element.Type()) {
		return writtenSection(element, reflect.Zero(element.Type()))
	}
	if element.Kind() == reflect.String {
		return element.String()
	}
	return written(element)
}

// writtenDuration leaves out zero units. Some nanoseconds are what a number without a unit becomes.
func writtenDuration(d time.Duration) any {
	if d > 0 && d < time.Microsecond {
		return int64(d)
	}
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// writtenSection returns a section with what is not a default.
func writtenSection(value, byDefault reflect.Value) map[string]any {
	section := map[string]any{}
	for _, setting := range settingFields(value.Type()) {
		field, other := value.FieldByIndex(setting.index), byDefault.FieldByIndex(setting.index)
		if !reflect.DeepEqual(field.Interface(), other.Interface()) {
			section[setting.key] = writtenField(field, other)
		}
	}
	return section
}

func writtenField(value, byDefault reflect.Value) any {
	switch t := value.Type(); {
	case isOptional(t):
		inner, other := optionalValue(value), optionalValue(byDefault)
		switch {
		case inner == nil:
			return map[string]any{"enabled": false}
		case other == nil:
			return writtenSection(*inner, reflect.Zero(inner.Type()))
		default:
			return writtenSection(*inner, *other)
		}
	case value.Kind() == reflect.Pointer:
		return written(value.Elem())
	case isSection(t):
		return writtenSection(value, byDefault)
	case value.Kind() == reflect.String:
		return value.String()
	default:
		return written(value)
	}
}

// optionalValue returns the value of an optional of the Collector, nil if it has none or is none.
func optionalValue(optional reflect.Value) *reflect.Value {
	if !optional.IsValid() || !isOptional(optional.Type()) {
		return nil
	}
	copied := reflect.New(optional.Type())
	copied.Elem().Set(optional)
	value := copied.MethodByName("Get").Call(nil)[0]
	if value.IsNil() {
		return nil
	}
	value = value.Elem()
	return &value
}
