// Package lenientjson walks JSON whose members may have other types than documented.
//
// The data must be valid JSON, see [json.Valid]. The functions neither copy nor collect anything, so that a large object
// takes no memory for members that the caller ignores, nor a list for elements that it does not keep.
package lenientjson

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// whitespace may surround the tokens of JSON: https://www.rfc-editor.org/rfc/rfc8259#section-2
const whitespace = " \t\r\n"

// EachMember calls read for each member of an object, in order. It returns false if data is not an object.
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

// EachElement calls read for each element of an array, in order, until read returns false. It does nothing if data is not
// an array.
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

// Kind returns the first character of a JSON value, which determines its type: { [ " t f n, a digit or a minus sign.
// It returns 0 if there is no value.
func Kind(data []byte) byte {
	data = bytes.TrimLeft(data, whitespace)
	if len(data) == 0 {
		return 0
	}
	return data[0]
}

// firstValue returns the value at the start of data, which has no leading space. It is empty at the end of an object or
// array.
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

// stringEnd returns the length of the rest of a string after its opening quote, including the closing quote.
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

// String returns the value of a string, or the decimal digits of a number, because ids are sometimes encoded as numbers.
// Anything else is empty. The value has no surrounding space, as EachMember and EachElement pass it.
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

// decimal converts a whole number from scientific notation, which some encoders use for epoch milliseconds.
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
