package plaintext

import "strings"

// withoutRepetition returns the texts of the blocks without blank ones, and without messages that repeat one of the other
// blocks or all of them together. The card of a chat response holds the response twice: with links, and as a message with
// citations in place of the links.
//
// A message is left out only if it is identical except for such markup: a repeated response is better than a lost word.
func withoutRepetition(blocks []block) []string {
	seen := make(map[string]bool)
	var all strings.Builder
	for _, b := range blocks {
		if !b.message {
			s := withoutMarkup(b.text, false)
			seen[s] = true
			all.WriteString(s)
		}
	}
	seen[all.String()] = true
	delete(seen, "")
	texts := make([]string, 0, len(blocks))
	for _, b := range blocks {
		s := strings.TrimSpace(b.text)
		if s == "" {
			continue
		}
		if b.message {
			same := withoutMarkup(s, false)
			if seen[same] || seen[withoutMarkup(s, true)] {
				continue
			}
			seen[same] = true
		}
		texts = append(texts, s)
	}
	return texts
}

// withoutMarkup removes from s all that may differ between a response with links and the same response as a message: space,
// brackets, link targets, and numbers in brackets that are links. In a message it also removes citations ([^1^], [2]) and
// the tags of entities (<File>plan</File>).
func withoutMarkup(s string, message bool) string {
	var ends map[string]bool
	if message {
		ends = endTags(s)
	}
	var b strings.Builder
	b.Grow(len(s))
	for at := 0; at < len(s); {
		n := 0
		switch s[at] {
		case '[':
			n = max(citation(s[at:], message), 1)
		case ']':
			n = max(linkTarget(s[at:]), 1)
		case '<':
			n = entityTag(s[at:], ends)
		case ' ', '\t', '\r', '\n':
			n = 1
		}
		if n > 0 {
			at += n
			continue
		}
		end := strings.IndexAny(s[at+1:], "[]< \t\r\n")
		if end < 0 {
			end = len(s) - at - 1
		}
		b.WriteString(s[at : at+1+end])
		at += 1 + end
	}
	return b.String()
}

// citation returns the length of the citation at the start of s, without its closing bracket, or 0. A number without a
// link is a citation only in a message: elsewhere it may be an index.
func citation(s string, message bool) int {
	n := 1 + prefixLen(s[1:], func(c byte) bool { return c == '^' || c >= '0' && c <= '9' })
	if n > 1 && (linkTarget(s[n:]) > 0 || message && strings.HasPrefix(s[n:], "]")) {
		return n
	}
	return 0
}

// linkTarget returns the length of the target of a Markdown link at the start of s, with its brackets, or 0.
func linkTarget(s string) int {
	target, ok := strings.CutPrefix(s, "](")
	if !ok {
		return 0
	}
	end := strings.IndexAny(target, ")]")
	if end < 0 || target[end] != ')' || !strings.Contains(target[:end], "://") {
		return 0
	}
	return len("](") + end + len(")")
}

// entityTag returns the length of the tag at the start of s, or 0. Ends are the names that have an end tag, without which
// it is not a tag: List<String>.
func entityTag(s string, ends map[string]bool) int {
	n := 1
	if strings.HasPrefix(s[n:], "/") {
		n++
	}
	name := s[n : n+prefixLen(s[n:], isLetter)]
	n += len(name)
	if !ends[name] || !strings.HasPrefix(s[n:], ">") {
		return 0
	}
	return n + 1
}

// endTags returns the names of the end tags in s.
func endTags(s string) map[string]bool {
	ends := make(map[string]bool)
	for {
		_, after, found := strings.Cut(s, "</")
		if !found {
			return ends
		}
		if n := prefixLen(after, isLetter); n > 0 && strings.HasPrefix(after[n:], ">") {
			ends[after[:n]] = true
		}
		s = after
	}
}

func isLetter(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z'
}

// prefixLen returns the length of the longest prefix of s whose characters all match.
func prefixLen(s string, match func(byte) bool) int {
	n := 0
	for n < len(s) && match(s[n]) {
		n++
	}
	return n
}
