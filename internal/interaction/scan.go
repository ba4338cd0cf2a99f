package interaction

import (
	"bytes"
	"encoding/json"
)

// The functions of this file find their way through JSON that is known to be valid. They copy and collect nothing, so
// that a large object costs no memory for members that nobody asks for, nor a list for more than is kept of it.

// space is what may stand between the tokens of JSON: https://www.rfc-editor.org/rfc/rfc8259#section-2
const space = " \t\r\n"

// maxListed is how many members of a list are kept. Copilot sends a few dozen at most; the bound keeps a list of
// millions of empty objects from taking many times the memory of its JSON.
const maxListed = 10_000

// eachMember gives the members of an object to read, in their order. It is false for what is no object.
func eachMember(data []byte, read func(name string, value json.RawMessage)) bool {
	if kind(data) != '{' {
		return false
	}
	rest := bytes.TrimLeft(data, space)[1:]
	for {
		rest = bytes.TrimLeft(rest, space+",")
		if kind(rest) != '"' {
			return true
		}
		name := first(rest)
		rest = bytes.TrimLeft(rest[len(name):], space+":")
		value := first(rest)
		rest = rest[len(value):]
		read(text(name), value)
	}
}

// eachElement gives the elements of an array to read, in their order, until it returns false. What is no array has none.
func eachElement(data []byte, read func(json.RawMessage) bool) {
	if kind(data) != '[' {
		return
	}
	rest := bytes.TrimLeft(data, space)[1:]
	for {
		rest = bytes.TrimLeft(rest, space+",")
		value := first(rest)
		if len(value) == 0 || !read(value) {
			return
		}
		rest = rest[len(value):]
	}
}

// list reads an array of objects. What is no object in it is passed over.
func list[T any](data json.RawMessage, reader func(*T) func(string, json.RawMessage)) []T {
	var all []T
	eachElement(data, func(value json.RawMessage) bool {
		var one T
		if eachMember(value, reader(&one)) {
			all = append(all, one)
		}
		return len(all) < maxListed
	})
	return all
}

// kind is the first character of a JSON value: { [ " t f n, a digit or a minus sign; 0 when there is none.
func kind(data []byte) byte {
	data = bytes.TrimLeft(data, space)
	if len(data) == 0 {
		return 0
	}
	return data[0]
}

// first is the value that data starts with, without space before it. It is empty at the end of an object or array.
func first(data []byte) json.RawMessage {
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
