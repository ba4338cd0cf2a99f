// SPDX-License-Identifier: Apache-2.0

// Package plaintext converts the content of Copilot interactions to plain text: HTML, adaptive cards, and the attachment
// tags by which a body refers to its attachments. It holds no state and does not depend on the model of an interaction.
//
// All functions take linear time in the size of their input, whatever it is, because anybody may write a prompt.
package plaintext

import (
	"encoding/json"
	"regexp"
	"strings"
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

// attachmentTag matches the tags by which Graph refers to an attachment, with their id: <attachment id="..."></attachment>,
// plain or HTML-escaped, sometimes with an empty id: https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
// No id contains a quote or a bracket, which also keeps the time linear: no two attempts to match read the same text.
var attachmentTag = regexp.MustCompile(
	`(?:<|&lt;)attachment\s+id=(?:"|'|&quot;)([^"'<>&]*)(?:"|'|&quot;)\s*/?(?:>|&gt;)(?:(?:<|&lt;)/attachment(?:>|&gt;))?`)

// Of returns the text of a message as the user saw it: attachment tags are removed, HTML becomes plain text, adaptive cards
// are inserted where the content refers to them, and Markdown is unchanged. It is empty where there is no text.
//
// The body of a chat response only refers to a card. Where neither the body nor the cards that it refers to have text, all
// cards are the text.
func Of(m Message) string {
	content := m.Content
	if m.HTML {
		content = htmlText(content)
	}
	text := joinBlocks(bodyBlocks(content, m))
	if text == "" {
		var cards []string
		for _, card := range m.Cards {
			cards = append(cards, cardText(card.Content))
		}
		text = joinBlocks(cards)
	}
	return text
}

// bodyBlocks returns the pieces of the content and, between them, the texts of the cards to which it refers. A card is
// inserted once, however often the content refers to it.
func bodyBlocks(content string, m Message) []string {
	cards := make(map[string]string)
	for _, card := range m.Cards {
		if card.ID != "" {
			cards[card.ID] = card.Content
		}
	}
	var blocks []string
	addText := func(text string) {
		text = withoutTags(text)
		if !m.Prompt {
			text = unwrapFinalResponse(text)
		}
		blocks = append(blocks, text)
	}
	start := 0
	if len(cards) > 0 {
		for _, tag := range attachmentTag.FindAllStringSubmatchIndex(content, -1) {
			id := content[tag[2]:tag[3]]
			if card, ok := cards[id]; ok {
				delete(cards, id)
				addText(content[start:tag[0]])
				blocks = append(blocks, cardText(card))
				start = tag[1]
			}
		}
	}
	addText(content[start:])
	return blocks
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// joinBlocks returns one text with each block on lines of its own, without blank ones and without attachment tags.
func joinBlocks(blocks []string) string {
	var texts []string
	for _, block := range blocks {
		if block = strings.TrimSpace(withoutTags(block)); block != "" {
			texts = append(texts, block)
		}
	}
	return lineEnds.Replace(strings.Join(texts, "\n"))
}

// withoutTags removes the attachment tags from s.
func withoutTags(s string) string {
	if !strings.Contains(s, "attachment") { // much faster than the expression
		return s
	}
	return attachmentTag.ReplaceAllString(s, "")
}

// unwrapFinalResponse unwraps the responses of Copilot in Excel, which are the JSON text of an object with the members
// thoughts and finalResponse. It returns s unchanged if it is anything else.
func unwrapFinalResponse(s string) string {
	if !strings.Contains(s, `"finalResponse"`) {
		return s
	}
	var wrapper struct {
		FinalResponse *string `json:"finalResponse"`
	}
	if err := json.Unmarshal([]byte(s), &wrapper); err != nil || wrapper.FinalResponse == nil {
		return s
	}
	return *wrapper.FinalResponse
}
