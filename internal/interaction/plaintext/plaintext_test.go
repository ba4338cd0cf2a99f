// SPDX-License-Identifier: Apache-2.0

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
		"cards are in the order of the tags":         {fromHTML, `<attachment id="b"></attachment><attachment id="a"></attachment>`, []plaintext.Card{a, b}, "plane\nsaw"},
		"other cards are left out":                   {fromHTML, `<attachment id="b"></attachment>`, []plaintext.Card{a, b}, "plane"},
		"a card is inserted once":                    {fromText, `<attachment id="b"/> or <attachment id="b"/>`, []plaintext.Card{b}, "plane\nor"},
		"cards are inserted into the text":           {fromText, `First <attachment id="a"/>then: <attachment id="b"/>. Done`, []plaintext.Card{a, b}, "First\nsaw\nthen:\nplane\n. Done"},
		"an escaped tag refers to a card":            {fromText, `&lt;attachment id="a"&gt;`, []plaintext.Card{a, b}, "saw"},
		"a tag with escaped quotes refers to a card": {fromText, `&lt;attachment id=&quot;a&quot;&gt;&lt;/attachment&gt; it`, []plaintext.Card{a, b}, "saw\nit"},
		"an escaped tag in HTML refers to a card":    {fromHTML, `&lt;attachment id=&quot;a&quot;&gt;&lt;/attachment&gt;`, []plaintext.Card{a, b}, "saw"},
		"a blank body stands for all cards":          {fromHTML, ` `, []plaintext.Card{a, b}, "saw\nplane"},
		"blank HTML stands for all cards":            {fromHTML, `<div>&nbsp;</div>`, []plaintext.Card{a}, "saw"},
		"tags that refer to no card stand for all":   {fromHTML, `<attachment id="gone"></attachment><attachment id=""></attachment>`, []plaintext.Card{cardOf("", "saw")}, "saw"},
		"an empty id refers to no card":              {fromText, `Here it is.<attachment id=""></attachment>`, []plaintext.Card{cardOf("", "saw")}, "Here it is."},
		"text without tags refers to no card":        {fromText, `Here it is.`, []plaintext.Card{a}, "Here it is."},
		"cards without text stand for all":           {fromHTML, `<attachment id="e"></attachment>`, []plaintext.Card{cardOf("e", ""), a}, "saw"},
		"the text continues after a card": {
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
		"members may be in any order":             {`{"finalResponse":"412","thoughts":"sum it"}`, "412"},
		"surrounding space is ignored":            {" {\"thoughts\": \"sum it\", \"finalResponse\": \" 412 \"}\r\n", "412"},
		"attachment tags in it are removed":       {`{"finalResponse":"412<attachment id=\"1\"></attachment>"}`, "412"},
		"an escaped tag in it before another tag": {`{"finalResponse":"412\u003cattachment id=\"1\"\u003e"}<attachment id="2"/>`, "412"},
		"a number is not unwrapped":               {`{"finalResponse":412}`, `{"finalResponse":412}`},
		"it may be empty":                         {`{"thoughts":"sum it","finalResponse":""}`, ""},
		"null is not unwrapped":                   {`{"thoughts":"sum it","finalResponse":null}`, `{"thoughts":"sum it","finalResponse":null}`},
		"an object is not unwrapped":              {`{"finalResponse":{"text":"412"}}`, `{"finalResponse":{"text":"412"}}`},
		"a list is not unwrapped":                 {`{"finalResponse":["412"]}`, `{"finalResponse":["412"]}`},
		"true or false is not unwrapped":          {`{"finalResponse":true}`, `{"finalResponse":true}`},
		"an object without finalResponse is kept": {`{"thoughts":"sum it"}`, `{"thoughts":"sum it"}`},
		"a nested finalResponse is kept":          {`{"x":{"finalResponse":"412"}}`, `{"x":{"finalResponse":"412"}}`},
		"JSON within text is kept":                {`JSON: {"finalResponse":"412"}`, `JSON: {"finalResponse":"412"}`},
		"invalid JSON is kept":                    {`{"finalResponse":"412"`, `{"finalResponse":"412"`},
		"a warm-up request is kept":               {`{"IsWarmupRequest":"true"}`, `{"IsWarmupRequest":"true"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromText(tt.content))
		})
	}
	typed := plaintext.Message{Prompt: true, Content: `{"finalResponse":"412"}`}
	assert.Equal(t, typed.Content, plaintext.Of(typed), "a prompt is never unwrapped")
}

func TestOf_NormalizesLineEnds(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a\n\nb\nc", fromText("\r\na\r\n\r\nb\rc\r\n"))
}

func TestOf_RemovesAttachmentTags(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"plain":                           {`glue<attachment id="19:m@thread.v2"></attachment>`, "glue"},
		"escaped":                         {`glue&lt;attachment id="19:m@thread.v2"&gt;&lt;/attachment&gt;`, "glue"},
		"escaped with its quotes":         {`glue&lt;attachment id=&quot;19:m&quot;&gt;&lt;/attachment&gt;`, "glue"},
		"with an empty id":                {`glue<attachment id=""></attachment>`, "glue"},
		"self-closing":                    {`glue<attachment id="1"/> and clamp`, "glue and clamp"},
		"self-closing with space":         {`glue <attachment id="1" /> and clamp`, "glue  and clamp"},
		"never closed":                    {`glue<attachment id="1"> and clamp`, "glue and clamp"},
		"with single quotes":              {`glue<attachment id='1'></attachment>`, "glue"},
		"with space in it":                {"glue<attachment\n id=\"1\" ></attachment>", "glue"},
		"before a full stop":              {`glue<attachment id="1"></attachment>.`, "glue."},
		"a tag that a user wrote is kept": {`an <Attachment>, an <attachment type="1">x</attachment>, an &lt;attachment&gt;`, `an <Attachment>, an <attachment type="1">x</attachment>, an &lt;attachment&gt;`},
		"an incomplete tag is kept":       {`glue<attachment id="1" <b> <attachment id="`, `glue<attachment id="1" <b> <attachment id="`},
		"an end tag alone is kept":        {`glue</attachment>`, `glue</attachment>`},
		"a tag in another case is kept":   {`<Attachment id="1">x</Attachment>`, `<Attachment id="1">x</Attachment>`},
		"other tags are kept":             {`use <attachments> or <b> & <attach>`, `use <attachments> or <b> & <attach>`},
		"the word attachment is kept":     {`an attachment id="1" > 2`, `an attachment id="1" > 2`},
		"other entities are kept":         {`a &lt; b &amp;&amp; &lt;b&gt; &eacute;`, `a &lt; b &amp;&amp; &lt;b&gt; &eacute;`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromText(tt.content))
		})
	}
}
