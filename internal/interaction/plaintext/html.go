// SPDX-License-Identifier: Apache-2.0

package plaintext

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlText converts HTML to text: blocks are on lines of their own, list items start with "- " or a number, table cells
// are separated by |, links are their text. Scripts and styles are left out. Attachment tags remain.
//
// It processes the tags in order and never searches for the matching tag, because neither the order nor the depth of the
// tags that Graph sends is guaranteed. Copilot also sends Markdown as HTML, in which line breaks and indentation are
// significant, so they are kept. A tag that is not HTML is text there: <anna@contoso.com>, List<String>.
func htmlText(source string) string {
	z := html.NewTokenizer(strings.NewReader(source))
	var b markupBuilder
	inScript, script := false, "" // the script or style that is being read
	for {
		switch token := z.Next(); token {
		case html.ErrorToken:
			// What remains is a script that is never closed, which may be all of the text, or starts like a tag: a <b.
			b.writeText(script + html.UnescapeString(string(z.Raw())))
			return b.String()
		case html.TextToken:
			if inScript {
				script = string(z.Text())
			} else {
				b.writeText(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			a := b.readTag(z, token)
			inScript, script = token == html.StartTagToken && (a == atom.Script || a == atom.Style), ""
			if !inScript {
				z.NextIsNotRawText() // of other elements that hold text, such as <title>
			}
		}
	}
}

// readTag reads the current tag and returns its element, or 0 if it is text.
func (b *markupBuilder) readTag(z *html.Tokenizer, token html.TokenType) atom.Atom {
	source := string(z.Raw()) // before TagName, which changes it to lower case
	tagName, more := z.TagName()
	name := string(tagName)
	a := elements[name]
	switch {
	case a == 0:
		b.writeText(html.UnescapeString(source))
	case token == html.EndTagToken:
		b.close(a)
	default:
		attributes := attributesOf(z, more)
		b.open(a, attributes)
		if isEmoji(name, attributes) {
			b.writeText(attributes["alt"])
		}
	}
	return a
}

// attributesOf returns the attributes of the current tag, if it has more than its name.
func attributesOf(z *html.Tokenizer, more bool) map[string]string {
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
	return name == "emoji" || name == "customemoji" || name == "img" && strings.HasSuffix(attributes["itemtype"], "/Emoji")
}

// elements are the elements of HTML, including obsolete ones, and those that Teams and Office add:
// https://html.spec.whatwg.org/multipage/indices.html#elements-3
// https://learn.microsoft.com/graph/api/chatmessage-get
var elements = func() map[string]atom.Atom {
	all := map[string]atom.Atom{
		"at": atom.Span, "codeblock": atom.Pre, "emoji": atom.Img, "customemoji": atom.Img,
		"o:p": atom.Span, "systemeventmessage": atom.Span,
	}
	for name := range strings.FieldsSeq(`
		a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption cite code col
		colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset figcaption figure footer form h1 h2 h3
		h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend li link main map mark menu meta meter
		nav noscript object ol optgroup option output p picture pre progress q rp rt ruby s samp script search section
		select slot small source span strong style sub summary sup table tbody td template textarea tfoot th thead time
		title tr track u ul var video wbr

		acronym applet basefont bgsound big blink center dir font frame frameset keygen marquee nobr noembed noframes param
		plaintext rb rtc strike tt xmp`) {
		all[name] = atom.Lookup([]byte(name))
	}
	return all
}()

// separator is what separates two texts. A larger one replaces a smaller one.
type separator int

const (
	none separator = iota
	space
	line
	paragraph
)

func (s separator) String() string {
	return [...]string{none: "", space: " ", line: "\n", paragraph: "\n\n"}[s]
}

// separatorOf returns what separates an element from the text before and after it.
func separatorOf(a atom.Atom) separator {
	switch a {
	case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Blockquote, atom.Pre, atom.Table:
		return paragraph
	case atom.Div, atom.Ul, atom.Ol, atom.Li, atom.Tr, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Main,
		atom.Aside, atom.Nav, atom.Figure, atom.Figcaption, atom.Hr, atom.Dl, atom.Dt, atom.Dd, atom.Address,
		atom.Details, atom.Summary, atom.Caption, atom.Form, atom.Fieldset:
		return line
	default:
		return none
	}
}

// maxIndent limits the indentation of nested lists.
const maxIndent = 16

// markupBuilder converts a sequence of HTML tags and texts to lines.
type markupBuilder struct {
	out     bytes.Buffer
	pending separator // written before the next text
	marker  string    // of the list item that starts with the next text
	lists   []list    // open lists, the innermost last
	code    int       // number of open <pre> and <code>
	inRow   bool
	cells   int // number of cells of the row so far
}

type list struct {
	numbered bool
	next     int // the number of the next item
}

func (b *markupBuilder) String() string {
	return strings.ReplaceAll(b.out.String(), "\u00a0", " ")
}

func (b *markupBuilder) open(a atom.Atom, attributes map[string]string) {
	b.separate(separatorOf(a))
	switch a {
	case atom.Br:
		if b.pending >= line {
			b.separate(paragraph)
		} else {
			b.separate(line)
		}
	case atom.Ul:
		b.lists = append(b.lists, list{})
	case atom.Ol:
		b.lists = append(b.lists, list{numbered: true, next: numberOr(attributes["start"], 1)})
	case atom.Li:
		b.marker = b.nextMarker(attributes["value"])
	case atom.Pre, atom.Code:
		b.code++
	case atom.Tr:
		b.inRow, b.cells = true, 0
	case atom.Td, atom.Th:
		b.startCell()
	}
}

func (b *markupBuilder) close(a atom.Atom) {
	switch a {
	case atom.Ul, atom.Ol:
		b.lists = b.lists[:max(len(b.lists)-1, 0)]
		b.marker = ""
	case atom.Li:
		b.marker = ""
	case atom.Pre, atom.Code:
		b.code = max(b.code-1, 0)
	case atom.Tr, atom.Table:
		b.inRow = false
	}
	b.separate(separatorOf(a))
}

// separate separates the next text from the one before it. A cell stays on one line, and blocks in a list add no empty lines.
func (b *markupBuilder) separate(s separator) {
	if b.inRow && b.cells > 0 {
		s = min(s, space)
	} else if len(b.lists) > 0 {
		s = min(s, line)
	}
	b.pending = max(b.pending, s)
}

// startCell separates a cell from the one before it.
func (b *markupBuilder) startCell() {
	b.cells++
	if b.cells == 1 {
		return
	}
	if b.pending < line { // else the cells before it are empty
		b.pending = space
	}
	b.write("| ")
}

// nextMarker returns the marker of the next list item. Value is the item's value attribute, which sets its number.
func (b *markupBuilder) nextMarker(value string) string {
	depth := len(b.lists)
	if depth == 0 {
		return "- "
	}
	indent := strings.Repeat("  ", min(depth, maxIndent)-1)
	list := &b.lists[depth-1]
	if !list.numbered {
		return indent + "- "
	}
	number := numberOr(value, list.next)
	list.next = number + 1
	return indent + strconv.Itoa(number) + ". "
}

// numberOr returns the number that an attribute holds, or fallback if it holds none.
func numberOr(attribute string, fallback int) int {
	n, err := strconv.ParseInt(strings.TrimSpace(attribute), 10, 32)
	if err != nil {
		return fallback
	}
	return int(n)
}

// writeText writes the text between two tags.
func (b *markupBuilder) writeText(s string) {
	if b.inRow {
		s = strings.ReplaceAll(s, "\n", " ")
	}
	switch {
	case b.pending == none && b.marker == "":
	case b.code > 0: // the indentation of the first line is significant
		s = strings.TrimLeft(s, "\r\n")
	default:
		s = strings.TrimLeft(s, " \t\r\n\f")
	}
	if s != "" {
		b.write(s)
	}
}

// write writes the pending separator and marker, and then s.
func (b *markupBuilder) write(s string) {
	if b.pending > none {
		b.out.Truncate(len(bytes.TrimRight(b.out.Bytes(), " \t\r\n\f")))
		b.out.WriteString(b.pending.String())
	}
	b.out.WriteString(b.marker)
	b.out.WriteString(s)
	b.pending, b.marker = none, ""
}
