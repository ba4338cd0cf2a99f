package graph

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
)

// redact takes everything out of an error of History that may name a user or repeat a conversation, since errors are
// logged. What the error means is read before.
func redact(err error, user string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.denial = denialOf(e.Status, e.Message)
		e.Message = withoutValues(e.Message, user)
	}
	return err
}

const (
	leftOut = "…"
	// quotationMarks stand around values: "User 'b2a7c9e4-...' does not have a valid Copilot license."
	quotationMarks = "'\"`‘’‚‛“”„‟«»‹›"
)

// valuePattern finds GUIDs, names with a domain such as user principal names, and URLs.
var valuePattern = regexp.MustCompile(`(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[^\s@]+@[^\s@]+|[a-z][a-z0-9+.-]*://\S+`)

func withoutValues(message, user string) string {
	message = withoutQuoted(message)
	if user != "" {
		message = regexp.MustCompile("(?i)"+regexp.QuoteMeta(user)).ReplaceAllLiteralString(message, leftOut)
	}
	return valuePattern.ReplaceAllLiteralString(message, leftOut)
}

// withoutQuoted leaves out what stands between the first quotation mark and the last, since a value may hold marks of its
// own; where one has no counterpart, everything after the first.
func withoutQuoted(message string) string {
	runes := []rune(message)
	first, last, marks := -1, -1, 0
	for i := range runes {
		if !isQuotationMark(runes, i) {
			continue
		}
		if marks++; first < 0 {
			first = i
		}
		last = i
	}
	switch {
	case marks == 0:
		return message
	case marks%2 == 1:
		return string(runes[:first]) + leftOut
	default:
		return string(runes[:first+1]) + leftOut + string(runes[last:])
	}
}

// isQuotationMark takes a mark between two letters for an apostrophe.
func isQuotationMark(runes []rune, i int) bool {
	inWord := i > 0 && i+1 < len(runes) && unicode.IsLetter(runes[i-1]) && unicode.IsLetter(runes[i+1])
	return strings.ContainsRune(quotationMarks, runes[i]) && !inWord
}
