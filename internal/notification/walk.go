package notification

import (
	"bytes"
	"encoding/json"
	"iter"
)

// The functions of this file find their way in JSON that json.Valid accepted, without decoding or copying it. Each reads
// what it is given once, so a few of them inside each other stay linear.

// values yields the text of each value directly inside an array or object. In an object, names and values take turns.
func values(container []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := 1; i < len(container)-1; {
			switch container[i] {
			case ' ', '\t', '\r', '\n', ',', ':':
				i++
			default:
				end := endOfValue(container, i)
				if !yield(container[i:end]) {
					return
				}
				i = end
			}
		}
	}
}

// members yields the name, in quotes, and the value of each member of an object; of anything else it yields nothing.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if !isObject(object) {
			return
		}
		var name []byte
		for text := range values(object) {
			if name == nil {
				name = text
				continue
			}
			if !yield(name, text) {
				return
			}
			name = nil
		}
	}
}

func isObject(value []byte) bool { return value[0] == '{' }

func isArray(value []byte) bool { return value[0] == '[' }

func isNull(value []byte) bool { return value[0] == 'n' }

// endOfValue gives the index behind the value that begins at from.
func endOfValue(text []byte, from int) int {
	depth := 0
	for i := from; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = endOfString(text, i+1)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ' ', '\t', '\r', '\n', ',', ':':
			continue
		default: // a number or a literal
			for i+1 < len(text) && !endsLiteral(text[i+1]) {
				i++
			}
		}
		if depth == 0 {
			return min(i+1, len(text))
		}
	}
	return len(text)
}

func endsLiteral(b byte) bool {
	switch b {
	case ' ', '\t', '\r', '\n', ',', ':', ']', '}':
		return true
	default:
		return false
	}
}

// names tells whether a member's name is this one for encoding/json, which does not tell upper from lower case.
func names(name []byte, want string) bool {
	plain, ok := plainString(name, len(want))
	return ok && bytes.EqualFold(plain, []byte(want))
}

// plainString gives the text of a string without quotes and escapes, and false for anything else, or one whose text is
// certainly longer than longest bytes. It copies only where there are escapes.
func plainString(value []byte, longest int) ([]byte, bool) {
	const longestEscape, quotes = len(`\u0000`), 2
	if value[0] != '"' || len(value) > longestEscape*longest+quotes {
		return nil, false
	}
	inside := value[1 : len(value)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside, true
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return nil, false
	}
	return []byte(text), true
}
