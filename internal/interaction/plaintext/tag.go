package plaintext

import (
	"html"
	"strings"
)

// tagSpace may separate the parts of a tag.
const tagSpace = " \t\r\n\f"

// splitTags calls text for the text between the attachment tags of s, and tag with the id of each opening tag, in order.
// Graph writes them as <attachment id="..."></attachment>, plain or HTML-escaped, sometimes with an empty id:
// https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
//
// <Attachment>, an <attachment> without an id, and an end tag without a matching start tag were written by a user and are
// text. A truncated tag counts as a tag, because it can contain the id of a meeting.
//
// The time is linear in the length of s: the first attribute decides whether < starts a tag, and the text that is scanned
// after it is either part of that tag or contains no other.
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

// withoutTags removes the attachment tags from s.
func withoutTags(s string) string {
	var b textBuilder
	splitTags(s, b.inline, func(string) {})
	return b.buf.String()
}

type attachmentTag struct {
	length      int // 0 if it is not an attachment tag that Graph wrote
	id          string
	closing     bool // it is an end tag
	selfClosing bool // it has no end tag
}

// scanTag reads the attachment tag at the start of s.
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
		return attachmentTag{} // a user wrote it, or it is another word: attachments
	case isTruncated(value):
		return attachmentTag{length: len(s) - len(value), selfClosing: true}
	}
	value, ok = strings.CutPrefix(strings.TrimLeft(value, tagSpace), "=")
	if !ok {
		return attachmentTag{}
	}
	id, rest := scanValue(strings.TrimLeft(value, tagSpace))
	t := attachmentTag{id: strings.TrimSpace(html.UnescapeString(id)), length: len(s) - len(rest), selfClosing: true}
	// The rest of the tag, unless it is truncated.
	for at := 0; at < len(rest) && tagStartLen(rest[at:]) == 0; at++ {
		if end := tagEndLen(rest[at:]); end > 0 {
			t.length += at + end
			t.selfClosing = strings.HasSuffix(rest[:at], "/")
			break
		}
	}
	return t
}

// isTruncated reports whether a tag ends here without its closing bracket.
func isTruncated(rest string) bool {
	rest = strings.TrimLeft(rest, tagSpace)
	return rest == "" || tagStartLen(rest) > 0
}

// scanValue splits s after the value of an attribute.
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

// tagStartLen returns the length of the opening bracket of a tag at the start of s, plain or escaped, or 0.
func tagStartLen(s string) int {
	return prefixLenFold(s, "<", "&lt;", "&amp;lt;")
}

// tagEndLen returns the length of the closing bracket of a tag at the start of s, plain or escaped, or 0.
func tagEndLen(s string) int {
	return prefixLenFold(s, ">", "&gt;", "&amp;gt;")
}

// prefixLenFold returns the length of the first of the prefixes that s has, ignoring case, or 0.
func prefixLenFold(s string, prefixes ...string) int {
	for _, candidate := range prefixes {
		if len(s) >= len(candidate) && strings.EqualFold(s[:len(candidate)], candidate) {
			return len(candidate)
		}
	}
	return 0
}
