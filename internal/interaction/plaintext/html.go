package plaintext

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlText reads HTML as text: blocks on lines of their own, lists as - or 1. items, cells of a table parted by |,
// links as their text. Script and style are left out; attachment tags stay, for splitTags to find.
//
// It goes by the tags as they come and never looks for the partner of one, since neither the order nor the depth of
// what Graph sends is sure. Copilot sends markdown as HTML, too, and means its line breaks and indentation, so those
// of the text are kept. What looks like a tag and is none of HTML's is text, too: a person may write <anna@contoso.com>
// or List<String>, and Graph does not escape it.
func htmlText(source string) string {
	z := html.NewTokenizer(strings.NewReader(source))
	// A script without its end would hide all the text that follows.
	ends := map[atom.Atom]int{atom.Script: lastEndTag(source, "script"), atom.Style: lastEndTag(source, "style")}
	var b markupBuilder
	var hidden atom.Atom // the script or style that we are in
	read := 0
	for {
		token := z.Next()
		if token == html.ErrorToken {
			// What is left looked like a tag and never ended: a <b.
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

// elements are the names of the elements of HTML, also of those that went out of use, and of those that Teams and Office
// write besides attachments: https://html.spec.whatwg.org/multipage/indices.html#elements-3
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

// atomOf is the atom of an element. Teams writes code as <codeblock><code>.
func atomOf(name []byte) atom.Atom {
	if string(name) == "codeblock" {
		return atom.Pre
	}
	return atom.Lookup(name)
}

// writeUnknownTag writes a tag that is no element of HTML, as it is.
func (b *markupBuilder) writeUnknownTag(name []byte, tag string) bool {
	switch {
	case string(name) == "attachment":
		b.writeInline(tag) // splitTags knows which are Graph's
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

// isEmoji tells whether an element is an emoji, which its alt attribute holds. Graph writes <emoji> and <customemoji>,
// https://learn.microsoft.com/graph/api/chatmessage-get; Teams an image of the type http://schema.skype.com/Emoji.
func isEmoji(name string, attributes map[string]string) bool {
	switch name {
	case "emoji", "customemoji":
		return true
	default:
		return name == "img" && strings.HasSuffix(attributes["itemtype"], "/Emoji")
	}
}

// lastEndTag is where the last end tag with this name starts, or -1.
func lastEndTag(source, name string) int {
	for end := len(source); ; {
		end = strings.LastIndex(source[:end], "</")
		if end < 0 || prefixLenFold(source[end+len("</"):], name) > 0 {
			return end
		}
	}
}

// blockMargin is how many line breaks part a block from what is beside it: 2 make an empty line, 0 is no block.
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

// maxIndent bounds the indentation of lists inside lists.
const maxIndent = 16

// markupBuilder turns a run of HTML tags and texts into lines.
type markupBuilder struct {
	out    bytes.Buffer
	blockBreaks int         // line breaks due before the next text, because of blocks
	brBreaks  int         // and because of <br>
	itemMarker   string      // what the next text starts with: the mark of a list item
	lists  []listState // the open ones
	preDepth   int         // open <pre> and <code>
	row    rowState
	cells  int // of this row so far
}

type listState struct {
	numbered bool
	next     int // the number of the next item
}

type rowState int

const (
	noRow    rowState = iota
	rowOpen           // nothing of it was written yet
	rowBegun          // it stays on this line
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

// separateBlock puts a distance to what was written before. Paragraphs inside a list don't stretch it.
func (b *markupBuilder) separateBlock(a atom.Atom) {
	breaks := blockMargin(a)
	if len(b.lists) > 0 {
		breaks = min(breaks, 1)
	}
	b.blockBreaks = max(b.blockBreaks, breaks)
}

// startCell parts a cell from the one before it.
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

// nextItemMarker is what the list item that starts here begins with. Its value is the number that it sets, or empty.
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

// parseInt32 reads an integer of 32 bits as HTML writes it; what is none is the other one.
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
		if b.preDepth > 0 { // the first line's indentation is meant, too
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

// writeInline writes the line breaks and the mark that are due, and then s as it is.
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

// trimSpace takes the space off the end of what was written.
func (b *markupBuilder) trimSpace() {
	b.out.Truncate(len(bytes.TrimRight(b.out.Bytes(), " \t\n\f")))
}

// collapseSpaces makes one space of each run of spaces and tabs inside a line. Those at the ends of a line stay, for they
// mean something in markdown.
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
