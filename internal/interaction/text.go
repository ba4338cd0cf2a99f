package interaction

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is what was written, as the user saw it: without attachment tags, HTML made plain, adaptive cards read in the
// place where the body points at them, markdown left as it is. It is empty where there is none; it is never an error,
// for Graph promises nothing about the shape of a body:
// https://learn.microsoft.com/graph/api/resources/itembody
//
// A chat's answer has a body that only points at a card. A body without text that points at no card either is taken
// for one that points at all of them.
func (i *Interaction) Text() string {
	content := i.Body.Content
	if strings.EqualFold(strings.TrimSpace(i.Body.ContentType), "html") {
		content = htmlText(content)
	}
	// What a person typed stays as it is, even where it looks like the JSON of an answer.
	unwrap := finalResponse
	if i.Type == TypeUserPrompt {
		unwrap = func(s string) string { return s }
	}

	var p textBuilder
	cards, pointed := i.cards(), false
	splitTags(unwrap(content),
		func(text string) { p.inline(withoutTags(unwrap(text))) },
		func(id string) {
			for _, card := range cards[id] {
				p.block(card.text())
				pointed = true
			}
			delete(cards, id) // once, however often the body points at it
		})
	if !pointed && p.blank() {
		for _, a := range i.Attachments {
			p.block(a.text())
		}
	}
	return p.String()
}

// cards are the adaptive cards by their id. An empty id is none: the tags that carry it are noise.
func (i *Interaction) cards() map[string][]*Attachment {
	cards := make(map[string][]*Attachment)
	for n := range i.Attachments {
		a := &i.Attachments[n]
		if id := strings.TrimSpace(a.ID); id != "" && a.isCard() {
			cards[id] = append(cards[id], a)
		}
	}
	return cards
}

func (a *Attachment) isCard() bool {
	return strings.EqualFold(strings.TrimSpace(a.ContentType), "application/vnd.microsoft.card.adaptive")
}

// text is what a card says; it is empty for files, meetings, images, and whatever else is attached.
func (a *Attachment) text() string {
	if !a.isCard() {
		return ""
	}
	return cardText(a.Content)
}

// finalResponse unwraps the answers of Copilot in Excel, which come as the JSON text of an object with the members
// thoughts and finalResponse. Everything else it returns as it is, and so an answer that is neither text nor a number.
func finalResponse(s string) string {
	if !strings.Contains(s, `"finalResponse"`) {
		return s
	}
	answer, data := s, []byte(s)
	if !json.Valid(data) {
		return s
	}
	eachMember(data, func(name string, value json.RawMessage) {
		if name == "finalResponse" {
			switch kind(value) {
			case '{', '[', 't', 'f', 'n':
				answer = s
			default:
				answer = text(value)
			}
		}
	})
	return answer
}

// textBuilder puts a text together from pieces in their order.
type textBuilder struct {
	b bytes.Buffer
	// broken is whether the next piece starts on a line of its own.
	broken bool
}

// inline goes on in the line. Where a tag stood between two words it leaves a space, so that they stay two words,
// and so that the text around a removed tag never makes up a new one.
func (p *textBuilder) inline(s string) {
	if p.broken {
		if s = strings.TrimLeftFunc(s, unicode.IsSpace); s != "" {
			p.line(s)
			p.broken = false
		}
		return
	}
	last, _ := utf8.DecodeLastRune(p.b.Bytes())
	first, _ := utf8.DecodeRuneInString(s)
	if s != "" && p.b.Len() > 0 && !unicode.IsSpace(last) && !unicode.IsSpace(first) &&
		!strings.ContainsRune(".,:!?)]}", first) {
		p.b.WriteByte(' ')
	}
	p.b.WriteString(s)
}

// block has lines of its own.
func (p *textBuilder) block(s string) {
	if s = strings.TrimSpace(s); s != "" {
		p.line(s)
		p.broken = true
	}
}

// line starts a line with s.
func (p *textBuilder) line(s string) {
	p.b.Truncate(len(bytes.TrimRightFunc(p.b.Bytes(), unicode.IsSpace)))
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	p.b.WriteString(s)
}

func (p *textBuilder) blank() bool {
	return len(bytes.TrimSpace(p.b.Bytes())) == 0
}

// String is the page without space around it, its lines parted by line feeds alone.
func (p *textBuilder) String() string {
	s := strings.ReplaceAll(p.b.String(), "\r\n", "\n")
	return strings.TrimSpace(strings.ReplaceAll(s, "\r", "\n"))
}
