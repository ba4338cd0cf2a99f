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
// of the text are kept.
func htmlText(source string) string {
	z := html.NewTokenizer(strings.NewReader(source))
	// A script without its end would hide all the text that follows.
	ends := map[atom.Atom]int{atom.Script: lastEnd(source, "script"), atom.Style: lastEnd(source, "style")}
	var l layout
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
			name, _ := z.TagName()
			a := atom.Lookup(name)
			switch end, hides := ends[a]; {
			case hides && end >= read:
				hidden = a
			case string(name) == "attachment":
				l.inline(source[start:read])
			default:
				z.NextIsNotRawText()
				l.open(a)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			if a == hidden {
				hidden = 0
			}
			l.close(a)
		}
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
