// SPDX-License-Identifier: Apache-2.0

package interaction

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrNotObject is returned by Parse if the data is not exactly one JSON object, nested no deeper than encoding/json
	// allows.
	ErrNotObject = errors.New("not a JSON object")
	// ErrNoID is returned by Parse if the id is absent, null, blank, or neither a string nor a number.
	ErrNoID = errors.New("no id")
)

// Parse parses an aiInteraction as Graph sends it, in a notification or in the history:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteraction
//
// In the schema nearly every member is optional, and the open sets grow without notice. A member that is missing, null,
// or of another type than documented is therefore left empty, and an unknown member is ignored. The last of duplicate
// members wins, but objects are merged. Invalid UTF-8 is replaced by U+FFFD, and only the first 10,000 elements of a list
// are kept.
//
// The error wraps ErrNotObject or ErrNoID. It never contains any of the data. With ErrNoID the interaction is returned too.
func Parse(data []byte) (*Interaction, error) {
	var document struct {
		Interaction
		// These replace the members of the same name.
		ID              text   `json:"id"`
		ETag            text   `json:"etag"`
		CreatedDateTime string `json:"createdDateTime"`
	}
	err := json.Unmarshal(data, &document)
	isObject := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
	if _, otherType := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !otherType || !isObject {
		return nil, fmt.Errorf("parse interaction: %w", ErrNotObject)
	}
	i := document.Interaction
	i.ID, i.ETag, i.CreatedDateTime = string(document.ID), string(document.ETag), timeOf(document.CreatedDateTime)
	if strings.TrimSpace(i.ID) == "" {
		i.ID = ""
		return &i, fmt.Errorf("parse interaction: %w", ErrNoID)
	}
	return &i, nil
}

// timeOf reads an RFC 3339 time with a fraction of any length and any offset. Anything else is the zero time, and so are
// years that do not fit into 64 bits of nanoseconds since 1970, in which OTLP represents times.
func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() < 1970 || t.Year() >= 2262 {
		return time.Time{}
	}
	return t.UTC()
}

// text is a string that may be encoded as a number, as ids sometimes are. Anything else is empty.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(data []byte) error {
	switch first := data[0]; {
	case first == '"':
		return json.Unmarshal(data, (*string)(t))
	case first == '-' || first >= '0' && first <= '9':
		*t = text(data)
	default:
		*t = ""
	}
	return nil
}

// maxListLength is the number of elements of a list that are kept. Copilot sends a few dozen at most. Without the limit, a
// list of millions of empty objects would take many times the memory of its JSON.
const maxListLength = 10_000

// List is a list of objects. Decoded from JSON, it has the first 10,000, without elements of another kind.
type List[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (l *List[T]) UnmarshalJSON(data []byte) error {
	*l = nil
	if data[0] != '[' {
		return nil
	}
	var elements []*T // nil for null
	if bytes.Count(data, []byte(",")) >= maxListLength || json.Unmarshal(data, &elements) != nil {
		elements = firstObjects[T](data)
	}
	for _, element := range elements {
		if element != nil {
			*l = append(*l, *element)
		}
	}
	return nil
}

// firstObjects returns at most maxListLength objects of a list, without elements of another kind. It takes several times as long
// as json.Unmarshal, which has no such limit, and returns an empty object for an element of another kind.
func firstObjects[T any](list []byte) []*T {
	var objects []*T
	decoder := json.NewDecoder(bytes.NewReader(list))
	_, _ = decoder.Token() // the opening bracket
	for decoder.More() && len(objects) < maxListLength {
		var element *T
		err := decoder.Decode(&element)
		mismatch, isMismatch := errors.AsType[*json.UnmarshalTypeError](err)
		switch {
		case err != nil && !isMismatch: // cannot happen within valid JSON
			return objects
		case !isMismatch || mismatch.Field != "":
			objects = append(objects, element)
		}
	}
	return objects
}
