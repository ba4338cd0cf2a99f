package interaction_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func textOf(contentType, content string, attachments ...interaction.Attachment) string {
	i := interaction.Interaction{
		Type: interaction.TypeAIResponse, Body: interaction.Body{ContentType: contentType, Content: content}, Attachments: attachments,
	}
	return i.Text()
}

func cardAttachment(id, text string) interaction.Attachment {
	return interaction.Attachment{
		ID: id, ContentType: "application/vnd.microsoft.card.adaptive", Content: `{"body":[{"type":"TextBlock","text":"` + text + `"}]}`,
	}
}

func TestAttachmentTagsAreTakenOut(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"plain":                         {`glue<attachment id="19:m@thread.v2"></attachment>`, "glue"},
		"escaped":                       {`glue&lt;attachment id="19:m@thread.v2"&gt;&lt;/attachment&gt;`, "glue"},
		"escaped with its quotes":       {`glue&lt;attachment id=&quot;19:m&quot;&gt;&lt;/attachment&gt;`, "glue"},
		"escaped twice with its quotes": {`glue&amp;lt;attachment id=&amp;quot;1&amp;quot;&amp;gt;&amp;lt;/attachment&amp;gt;`, "glue"},
		"escaped twice":                 {`glue&amp;lt;attachment id="1"&amp;gt;&amp;lt;/attachment&amp;gt;`, "glue"},
		"with an empty id":              {`glue<attachment id=""></attachment>`, "glue"},
		"closed in itself":              {`glue<attachment id="1"/> and clamp`, "glue and clamp"},
		"closed in itself with space":   {`glue <attachment id="1" /> and clamp`, "glue  and clamp"},
		"never closed":                  {`glue<attachment id="1"> and clamp`, "glue and clamp"},
		"with single quotes":            {`glue<attachment id='a>b'></attachment>`, "glue"},
		"without quotes":                {`glue<attachment id=1></attachment>`, "glue"},
		"with space in it":              {"glue<attachment\n id = \"1\" class=\"x\"\t></attachment>", "glue"},
		"between words":                 {`glue<attachment id="1"></attachment>clamp`, "glue clamp"},
		"before a full stop":            {`glue<attachment id="1"></attachment>.`, "glue."},
		"around something":              {`glue <attachment id="1">this</attachment>`, "glue this"},
		"cut off in the id":             {`glue<attachment id="19:meeting_Zm9v`, "glue"},
		"cut off in the id, escaped":    {`glue&lt;attachment id=&quot;19:meeting_Zm9v`, "glue"},
		"cut off before the id":         {`glue<attachment`, "glue"},
		"cut off after the id":          {`glue<attachment id="1"`, "glue"},
		"cut off by another tag":        {`glue<attachment id="1" <b>`, "glue <b>"},
		"cut off, with text behind":     {`glue <attachment id="19:m and clamp`, "glue  and clamp"},
		"cut off by an escaped tag":     {`glue &lt;attachment id=&quot;1&quot; &lt;b&gt;`, "glue  &lt;b&gt;"},
		"such that a new one is left":   {`glue<<attachment id=""/>attachment id="1">`, `glue< attachment id="1">`},
		"or one with a part of it":      {`glue <attachment <attachment id=""/>id="1">`, `glue  id="1">`},
		"or one with more parts of it":  {`glue <attachment id<attachment id=""/>="1">`, `glue ="1">`},
		"but not what a person wrote":   {`an <Attachment>, an <attachment type="1">x</attachment>, an &lt;attachment&gt;`, `an <Attachment>, an <attachment type="1">x</attachment>, an &lt;attachment&gt;`},
		"but not in another case":       {`<Attachment id="1">x</Attachment>`, `<Attachment id="1">x</Attachment>`},
		"but not an end tag too many":   {`glue<attachment id="1"></attachment> and </attachment>`, `glue and </attachment>`},
		"but not other tags":            {`use <attachments> or <b> & <attach>`, `use <attachments> or <b> & <attach>`},
		"but not the word":              {`an attachment id="1" > 2`, `an attachment id="1" > 2`},
		"but not other escaped things":  {`a &lt; b &amp;&amp; &lt;b&gt; &eacute;`, `a &lt; b &amp;&amp; &lt;b&gt; &eacute;`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, textOf("text", tt.content))
		})
	}
}

func TestCardsAreReadWhereTheBodyPointsAtThem(t *testing.T) {
	t.Parallel()
	a, b := cardAttachment("a", "saw"), cardAttachment("b", "plane")
	file := interaction.Attachment{ID: "f", ContentType: "reference", Name: "drawing.dwg", Content: `{"body":[{"type":"TextBlock","text":"no"}]}`}
	for name, tt := range map[string]struct {
		contentType, content string
		attachments          []interaction.Attachment
		want                 string
	}{
		"in the order of the tags":         {"html", `<attachment id="b"></attachment><attachment id="a"></attachment>`, []interaction.Attachment{a, b}, "plane\nsaw"},
		"only those":                       {"html", `<attachment id="b"></attachment>`, []interaction.Attachment{a, b}, "plane"},
		"once":                             {"text", `<attachment id="b"/> or <attachment id="b"/>`, []interaction.Attachment{b}, "plane\nor"},
		"among the text":                   {"text", `First <attachment id="a"/>then: <attachment id="b"/>. Done`, []interaction.Attachment{a, b}, "First\nsaw\nthen:\nplane\n. Done"},
		"by an escaped tag":                {"text", `&lt;attachment id="a"&gt;`, []interaction.Attachment{a, b}, "saw"},
		"by a tag with escaped quotes":     {"text", `&lt;attachment id=&quot;a&quot;&gt;&lt;/attachment&gt; it`, []interaction.Attachment{a, b}, "saw\nit"},
		"by an escaped tag in HTML":        {"html", `&lt;attachment id=&quot;a&quot;&gt;&lt;/attachment&gt;`, []interaction.Attachment{a, b}, "saw"},
		"by an id with entities":           {"html", `<attachment id="a&amp;b"></attachment>`, []interaction.Attachment{cardAttachment("a&b", "saw"), b}, "saw"},
		"of the same id all":               {"html", `<attachment id="a"></attachment>`, []interaction.Attachment{a, cardAttachment("a", "sand")}, "saw\nsand"},
		"whatever the case of the types":   {"HTML", `<p>x</p><attachment id="a"></attachment>`, []interaction.Attachment{{ID: "a", ContentType: "Application/vnd.microsoft.card.Adaptive", Content: a.Content}}, "x\nsaw"},
		"all where it has neither":         {"html", ` `, []interaction.Attachment{a, file, b}, "saw\nplane"},
		"all where it is blank HTML":       {"html", `<div>&nbsp;</div>`, []interaction.Attachment{a}, "saw"},
		"all where it points at nothing":   {"html", `<attachment id="gone"></attachment><attachment id=""></attachment>`, []interaction.Attachment{cardAttachment("", "saw")}, "saw"},
		"all where it points at a file":    {"html", `<attachment id="f"></attachment>`, []interaction.Attachment{file, a}, "saw"},
		"none by an empty id":              {"text", `Here it is.<attachment id=""></attachment>`, []interaction.Attachment{cardAttachment("", "saw")}, "Here it is."},
		"none where it has text alone":     {"text", `Here it is.`, []interaction.Attachment{a}, "Here it is."},
		"not files":                        {"text", `<attachment id="f"></attachment>`, []interaction.Attachment{file}, ""},
		"not in the place of an empty one": {"html", `<attachment id="e"></attachment>`, []interaction.Attachment{cardAttachment("e", ""), a}, ""},
		"and the text after a card goes on": {
			"text", "<attachment id=\"a\"/>  \n<attachment id=\"gone\"/>sand\n\n<attachment id=\"\"/>oil", []interaction.Attachment{a}, "saw\nsand\n\noil",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, textOf(tt.contentType, tt.content, tt.attachments...))
		})
	}
}

func TestFinalResponsesAreUnwrapped(t *testing.T) {
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
			assert.Equal(t, tt.want, textOf("text", tt.content))
		})
	}
	typed := interaction.Interaction{Type: interaction.TypeUserPrompt, Body: interaction.Body{Content: `{"finalResponse":"412"}`}}
	assert.Equal(t, typed.Body.Content, typed.Text(), "what a person typed stays as it is")
}

func TestTextEndsItsLinesWithLineFeeds(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a\n\nb\nc", textOf("text", "\r\na\r\n\r\nb\rc\r\n"))
}
