package plaintext

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlText converts HTML to text: blocks are on lines of their own, list items start with "- " or a number, table cells
// are separated by |, links are their text. Scripts and styles are left out. Attachment tags remain, for splitTags.
//
// It processes the tags in order and never searches for the matching tag, because neither the order nor the depth of the
// tags that Graph sends is guaranteed. Copilot also sends Markdown as HTML, in which line breaks and indentation are
// significant, so they are kept. A tag that is not an element of HTML is text: users write <anna@contoso.com> or
// List<String>, and Graph does not escape it.
func htmlText(source string) string {
	z := html.NewTokenizer(strings.NewReader(source))
	// A script that is never closed must not hide the text that follows.
	ends := map[atom.Atom]int{atom.Script: lastEndTag(source, "script"), atom.Style: lastEndTag(source, "style")}
	var b markupBuilder
	var hidden atom.Atom // the open script or style
	read := 0
	for {
		token := z.Next()
		if token == html.ErrorToken {
			// The rest starts like a tag that is never closed: a <b.
			b.writeText(html.UnescapeString(source[min(read, len(source)):]))
			return b.String()
		}
		start := read
		read += len(z.Raw())
		switch token {
		case html.TextToken:
			if hidden == 0 {
				b.writeText(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, hasAttributes := z.TagName()
			a := atomOf(name)
			switch end, hides := ends[a]; {
			case hides && end >= read:
				hidden = a
			case b.writeUnknownTag(name, source[start:read]):
			default:
				z.NextIsNotRawText()
				attributes := elementAttributes(z, hasAttributes)
				b.open(a, attributes)
				if isEmoji(string(name), attributes) {
					b.writeText(attributes["alt"])
				}
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atomOf(name)
			if a == hidden {
				hidden = 0
			}
			if !b.writeUnknownTag(name, source[start:read]) {
				b.close(a)
			}
		}
	}
}

// elements are the names of the elements of HTML, including obsolete ones, and of those that Teams and Office add, except
// attachment: https://html.spec.whatwg.org/multipage/indices.html#elements-3
var elements = func() map[string]bool {
	all := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption cite code col
		colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset figcaption figure footer form h1 h2 h3
		h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend li link main map mark menu meta meter
		nav noscript object ol optgroup option output p picture pre progress q rp rt ruby s samp script search section
		select slot small source span strong style sub summary sup table tbody td template textarea tfoot th thead time
		title tr track u ul var video wbr

		acronym applet basefont bgsound big blink center dir font frame frameset keygen marquee nobr noembed noframes param
		plaintext rb rtc strike tt xmp

		at codeblock customemoji emoji o:p systemeventmessage`) {
		all[name] = true
	}
	return all
}()

// atomOf returns the atom of an element. Teams writes code blocks as <codeblock><code>, so codeblock is treated as pre.
func atomOf(name []byte) atom.Atom {
	if string(name) == "codeblock" {
		return atom.Pre
	}
	return atom.Lookup(name)
}

// writeUnknownTag writes a tag that is not an element of HTML as text. It returns false, and writes nothing, for an element
// of HTML.
func (b *markupBuilder) writeUnknownTag(name []byte, tag string) bool {
	switch {
	case string(name) == "attachment":
		b.writeInline(tag) // splitTags decides whether Graph wrote it
	case elements[string(name)]:
		return false
	default:
		b.writeText(html.UnescapeString(tag))
	}
	return true
}

func elementAttributes(z *html.Tokenizer, more bool) map[string]string {
	if !more {
		return nil
	}
	attributes := make(map[string]string)
	for more {
		var name, value []byte
		name, value, more = z.TagAttr()
		attributes[string(name)] = string(value)
	}
	return attributes
}

// isEmoji reports whether an element is an emoji, whose text is its alt attribute. Graph writes <emoji> and <customemoji>
// (https://learn.microsoft.com/graph/api/chatmessage-get), Teams an image of the type http://schema.skype.com/Emoji.
func isEmoji(name string, attributes map[string]string) bool {
	switch name {
	case "emoji", "customemoji":
		return true
	default:
		return name == "img" && strings.HasSuffix(attributes["itemtype"], "/Emoji")
	}
}

// lastEndTag returns the offset of the last end tag with this name, or -1.
func lastEndTag(source, name string) int {
	for end := len(source); ; {
		end = strings.LastIndex(source[:end], "</")
		if end < 0 || prefixLenFold(source[end+len("</"):], name) > 0 {
			return end
		}
	}
}

// blockMargin returns the number of line breaks before and after a block: 2 give an empty line. It is 0 for an inline
// element.
func blockMargin(a atom.Atom) int {
	switch a {
	case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Blockquote, atom.Pre, atom.Table:
		return 2
	case atom.Div, atom.Ul, atom.Ol, atom.Li, atom.Tr, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Main,
		atom.Aside, atom.Nav, atom.Figure, atom.Figcaption, atom.Hr, atom.Dl, atom.Dt, atom.Dd, atom.Address,
		atom.Details, atom.Summary, atom.Caption, atom.Form, atom.Fieldset:
		return 1
	default:
		return 0
	}
}

// maxIndent limits the indentation of nested lists.
const maxIndent = 16

// markupBuilder converts a sequence of HTML tags and texts to lines.
type markupBuilder struct {
	out         bytes.Buffer
	blockBreaks int         // pending line breaks of blocks, written before the next text
	brBreaks    int         // pending line breaks of <br>
	itemMarker  string      // pending marker of a list item
	lists       []listState // open lists, the innermost last
	preDepth    int         // number of open <pre> and <code>
	row         rowState
	cells       int // number of cells of the row so far
}

type listState struct {
	numbered bool
	next     int // the number of the next item
}

type rowState int

const (
	noRow    rowState = iota
	rowOpen           // nothing of the row is written yet
	rowBegun          // the rest of the row is written on the same line
)

func (b *markupBuilder) String() string {
	return b.out.String()
}

func (b *markupBuilder) open(a atom.Atom, attributes map[string]string) {
	b.separateBlock(a)
	switch a {
	case atom.Br:
		b.brBreaks++
	case atom.Ul:
		b.lists = append(b.lists, listState{})
	case atom.Ol:
		b.lists = append(b.lists, listState{numbered: true, next: parseInt32(attributes["start"], 1)})
	case atom.Li:
		b.itemMarker = b.nextItemMarker(attributes["value"])
	case atom.Pre, atom.Code:
		b.preDepth++
	case atom.Tr:
		b.row, b.cells = rowOpen, 0
	case atom.Td, atom.Th:
		b.startCell()
	}
}

func (b *markupBuilder) close(a atom.Atom) {
	switch a {
	case atom.Ul, atom.Ol:
		b.lists = b.lists[:max(len(b.lists)-1, 0)]
		b.itemMarker = ""
	case atom.Li:
		b.itemMarker = ""
	case atom.Pre, atom.Code:
		b.preDepth = max(b.preDepth-1, 0)
	case atom.Tr, atom.Table:
		b.row = noRow
	}
	b.separateBlock(a)
}

// separateBlock separates a block from the text before it. Paragraphs in a list add no empty lines.
func (b *markupBuilder) separateBlock(a atom.Atom) {
	breaks := blockMargin(a)
	if len(b.lists) > 0 {
		breaks = min(breaks, 1)
	}
	b.blockBreaks = max(b.blockBreaks, breaks)
}

// startCell separates a cell from the one before it.
func (b *markupBuilder) startCell() {
	b.cells++
	if b.cells == 1 {
		return
	}
	if b.row == rowBegun {
		b.blockBreaks, b.brBreaks = 0, 0
		b.trimSpace()
		b.out.WriteByte(' ')
	}
	b.writeInline("| ")
}

// nextItemMarker returns the marker of the next list item. Value is the item's value attribute, which sets its number.
func (b *markupBuilder) nextItemMarker(value string) string {
	depth := len(b.lists)
	if depth == 0 {
		return "- "
	}
	indent := strings.Repeat("  ", min(depth, maxIndent)-1)
	list := &b.lists[depth-1]
	if !list.numbered {
		return indent + "- "
	}
	number := parseInt32(value, list.next)
	list.next = number + 1
	return indent + strconv.Itoa(number) + ". "
}

// parseInt32 parses a 32-bit integer of an HTML attribute. It returns fallback if s is not one.
func parseInt32(s string, fallback int) int {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return fallback
	}
	return int(n)
}

// writeText writes the text between two tags.
func (b *markupBuilder) writeText(s string) {
	s = strings.ReplaceAll(s, "\u00a0", " ")
	if b.row != noRow {
		s = strings.ReplaceAll(s, "\n", " ")
	}
	if b.preDepth == 0 {
		s = collapseSpaces(s)
	}
	switch {
	case b.out.Len() == 0 || b.blockBreaks > 0 || b.brBreaks > 0 || b.itemMarker != "":
		if b.preDepth > 0 { // the indentation of the first line is significant
			s = strings.TrimPrefix(s, "\n")
		} else {
			s = strings.TrimLeft(s, " \t\n\f")
		}
	case b.preDepth == 0 && bytes.HasSuffix(b.out.Bytes(), []byte(" ")):
		s = strings.TrimLeft(s, " ")
	}
	if s != "" {
		b.writeInline(s)
	}
}

// writeInline writes the pending line breaks and marker, and then s unchanged.
func (b *markupBuilder) writeInline(s string) {
	if breaks := min(max(b.blockBreaks, b.brBreaks), 2); breaks > 0 {
		b.trimSpace()
		switch {
		case b.row == rowBegun:
			b.out.WriteByte(' ')
		case b.out.Len() > 0:
			b.out.WriteString("\n\n"[:breaks])
		}
	}
	b.out.WriteString(b.itemMarker)
	b.out.WriteString(s)
	b.blockBreaks, b.brBreaks, b.itemMarker = 0, 0, ""
	if b.row == rowOpen {
		b.row = rowBegun
	}
}

// trimSpace removes trailing space from the text so far.
func (b *markupBuilder) trimSpace() {
	b.out.Truncate(len(bytes.TrimRight(b.out.Bytes(), " \t\n\f")))
}

// collapseSpaces replaces each run of spaces and tabs within a line by one space. It keeps those at the ends of a line,
// which are significant in Markdown.
func collapseSpaces(s string) string {
	if !strings.ContainsAny(s, "\t") && !strings.Contains(s, "  ") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for start := 0; start < len(s); {
		end := start
		for end < len(s) && (s[end] == ' ' || s[end] == '\t') {
			end++
		}
		switch {
		case end == start:
			for end < len(s) && s[end] != ' ' && s[end] != '\t' {
				end++
			}
			b.WriteString(s[start:end])
		case start > 0 && s[start-1] == '\n', end < len(s) && s[end] == '\n':
			b.WriteString(s[start:end])
		default:
			b.WriteByte(' ')
		}
		start = end
	}
	return b.String()
}
