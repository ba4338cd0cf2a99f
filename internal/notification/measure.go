package notification

import (
	"bytes"
	"fmt"
)

// Bounds of a body. Graph documents none: 20,000 items of the smallest size that Graph sends fill about 20 MiB.
const (
	maxDepth    = 64
	maxElements = 20_000
)

var (
	// ErrTooDeep is what Inspect returns for JSON nested more than 64 deep; it wraps ErrNotCollection.
	ErrTooDeep = fmt.Errorf("%w: nested more than %d deep", ErrNotCollection, maxDepth)
	// ErrTooMany is what Inspect returns for more than 20,000 items and tokens; it wraps ErrNotCollection.
	ErrTooMany = fmt.Errorf("%w: more than %d items", ErrNotCollection, maxElements)
)

// checkLimits looks at the brackets and commas of JSON that nobody has checked yet. What it says of broken JSON does not
// matter: decoding refuses that.
func checkLimits(body []byte) error {
	// The elements of value and of validationTokens are the commas at this depth.
	const insideMember = 2
	depth, commas := 0, 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i = endOfString(body, i+1)
		case '{', '[':
			if depth++; depth > maxDepth {
				return ErrTooDeep
			}
		case '}', ']':
			depth--
		case ',':
			if depth != insideMember {
				continue
			}
			if commas++; commas >= maxElements {
				return ErrTooMany
			}
		}
	}
	return nil
}

// endOfString gives the index of the quote that ends the string whose text starts at from, or the length of body.
// Most of a body is the base64 of the content, so it goes from quote to quote and not from byte to byte.
func endOfString(body []byte, from int) int {
	for at := from; ; {
		quote := bytes.IndexByte(body[at:], '"')
		if quote < 0 {
			return len(body)
		}
		end := at + quote
		text := body[at:end]
		if backslashes := len(text) - len(bytes.TrimRight(text, `\`)); backslashes%2 == 0 {
			return end
		}
		at = end + 1
	}
}
