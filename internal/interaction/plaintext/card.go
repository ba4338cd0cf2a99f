// SPDX-License-Identifier: Apache-2.0

package plaintext

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxCardDepth is the depth to which objects and lists of a card have text. The cards of Copilot have about ten levels.
const maxCardDepth = 64

// cardText returns the text of an adaptive card, one line for each element:
// https://adaptivecards.microsoft.com/?topic=AdaptiveCard
//
// It reads the text of TextBlock, RichTextBlock, FactSet, Table, CodeBlock and Badge, the titles of tabs and of the cards
// of Action.ShowCard, and the labels and choices of inputs. It finds them in all containers, known or unknown. An element
// without text is replaced by its fallback, a hidden one is left out. The text of a card that is not valid JSON is empty.
func cardText(content string) string {
	if !json.Valid([]byte(content)) {
		return ""
	}
	r := cardReader{json.NewDecoder(strings.NewReader(content))}
	r.UseNumber()
	_, blocks := r.read("", 0)
	return joinBlocks(withoutRepetition(blocks))
}

// block is the text of one element of a card.
type block struct {
	text string
	// message is true for the block with the response for clients that cannot display the others.
	message bool
}

// cardReader reads a valid card token by token, because a decoded card can take fifty times the memory of its JSON.
type cardReader struct{ *json.Decoder }

// read reads the next value, which is one of this member. It returns the text of a string, number or boolean, and the blocks
// of an element or a list of elements.
func (r cardReader) read(member string, depth int) (text string, blocks []block) {
	token, _ := r.Token() // cannot fail in valid JSON
	switch token := token.(type) {
	case string:
		return token, nil
	case json.Number:
		return token.String(), nil
	case bool:
		return strconv.FormatBool(token), nil
	case json.Delim:
		if token == '[' {
			blocks = r.readList(member, depth)
		} else {
			blocks = r.readElement(member, depth)
		}
	}
	if depth > maxCardDepth {
		blocks = nil
	}
	return "", blocks
}

// readList reads the rest of a list.
func (r cardReader) readList(member string, depth int) []block {
	var blocks []block
	for r.More() {
		text, elements := r.read(member, depth+1)
		if member == "inlines" && text != "" {
			blocks = append(blocks, block{text: text})
		}
		blocks = append(blocks, elements...)
	}
	_, _ = r.Token() // the closing bracket
	switch member {
	case "inlines":
		return joined(blocks, "")
	case "cells":
		return joined(blocks, " | ")
	default:
		return blocks
	}
}

// readElement reads the rest of an object. It returns its own text, and then that of its children.
func (r cardReader) readElement(member string, depth int) []block {
	members := make(map[string]string)
	var children, fallback []block
	for r.More() {
		token, _ := r.Token()
		name, _ := token.(string)
		text, blocks := r.read(name, depth+1)
		switch name {
		case "body", "items", "columns", "rows", "cells", "pages", "facts", "inlines", "choices", "actions", "card":
			children = append(children, blocks...)
		case "fallback":
			fallback = blocks
		case "headerTitle":
			members["title"] = text
		case "type", "id", "isVisible", "text", "codeSnippet", "title", "value", "label":
			members[name] = text
		}
	}
	_, _ = r.Token() // the closing brace
	blocks := children
	if text := ownText(member, members); text != "" {
		blocks = append([]block{{text: text, message: members["id"] == "MessageTextField"}}, children...)
	}
	switch hasText := func(b block) bool { return strings.TrimSpace(b.text) != "" }; {
	case members["isVisible"] == "false":
		blocks = nil
	case !slices.ContainsFunc(blocks, hasText):
		blocks = fallback
	}
	if member == "cells" {
		return joined(blocks, " ")
	}
	return blocks
}

// ownText returns the text of an element without its children. Member is the name of the list that holds it.
func ownText(member string, members map[string]string) string {
	switch member {
	case "facts":
		return factLine(members["title"], members["value"])
	case "pages", "choices":
		return members["title"]
	}
	switch kind := members["type"]; kind {
	case "TextBlock":
		return unwrapFinalResponse(members["text"])
	case "TextRun", "Badge":
		return members["text"]
	case "CitationRun":
		return citation(members["text"])
	case "CodeBlock":
		return members["codeSnippet"]
	case "Action.ShowCard":
		return members["title"]
	default:
		if strings.HasPrefix(kind, "Input.") {
			return strings.TrimSpace(members["label"] + "\n" + members["title"])
		}
		return ""
	}
}

// citation puts the number of a citation in brackets, because the word before it may be a number.
func citation(text string) string {
	if text == "" {
		return ""
	}
	return "[" + text + "]"
}

// factLine returns a line of a FactSet. Many titles already end in a colon.
func factLine(title, value string) string {
	if title == "" || value == "" {
		return title + value
	}
	return strings.TrimRight(title, ":\uff1a ") + ": " + value
}

// joined returns one block with the texts of all.
func joined(blocks []block, separator string) []block {
	texts := make([]string, len(blocks))
	for i, b := range blocks {
		texts[i] = b.text
	}
	return []block{{text: strings.Join(texts, separator)}}
}

// withoutRepetition returns the texts of the blocks without messages that repeat the other blocks. The card of a chat
// response holds the response twice: with links, and as a message with citations in place of the links.
func withoutRepetition(blocks []block) []string {
	var others []string
	for _, b := range blocks {
		if !b.message {
			others = append(others, b.text)
		}
	}
	all := strings.Join(others, "\n")
	var texts []string
	for _, b := range blocks {
		if !b.message || !repeats(b.text, all) {
			texts = append(texts, b.text)
		}
	}
	return texts
}

// repeats reports whether text has all words of the message in the same order, so that no word is lost without the message.
// The numbers of citations ([^1^], [2]) and the tags of entities (<File>plan</File>) do not count: only messages have them.
func repeats(message, text string) bool {
	words, start := 0, 0
	for n, r := range message + " " {
		if !separatesWords(r) {
			continue
		}
		word := message[start:n]
		isMarkup := start > 0 && strings.ContainsRune("[^</", rune(message[start-1]))
		start = n + utf8.RuneLen(r)
		if word == "" || isMarkup {
			continue
		}
		_, rest, found := strings.Cut(text, word)
		if !found {
			return false
		}
		text = rest
		words++
	}
	return words > 0
}

func separatesWords(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsPunct(r) || r == '<' || r == '>' || r == '^'
}
