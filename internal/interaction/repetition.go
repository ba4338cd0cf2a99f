package interaction

import (
	"hash/fnv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// withoutRepetition is the texts of the blocks, less the blanks, and less the messages that only say again what the
// other blocks say. The card of a chat's answer holds the answer twice: with links, and as a message with citations
// in the place of the links.
func withoutRepetition(blocks []block) []string {
	said := make(pairs)
	for _, b := range blocks {
		if !b.message {
			said.add(b.text)
		}
	}
	texts := make([]string, 0, len(blocks))
	for _, b := range blocks {
		s := strings.TrimSpace(b.text)
		if s == "" {
			continue
		}
		if b.message {
			if said.repeats(s) {
				continue
			}
			said.add(s)
		}
		texts = append(texts, s)
	}
	return texts
}

// pairs are the pairs of words, by their hashes, that follow each other in some texts. The start and the end of a text
// count as words, so that a short text is not taken for a piece of a long one.
type pairs map[[2]uint64]struct{}

func (p pairs) add(s string) {
	eachPair(s, func(pair [2]uint64) { p[pair] = struct{}{} })
}

// repeats tells whether a text was said before. It may differ in a few words: a title that a link has in the one may
// be missing in the other.
func (p pairs) repeats(s string) bool {
	all, known := 0, 0
	eachPair(s, func(pair [2]uint64) {
		all++
		if _, ok := p[pair]; ok {
			known++
		}
	})
	return known*10 >= all*7
}

func eachPair(s string, do func([2]uint64)) {
	const edge = 0
	pair := [2]uint64{edge, edge}
	next := func(word uint64) {
		pair = [2]uint64{pair[1], word}
		do(pair)
	}
	eachWord(s, next)
	next(edge)
}

// eachWord gives the hashes of the words, letters and digits only, whatever their case. The targets of markdown
// links, citations ([^1^], [2]) and tags (<File>) are no words.
func eachWord(s string, do func(uint64)) {
	word := fnv.New64a()
	var letter [utf8.UTFMax]byte
	for at := 0; at < len(s); {
		if n := unsaid(s[at:]); n > 0 {
			at += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[at:])
		if !isLetter(r) {
			at += size
			continue
		}
		word.Reset()
		for {
			_, _ = word.Write(utf8.AppendRune(letter[:0], unicode.ToLower(r)))
			at += size
			r, size = utf8.DecodeRuneInString(s[at:])
			if !isLetter(r) || spaceless(r) {
				break
			}
		}
		do(word.Sum64())
	}
}

func isLetter(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// spaceless are the scripts that put no space between words. There each letter starts a word.
func spaceless(r rune) bool {
	return r > unicode.MaxLatin1 &&
		unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// unsaid is the length of the link target, citation or tag that s starts with, or 0.
func unsaid(s string) int {
	switch {
	case strings.HasPrefix(s, "]("):
		if end := strings.IndexAny(s, ") \t\n"); end > 0 {
			return end
		}
		return len(s)
	case s[0] == '[':
		n := 1 + span(s[1:], func(c byte) bool { return c == '^' || c >= '0' && c <= '9' })
		if n > 1 && strings.HasPrefix(s[n:], "]") {
			return n // the bracket can begin a link target
		}
	case s[0] == '<':
		n := 1 + span(s[1:], func(c byte) bool { return c == '/' || c|0x20 >= 'a' && c|0x20 <= 'z' })
		if n > 1 && strings.HasPrefix(s[n:], ">") {
			return n
		}
	}
	return 0
}

// span is how much of the start of s is made of such characters.
func span(s string, such func(byte) bool) int {
	n := 0
	for n < len(s) && such(s[n]) {
		n++
	}
	return n
}
