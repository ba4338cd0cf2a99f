// Package lenientjson walks JSON that is known to be valid, and reads values whose types are not what they should be.
package lenientjson

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The functions of this file find their way through JSON that is known to be valid. They copy and collect nothing, so
// that a large object costs no memory for members that nobody asks for, nor a list for more than is kept of it.

// whitespace is what may stand between the tokens of JSON: https://www.rfc-editor.org/rfc/rfc8259#section-2
const whitespace = " \t\r\n"

// EachMember gives the members of an object to read, in their order. It is false for what is no object.
func EachMember(data []byte, read func(name string, value json.RawMessage)) bool {
	if Kind(data) != '{' {
		return false
	}
	rest := bytes.TrimLeft(data, whitespace)[1:]
	for {
		rest = bytes.TrimLeft(rest, whitespace+",")
		if Kind(rest) != '"' {
			return true
		}
		name := firstValue(rest)
		rest = bytes.TrimLeft(rest[len(name):], whitespace+":")
		value := firstValue(rest)
		rest = rest[len(value):]
		read(String(name), value)
	}
}

// EachElement gives the elements of an array to read, in their order, until it returns false. What is no array has none.
func EachElement(data []byte, read func(json.RawMessage) bool) {
	if Kind(data) != '[' {
		return
	}
	rest := bytes.TrimLeft(data, whitespace)[1:]
	for {
		rest = bytes.TrimLeft(rest, whitespace+",")
		value := firstValue(rest)
		if len(value) == 0 || !read(value) {
			return
		}
		rest = rest[len(value):]
	}
}

// Kind is the first character of a JSON value: { [ " t f n, a digit or a minus sign; 0 when there is none.
func Kind(data []byte) byte {
	data = bytes.TrimLeft(data, whitespace)
	if len(data) == 0 {
		return 0
	}
	return data[0]
}

// firstValue is the value that data starts with, without space before it. It is empty at the end of an object or array.
func firstValue(data []byte) json.RawMessage {
	depth := 0
	for n := 0; n < len(data); n++ {
		switch data[n] {
		case '"':
			n += stringEnd(data[n+1:])
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return data[:n]
			}
			depth--
		case ' ', '\t', '\r', '\n', ',', ':':
			if depth == 0 {
				return data[:n]
			}
			continue
		default:
			continue // in a number, true, false or null
		}
		if depth == 0 {
			return data[:n+1]
		}
	}
	return data
}

// stringEnd is how far the string's closing quote is away, from behind its opening one.
func stringEnd(data []byte) int {
	for n := 0; n < len(data); n++ {
		switch data[n] {
		case '\\':
			n++
		case '"':
			return n + 1
		}
	}
	return len(data)
}

// String reads a string of valid JSON, or a number as its decimal digits, since ids are numbers in all but type.
// Everything else is empty.
func String(value json.RawMessage) string {
	switch c := Kind(value); {
	case c == '"':
		if plain := value[1 : len(value)-1]; !bytes.ContainsRune(plain, '\\') && utf8.Valid(plain) {
			return string(plain)
		}
		var s string
		_ = json.Unmarshal(value, &s) // cannot fail on a valid string
		return s
	case c == '-' || c >= '0' && c <= '9':
		return decimal(string(value))
	default:
		return ""
	}
}

// decimal writes out a whole number in scientific notation, as some encoders write epoch milliseconds.
func decimal(number string) string {
	if !strings.ContainsAny(number, ".eE") {
		return number
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return number
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}
