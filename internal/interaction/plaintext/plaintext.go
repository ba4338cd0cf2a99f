// Package plaintext converts the content of Copilot interactions to plain text: HTML, adaptive cards, and the attachment
// tags by which a body refers to its attachments. It holds no state and does not depend on the model of an interaction.
//
// All functions take linear time in the size of their input, whatever it is, because anybody may write a prompt.
package plaintext

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lenientjson"
)

// Message is the content of one interaction.
type Message struct {
	// HTML is true where Content is HTML, false where it is text.
	HTML    bool
	Content string
	// Prompt is true for the text that a user typed, which is never unwrapped, even if it looks like the JSON of a response.
	Prompt bool
	// Cards are the adaptive cards among the attachments, in order.
	Cards []Card
}

// Card is an adaptive card.
type Card struct {
	// ID is the id by which attachment tags refer to the card. They cannot refer to a card without one.
	ID string
	// Content is the card as JSON text. A card that is not valid JSON has no text.
	Content string
}

// Of returns the text of a message as the user saw it: attachment tags are removed, HTML becomes plain text, adaptive cards
// are inserted where the content refers to them, and Markdown is unchanged. It is empty where there is no text.
//
// The body of a chat response only refers to a card. A body that has no text and refers to no card is treated as if it
// referred to all of them.
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
			delete(cards, id) // inserted once, however often the content refers to it
		})
	if !referenced && b.isBlank() {
		for _, card := range m.Cards {
			b.block(cardText(card.Content))
		}
	}
	return b.String()
}

// byID returns the contents of the cards by their id. Cards without an id are left out: tags with an empty id refer to
// nothing.
func byID(cards []Card) map[string][]string {
	contents := make(map[string][]string)
	for _, card := range cards {
		if id := strings.TrimSpace(card.ID); id != "" {
			contents[id] = append(contents[id], card.Content)
		}
	}
	return contents
}

// unwrapFinalResponse unwraps the responses of Copilot in Excel, which are the JSON text of an object with the members
// thoughts and finalResponse. It returns s unchanged if it is anything else, or if finalResponse is neither a string nor
// a number.
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

// textBuilder joins pieces of text.
type textBuilder struct {
	buf bytes.Buffer
	// newLine is true if the next piece starts a new line.
	newLine bool
}

// inline continues the current line. It separates the pieces with a space where a tag was between two words, so that they
// remain two words, and so that the text around a removed tag does not form another tag.
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

// block writes s on lines of its own.
func (b *textBuilder) block(s string) {
	if s = strings.TrimSpace(s); s != "" {
		b.startLine(s)
		b.newLine = true
	}
}

// startLine writes s on a new line.
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

// String returns the text without surrounding space and with line feeds as line ends.
func (b *textBuilder) String() string {
	s := strings.ReplaceAll(b.buf.String(), "\r\n", "\n")
	return strings.TrimSpace(strings.ReplaceAll(s, "\r", "\n"))
}
