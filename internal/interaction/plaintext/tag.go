package plaintext

import (
	"html"
	"strings"
)

// tagSpace is what may stand between the parts of a tag.
const tagSpace = " \t\r\n\f"

// splitTags gives the text between the attachment tags of s to text, and the ids of the opening ones to tag, in their
// order. Graph writes them as <attachment id="..."></attachment>, plain and HTML-escaped, and with an empty id:
// https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
//
// <Attachment>, an <attachment> without an id, and an end tag without such a start were written by a person and stay.
// What is left of a tag that was cut off counts as one, since it can hold the id of a meeting.
//
// The time is linear in the length of s: whether < begins a tag is known at its first attribute, and what was read of
// a tag from there on either goes with the tag or holds no other one.
func splitTags(s string, text, tag func(string)) {
	start, open := 0, 0
	for at := 0; ; {
		next := strings.IndexAny(s[at:], "<&")
		if next < 0 {
			break
		}
		at += next
		t := scanTag(s[at:])
		if t.length == 0 || t.closing && open == 0 {
			at++
			continue
		}
		text(s[start:at])
		switch {
		case t.closing:
			open--
		case !t.selfClosing:
			open++
			fallthrough
		default:
			tag(t.id)
		}
		at += t.length
		start = at
	}
	text(s[start:])
}

// withoutTags is s without attachment tags.
func withoutTags(s string) string {
	var b textBuilder
	splitTags(s, b.inline, func(string) {})
	return b.buf.String()
}

type attachmentTag struct {
	length  int // 0: no attachment tag of Graph's
	id      string
	closing bool // an end tag
	selfClosing  bool // in itself: it has no end tag
}

// scanTag reads the attachment tag that s starts with.
func scanTag(s string) attachmentTag {
	n := tagStartLen(s)
	if n == 0 {
		return attachmentTag{}
	}
	name, closing := strings.CutPrefix(s[n:], "/")
	rest, ok := strings.CutPrefix(name, "attachment")
	if !ok {
		return attachmentTag{}
	}
	attribute := strings.TrimLeft(rest, tagSpace)
	value, isID := strings.CutPrefix(attribute, "id")
	switch end := tagEndLen(attribute); {
	case closing && (end > 0 || attribute == ""):
		return attachmentTag{length: len(s) - len(attribute) + end, closing: true}
	case closing:
		return attachmentTag{}
	case isTruncated(attribute):
		return attachmentTag{length: len(s) - len(rest), selfClosing: true}
	case !isID || len(attribute) == len(rest):
		return attachmentTag{} // a person's, or another word: attachments
	case isTruncated(value):
		return attachmentTag{length: len(s) - len(value), selfClosing: true}
	}
	value, ok = strings.CutPrefix(strings.TrimLeft(value, tagSpace), "=")
	if !ok {
		return attachmentTag{}
	}
	id, rest := scanValue(strings.TrimLeft(value, tagSpace))
	t := attachmentTag{id: strings.TrimSpace(html.UnescapeString(id)), length: len(s) - len(rest), selfClosing: true}
	// The rest of the tag, unless that was cut off.
	for at := 0; at < len(rest) && tagStartLen(rest[at:]) == 0; at++ {
		if end := tagEndLen(rest[at:]); end > 0 {
			t.length += at + end
			t.selfClosing = strings.HasSuffix(rest[:at], "/")
			break
		}
	}
	return t
}

// isTruncated tells whether nothing more of a tag comes.
func isTruncated(rest string) bool {
	rest = strings.TrimLeft(rest, tagSpace)
	return rest == "" || tagStartLen(rest) > 0
}

// scanValue parts the value of an attribute from what follows it.
func scanValue(s string) (value, rest string) {
	if quote := s[:prefixLenFold(s, `"`, `'`, "&quot;", "&amp;quot;", "&#34;", "&#39;", "&apos;")]; quote != "" {
		if value, rest, ok := strings.Cut(s[len(quote):], quote); ok {
			return value, rest
		}
	}
	end := 0
	for end < len(s) && !strings.ContainsRune(tagSpace, rune(s[end])) && tagStartLen(s[end:]) == 0 && tagEndLen(s[end:]) == 0 {
		end++
	}
	return s[:end], s[end:]
}

// tagStartLen is the length of the start of a tag that s starts with, or 0.
func tagStartLen(s string) int {
	return prefixLenFold(s, "<", "&lt;", "&amp;lt;")
}

// tagEndLen is the length of the end of a tag that s starts with, or 0.
func tagEndLen(s string) int {
	return prefixLenFold(s, ">", "&gt;", "&amp;gt;")
}

// prefixLenFold is the length of the first of these that s starts with, whatever its case, or 0.
func prefixLenFold(s string, prefixes ...string) int {
	for _, candidate := range prefixes {
		if len(s) >= len(candidate) && strings.EqualFold(s[:len(candidate)], candidate) {
			return len(candidate)
		}
	}
	return 0
}
