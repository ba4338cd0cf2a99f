package plaintext

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lenientjson"
)

// maxCardDepth is the depth to which objects and lists of a card are read. The cards of Copilot have about ten levels.
const maxCardDepth = 64

// cardText returns the text of an adaptive card, one line for each element:
// https://adaptivecards.microsoft.com/?topic=AdaptiveCard
//
// It reads the text of TextBlock, RichTextBlock, FactSet, Table, CodeBlock and Badge, the titles of tabs and of the cards
// of Action.ShowCard, and the labels and choices of inputs. It finds them in all containers, known or unknown. An element
// without text is replaced by its fallback, a hidden one is left out. Other actions and the descriptions of images are
// ignored. The text of a card that is not valid JSON is empty.
func cardText(content string) string {
	data := []byte(withoutByteOrderMark(content))
	if lenientjson.Kind(data) == '"' && json.Valid(data) { // encoded twice
		data = []byte(withoutByteOrderMark(lenientjson.String(data)))
	}
	if lenientjson.Kind(data) != '{' || !json.Valid(data) {
		return ""
	}
	var c card
	c.walk("", data, 0)
	for n := range c.blocks {
		c.blocks[n].text = withoutTags(c.blocks[n].text)
	}
	return strings.Join(withoutRepetition(c.blocks), "\n")
}

func withoutByteOrderMark(s string) string {
	return strings.TrimPrefix(strings.TrimSpace(s), "\uFEFF")
}

// block is the text of one element of a card.
type block struct {
	text string
	// message is true for the block with the response for clients that cannot display the others.
	message bool
}

// card collects the blocks of a card in order.
type card struct {
	blocks []block
}

// element holds the relevant members of one object. They are collected first because their order is not fixed.
type element struct {
	kind, id, text, code, title, value, label string

	hidden   bool
	fallback json.RawMessage
}

// walk adds the text of value, an element or a list of elements. Member is the name of the member that holds it.
func (c *card) walk(member string, value json.RawMessage, depth int) {
	if depth > maxCardDepth {
		return
	}
	switch lenientjson.Kind(value) {
	case '{':
		start := len(c.blocks)
		e := c.readElement(value, depth)
		switch s := e.ownText(member); {
		case e.hidden:
			c.blocks = c.blocks[:start]
		case s != "": // before its children, as a title
			c.blocks = slices.Insert(c.blocks, start, block{text: s, message: e.id == "MessageTextField"})
		case e.fallback != nil && c.isBlank(start):
			c.blocks = c.blocks[:start]
			c.walk(member, e.fallback, depth+1)
		}
		if member == "cells" {
			c.join(start, " ")
		}
	case '[':
		lenientjson.EachElement(value, func(value json.RawMessage) bool {
			c.walk(member, value, depth+1)
			return true
		})
	case '"':
		if member == "inlines" {
			c.blocks = append(c.blocks, block{text: lenientjson.String(value)})
		}
	}
}

// readElement reads an object, and adds the text of its children.
func (c *card) readElement(object json.RawMessage, depth int) element {
	var e element
	lenientjson.EachMember(object, func(name string, value json.RawMessage) {
		start := len(c.blocks)
		switch name {
		case "type":
			e.kind = strings.ToLower(lenientjson.String(value))
		case "id":
			e.id = lenientjson.String(value)
		case "text":
			e.text = lenientjson.String(value)
		case "codeSnippet":
			e.code = lenientjson.String(value)
		case "title", "headerTitle":
			e.title = lenientjson.String(value)
		case "value":
			e.value = lenientjson.String(value)
		case "label":
			e.label = lenientjson.String(value)
		case "isVisible":
			e.hidden = string(value) == "false"
		case "fallback":
			e.fallback = value
		case "body", "items", "columns", "rows", "pages", "facts", "choices", "actions", "card":
			c.walk(name, value, depth+1)
		case "inlines":
			c.walk(name, value, depth+1)
			c.join(start, "")
		case "cells":
			c.walk(name, value, depth+1)
			c.join(start, " | ")
		}
	})
	return e
}

// ownText returns the text of the element without its children. List is the name of the list that holds the element.
func (e element) ownText(list string) string {
	switch {
	case list == "inlines":
		return e.runText()
	case list == "facts":
		return factLine(strings.TrimSpace(withoutTags(e.title)), strings.TrimSpace(withoutTags(e.value)))
	case list == "pages", list == "choices", e.kind == "action.showcard":
		return e.title
	case e.kind == "textblock":
		return unwrapFinalResponse(e.text)
	case e.kind == "badge":
		return e.text
	case e.kind == "codeblock":
		return e.code
	case e.kind == "input.toggle" && e.label != "" && e.title != "":
		return e.label + "\n" + e.title
	case e.kind == "input.toggle" && e.title != "":
		return e.title
	case strings.HasPrefix(e.kind, "input."):
		return e.label
	default:
		return ""
	}
}

// runText returns the text of a run of a RichTextBlock. The number of a citation is put in brackets, because the word before
// it may be a number.
func (e element) runText() string {
	switch e.kind {
	case "textrun", "":
		return e.text
	case "citationrun":
		if e.text != "" && strings.Trim(e.text, "0123456789") == "" {
			return "[" + e.text + "]"
		}
		return e.text
	default:
		return ""
	}
}

// factLine returns a line of a FactSet. It adds a colon unless the title ends in one, as many do.
func factLine(title, value string) string {
	switch {
	case title == "" || value == "":
		return title + value
	case strings.HasSuffix(title, ":") || strings.HasSuffix(title, "\uff1a"):
		return title + " " + value
	default:
		return title + ": " + value
	}
}

// isBlank reports whether the blocks from start on have no text.
func (c *card) isBlank(start int) bool {
	return !slices.ContainsFunc(c.blocks[start:], func(b block) bool { return strings.TrimSpace(b.text) != "" })
}

// join replaces the blocks from start on by one.
func (c *card) join(start int, separator string) {
	texts := make([]string, 0, len(c.blocks)-start)
	for _, b := range c.blocks[start:] {
		texts = append(texts, b.text)
	}
	c.blocks = append(slices.Delete(c.blocks, start, len(c.blocks)), block{text: strings.Join(texts, separator)})
}
