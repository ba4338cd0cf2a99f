package plaintext_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

func fromText(content string, cards ...plaintext.Card) string {
	return plaintext.Of(plaintext.Message{Content: content, Cards: cards})
}

func fromHTML(content string, cards ...plaintext.Card) string {
	return plaintext.Of(plaintext.Message{HTML: true, Content: content, Cards: cards})
}

func fromCard(content string) string {
	return fromText("", plaintext.Card{ID: "c", Content: content})
}

// cardOf returns a card of one text block.
func cardOf(id, text string) plaintext.Card {
	return plaintext.Card{ID: id, Content: `{"body":[{"type":"TextBlock","text":"` + text + `"}]}`}
}

func TestOf_InsertsReferencedCards(t *testing.T) {
	t.Parallel()
	a, b := cardOf("a", "saw"), cardOf("b", "plane")
	for name, tt := range map[string]struct {
		of      func(content string, cards ...plaintext.Card) string
		content string
		cards   []plaintext.Card
		want    string
	}{
		"in the order of the tags":         {fromHTML, `<attachment id="b"></attachment><attachment id="a"></attachment>`, []plaintext.Card{a, b}, "plane\nsaw"},
		"only those":                       {fromHTML, `<attachment id="b"></attachment>`, []plaintext.Card{a, b}, "plane"},
		"once":                             {fromText, `<attachment id="b"/> or <attachment id="b"/>`, []plaintext.Card{b}, "plane\nor"},
		"among the text":                   {fromText, `First <attachment id="a"/>then: <attachment id="b"/>. Done`, []plaintext.Card{a, b}, "First\nsaw\nthen:\nplane\n. Done"},
		"by an escaped tag":                {fromText, `&lt;attachment id="a"&gt;`, []plaintext.Card{a, b}, "saw"},
		"by a tag with escaped quotes":     {fromText, `&lt;attachment id=&quot;a&quot;&gt;&lt;/attachment&gt; it`, []plaintext.Card{a, b}, "saw\nit"},
		"by an escaped tag in HTML":        {fromHTML, `&lt;attachment id=&quot;a&quot;&gt;&lt;/attachment&gt;`, []plaintext.Card{a, b}, "saw"},
		"by an id with entities":           {fromHTML, `<attachment id="a&amp;b"></attachment>`, []plaintext.Card{cardOf("a&b", "saw"), b}, "saw"},
		"of the same id all":               {fromHTML, `<attachment id="a"></attachment>`, []plaintext.Card{a, cardOf("a", "sand")}, "saw\nsand"},
		"all where it has neither":         {fromHTML, ` `, []plaintext.Card{a, b}, "saw\nplane"},
		"all where it is blank HTML":       {fromHTML, `<div>&nbsp;</div>`, []plaintext.Card{a}, "saw"},
		"all where it points at nothing":   {fromHTML, `<attachment id="gone"></attachment><attachment id=""></attachment>`, []plaintext.Card{cardOf("", "saw")}, "saw"},
		"none by an empty id":              {fromText, `Here it is.<attachment id=""></attachment>`, []plaintext.Card{cardOf("", "saw")}, "Here it is."},
		"none where it has text alone":     {fromText, `Here it is.`, []plaintext.Card{a}, "Here it is."},
		"not in the place of an empty one": {fromHTML, `<attachment id="e"></attachment>`, []plaintext.Card{cardOf("e", ""), a}, ""},
		"and the text after a card goes on": {
			fromText, "<attachment id=\"a\"/>  \n<attachment id=\"gone\"/>sand\n\n<attachment id=\"\"/>oil", []plaintext.Card{a}, "saw\nsand\n\noil",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, tt.of(tt.content, tt.cards...))
		})
	}
}

func TestOf_UnwrapsFinalResponse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"whatever the order":             {`{"finalResponse":"412","thoughts":"sum it"}`, "412"},
		"with space around them":         {" {\"thoughts\": \"sum it\", \"finalResponse\": \" 412 \"}\r\n", "412"},
		"and lose their tags, too":       {`{"finalResponse":"412<attachment id=\"1\"></attachment>"}`, "412"},
		"and escaped ones before a tag":  {`{"finalResponse":"412\u003cattachment id=\"1\"\u003e"}<attachment id="2"/>`, "412"},
		"and may be numbers":             {`{"finalResponse":412}`, "412"},
		"and may be empty":               {`{"thoughts":"sum it","finalResponse":""}`, ""},
		"but not null":                   {`{"thoughts":"sum it","finalResponse":null}`, `{"thoughts":"sum it","finalResponse":null}`},
		"but not an object":              {`{"finalResponse":{"text":"412"}}`, `{"finalResponse":{"text":"412"}}`},
		"but not a list":                 {`{"finalResponse":["412"]}`, `{"finalResponse":["412"]}`},
		"but not true or false":          {`{"finalResponse":true}`, `{"finalResponse":true}`},
		"but not without one":            {`{"thoughts":"sum it"}`, `{"thoughts":"sum it"}`},
		"but not inside of others":       {`{"x":{"finalResponse":"412"}}`, `{"x":{"finalResponse":"412"}}`},
		"but not among text":             {`JSON: {"finalResponse":"412"}`, `JSON: {"finalResponse":"412"}`},
		"but not broken ones":            {`{"finalResponse":"412"`, `{"finalResponse":"412"`},
		"but not requests for a warm-up": {`{"IsWarmupRequest":"true"}`, `{"IsWarmupRequest":"true"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromText(tt.content))
		})
	}
	typed := plaintext.Message{Prompt: true, Content: `{"finalResponse":"412"}`}
	assert.Equal(t, typed.Content, plaintext.Of(typed), "what a person typed stays as it is")
}

func TestOf_NormalizesLineEnds(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a\n\nb\nc", fromText("\r\na\r\n\r\nb\rc\r\n"))
}
