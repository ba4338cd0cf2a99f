package interaction

import (
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
	ends := map[atom.Atom]int{atom.Script: lastEnd(source, "script"), atom.Style: lastEnd(source, "style")}
	var l markupBuilder
	var hidden atom.Atom // the script or style that we are in
	read := 0
	for {
		token := z.Next()
		if token == html.ErrorToken {
			// What is left looked like a tag and never ended: a <b.
			l.text(html.UnescapeString(source[min(read, len(source)):]))
			return l.String()
		}
		start := read
		read += len(z.Raw())
		switch token {
		case html.TextToken:
			if hidden == 0 {
				l.text(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, hasAttributes := z.TagName()
			a := atomOf(name)
			switch end, hides := ends[a]; {
			case hides && end >= read:
				hidden = a
			case l.isText(name, source[start:read]):
			default:
				z.NextIsNotRawText()
				attributes := elementAttributes(z, hasAttributes)
				l.open(a, attributes)
				if isEmoji(string(name), attributes) {
					l.text(attributes["alt"])
				}
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atomOf(name)
			if a == hidden {
				hidden = 0
			}
			if !l.isText(name, source[start:read]) {
				l.close(a)
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

// isText writes a tag that is no element of HTML, as it is.
func (l *markupBuilder) isText(name []byte, tag string) bool {
	switch {
	case string(name) == "attachment":
		l.inline(tag) // splitTags knows which are Graph's
	case elements[string(name)]:
		return false
	default:
		l.text(html.UnescapeString(tag))
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

// lastEnd is where the last end tag with this name starts, or -1.
func lastEnd(source, name string) int {
	for end := len(source); ; {
		end = strings.LastIndex(source[:end], "</")
		if end < 0 || prefix(source[end+len("</"):], name) > 0 {
			return end
		}
	}
}

// distance is how many line breaks part a block from what is beside it: 2 make an empty line, 0 is no block.
func distance(a atom.Atom) int {
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
