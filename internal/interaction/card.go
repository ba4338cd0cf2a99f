package interaction

import (
	"encoding/json"
	"slices"
	"strings"
)

// maxCardDepth is how deep the objects and lists of a card are followed. Copilot's own have about ten levels.
const maxCardDepth = 64

// cardText is what an adaptive card says, an element to a line:
// https://adaptivecards.microsoft.com/?topic=AdaptiveCard
//
// It takes the text of TextBlock, RichTextBlock, FactSet, Table and CodeBlock, and looks for those in whatever has
// items, columns and their likes, known or not. Actions and the descriptions of images are no text. A card that is
// not valid JSON says nothing.
func cardText(content string) string {
	data := []byte(content)
	if kind(data) != '{' || !json.Valid(data) {
		return ""
	}
	var c card
	c.value("", data, 0)
	return strings.Join(withoutRepetition(c.blocks), "\n")
}

// block is the text of one element of a card.
type block struct {
	text string
	// message is true for the block that holds the answer for clients that can't show the others.
	message bool
}

// card collects the blocks of a card in their order.
type card struct {
	blocks []block
}

// element is what counts of one object. It is collected, because the members come in any order.
type element struct {
	kind, id, text, code, title, value string
}

// value reads an element or a list of elements, which the member of this name holds.
func (c *card) value(member string, value json.RawMessage, depth int) {
	if depth > maxCardDepth {
		return
	}
	switch kind(value) {
	case '{':
		start := len(c.blocks)
		c.add(member, c.element(value, depth))
		if member == "cells" {
			c.join(start, " ")
		}
	case '[':
		eachElement(value, func(value json.RawMessage) bool {
			c.value(member, value, depth+1)
			return true
		})
	case '"':
		if member == "inlines" {
			c.blocks = append(c.blocks, block{text: text(value)})
		}
	}
}

// element reads an object, and adds the text of the elements in it.
func (c *card) element(object json.RawMessage, depth int) element {
	var e element
	eachMember(object, func(name string, value json.RawMessage) {
		start := len(c.blocks)
		switch name {
		case "type":
			e.kind = strings.ToLower(text(value))
		case "id":
			e.id = text(value)
		case "text":
			e.text = text(value)
		case "codeSnippet":
			e.code = text(value)
		case "title":
			e.title = text(value)
		case "value":
			e.value = text(value)
		case "body", "items", "columns", "rows", "pages", "facts":
			c.value(name, value, depth+1)
		case "inlines":
			c.value(name, value, depth+1)
			c.join(start, "")
		case "cells":
			c.value(name, value, depth+1)
			c.join(start, " | ")
		}
	})
	return e
}

// add takes the text of the element itself, a member of the list of this name.
func (c *card) add(list string, e element) {
	b := block{message: e.id == "MessageTextField"}
	switch {
	case list == "inlines":
		if e.kind == "textrun" || e.kind == "" {
			b.text = e.text
		}
	case list == "facts":
		b.text = strings.TrimSpace(e.title + ": " + e.value)
	case e.kind == "textblock":
		b.text = finalResponse(e.text)
	case e.kind == "codeblock":
		b.text = e.code
	}
	if b.text != "" {
		b.text = withoutTags(b.text)
		c.blocks = append(c.blocks, b)
	}
}

// join makes one block of those from start on.
func (c *card) join(start int, separator string) {
	texts := make([]string, 0, len(c.blocks)-start)
	for _, b := range c.blocks[start:] {
		texts = append(texts, b.text)
	}
	c.blocks = append(slices.Delete(c.blocks, start, len(c.blocks)), block{text: strings.Join(texts, separator)})
}
