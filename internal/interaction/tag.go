package interaction

import (
	"html"
	"strings"
	"unicode"
)

// splitTags gives the text between the attachment tags of s to text, and the ids of the opening ones to tag, in their
// order. The tags come plain and HTML-escaped, with and without an id:
// https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
//
// What is left of a tag that was cut off counts as one, since it can hold the id of a meeting.
// The time is linear in the length of s: a tag that fails to be one ends at the next < outside quotes.
func splitTags(s string, text, tag func(string)) {
	start := 0
	for at := 0; ; {
		next := strings.IndexAny(s[at:], "<&")
		if next < 0 {
			break
		}
		at += next
		t := scanTag(s[at:])
		if t.length == 0 {
			at++
			continue
		}
		text(s[start:at])
		if !t.closing {
			tag(t.id)
		}
		at += t.length
		start = at
	}
	text(s[start:])
}

// withoutTags is s without attachment tags.
func withoutTags(s string) string {
	var p page
	splitTags(s, p.inline, func(string) {})
	return p.b.String()
}

type attachmentTag struct {
	length  int // 0: no attachment tag at all
	id      string
	closing bool
}

// scanTag reads the attachment tag that s starts with.
func scanTag(s string) attachmentTag {
	const name = "attachment"
	n := prefix(s, "<", "&lt;", "&amp;lt;")
	if n == 0 {
		return attachmentTag{}
	}
	var t attachmentTag
	if strings.HasPrefix(s[n:], "/") {
		t.closing = true
		n++
	}
	if len(s) < n+len(name) || !strings.EqualFold(s[n:n+len(name)], name) {
		return attachmentTag{}
	}
	n += len(name)
	if n < len(s) && !isSpace(s[n]) && s[n] != '/' && tagEnd(s[n:]) == 0 {
		return attachmentTag{} // another word: attachments
	}
	t.length = n // if it turns out to be cut off, the word and the attributes with a value go
	for n < len(s) {
		switch end := tagEnd(s[n:]); {
		case end > 0:
			t.length = n + end
			return t
		case s[n] == '<':
			return t
		case isSpace(s[n]) || s[n] == '/':
			n++
		default:
			a := scanAttribute(s[n:])
			if strings.EqualFold(a.name, "id") {
				t.id = strings.TrimSpace(html.UnescapeString(a.value))
			}
			n += a.length
			if a.hasValue {
				t.length = n
			}
		}
	}
	return t
}

type tagAttribute struct {
	length      int
	name, value string
	hasValue    bool
}

// scanAttribute reads the attribute that s starts with, which is never empty.
func scanAttribute(s string) tagAttribute {
	n := 1
	for n < len(s) && !isSpace(s[n]) && s[n] != '=' && s[n] != '/' && s[n] != '<' && tagEnd(s[n:]) == 0 {
		n++
	}
	a := tagAttribute{length: n, name: s[:n]}
	n += len(s[n:]) - len(strings.TrimLeftFunc(s[n:], unicode.IsSpace))
	if n == len(s) || s[n] != '=' {
		return a
	}
	n++
	n += len(s[n:]) - len(strings.TrimLeftFunc(s[n:], unicode.IsSpace))
	a.hasValue = true
	if quote := s[n : n+prefix(s[n:], `"`, `'`, "&quot;", "&#34;", "&#39;", "&apos;")]; quote != "" {
		value := s[n+len(quote):]
		if end := strings.Index(value, quote); end >= 0 {
			a.value = value[:end]
			a.length = n + len(quote) + end + len(quote)
			return a
		}
	}
	end := n
	for end < len(s) && !isSpace(s[end]) && s[end] != '<' && tagEnd(s[end:]) == 0 {
		end++
	}
	a.value = s[n:end]
	a.length = end
	return a
}

// tagEnd is the length of the end of a tag that s starts with, or 0.
func tagEnd(s string) int {
	return prefix(s, ">", "&gt;", "&amp;gt;")
}

// prefix is the length of the first of these that s starts with, whatever its case, or 0.
func prefix(s string, these ...string) int {
	for _, this := range these {
		if len(s) >= len(this) && strings.EqualFold(s[:len(this)], this) {
			return len(this)
		}
	}
	return 0
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'
}
