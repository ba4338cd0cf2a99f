// Package plaintext turns what Microsoft 365 Copilot writes into plain text: HTML, adaptive cards, and the tags that point
// from a body to its attachments. Its functions are pure and know nothing of how an interaction is represented.
package plaintext

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lenientjson"
)

// Message is the written part of one interaction.
type Message struct {
	// HTML is true where Content is HTML, false where it is text.
	HTML    bool
	Content string
	// Prompt is true for what a person typed. It stays as it is, even where it looks like the JSON of an answer.
	Prompt bool
	// Cards are the adaptive cards among the attachments, in their order.
	Cards []Card
}

// Card is an adaptive card.
type Card struct {
	// ID is what an attachment tag in Content refers to. A card whose ID is blank cannot be referred to.
	ID string
	// Content is the card as JSON text. A card that is not valid JSON has no text.
	Content string
}

// Of returns the text of a message as the user saw it: without attachment tags, HTML made plain, adaptive cards read in
// the place where the content points at them, markdown left as it is. It is empty where there is none.
//
// A chat's answer has a body that only points at a card. A body without text that points at no card either is taken
// for one that points at all of them.
func Of(m Message) string {
	content := m.Content
	if m.HTML {
		content = htmlText(content)
	}
	unwrap := unwrapFinalResponse
	if m.Prompt {
		unwrap = func(s string) string { return s }
	}

	var b textBuilder
	cards, referenced := byID(m.Cards), false
	splitTags(unwrap(content),
		func(text string) { b.inline(withoutTags(unwrap(text))) },
		func(id string) {
			for _, content := range cards[id] {
				b.block(cardText(content))
				referenced = true
			}
			delete(cards, id) // once, however often the content points at it
		})
	if !referenced && b.isBlank() {
		for _, card := range m.Cards {
			b.block(cardText(card.Content))
		}
	}
	return b.String()
}

// byID returns the contents of the cards by their id. An empty id is none: the tags that carry it are noise.
func byID(cards []Card) map[string][]string {
	contents := make(map[string][]string)
	for _, card := range cards {
		if id := strings.TrimSpace(card.ID); id != "" {
			contents[id] = append(contents[id], card.Content)
		}
	}
	return contents
}

// unwrapFinalResponse unwraps the answers of Copilot in Excel, which come as the JSON text of an object with the members
// thoughts and finalResponse. Everything else it returns as it is, and so an answer that is neither text nor a number.
func unwrapFinalResponse(s string) string {
	if !strings.Contains(s, `"finalResponse"`) {
		return s
	}
	answer, data := s, []byte(s)
	if !json.Valid(data) {
		return s
	}
	lenientjson.EachMember(data, func(name string, value json.RawMessage) {
		if name == "finalResponse" {
			switch lenientjson.Kind(value) {
			case '{', '[', 't', 'f', 'n':
				answer = s
			default:
				answer = lenientjson.String(value)
			}
		}
	})
	return answer
}

// textBuilder puts a text together from pieces in their order.
type textBuilder struct {
	buf bytes.Buffer
	// newLine is whether the next piece starts on a line of its own.
	newLine bool
}

// inline goes on in the line. Where a tag stood between two words it leaves a space, so that they stay two words,
// and so that the text around a removed tag never makes up a new one.
func (b *textBuilder) inline(s string) {
	if b.newLine {
		if s = strings.TrimLeftFunc(s, unicode.IsSpace); s != "" {
			b.startLine(s)
			b.newLine = false
		}
		return
	}
	last, _ := utf8.DecodeLastRune(b.buf.Bytes())
	first, _ := utf8.DecodeRuneInString(s)
	if s != "" && b.buf.Len() > 0 && !unicode.IsSpace(last) && !unicode.IsSpace(first) &&
		!strings.ContainsRune(".,:!?)]}", first) {
		b.buf.WriteByte(' ')
	}
	b.buf.WriteString(s)
}

// block has lines of its own.
func (b *textBuilder) block(s string) {
	if s = strings.TrimSpace(s); s != "" {
		b.startLine(s)
		b.newLine = true
	}
}

// startLine starts a line with s.
func (b *textBuilder) startLine(s string) {
	b.buf.Truncate(len(bytes.TrimRightFunc(b.buf.Bytes(), unicode.IsSpace)))
	if b.buf.Len() > 0 {
		b.buf.WriteByte('\n')
	}
	b.buf.WriteString(s)
}

func (b *textBuilder) isBlank() bool {
	return len(bytes.TrimSpace(b.buf.Bytes())) == 0
}

// String is the page without space around it, its lines parted by line feeds alone.
func (b *textBuilder) String() string {
	s := strings.ReplaceAll(b.buf.String(), "\r\n", "\n")
	return strings.TrimSpace(strings.ReplaceAll(s, "\r", "\n"))
}
