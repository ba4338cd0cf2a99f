// SPDX-License-Identifier: Apache-2.0

package plaintext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCard_TextOfElements(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ card, want string }{
		"each block is a line":                       {`{"type":"AdaptiveCard","body":[{"type":"TextBlock","text":"saw"},{"type":"TextBlock","text":"plane"}]}`, "saw\nplane"},
		"members come in any order":                  {`{"body":[{"text":"saw","type":"TextBlock"}],"type":"AdaptiveCard"}`, "saw"},
		"numbers are text":                           {`{"body":[{"type":"TextBlock","text":412}]}`, "412"},
		"runs of rich text are joined":               {`{"body":[{"type":"RichTextBlock","inlines":["cut ",{"type":"TextRun","text":"the"},{"type":"TextRun","text":" board"},{"type":"IconRun","name":"Saw","text":"no"},null]}]}`, "cut the board"},
		"the text of a citation is in brackets":      {`{"body":[{"type":"RichTextBlock","inlines":["boards: 40",{"type":"CitationRun","text":"1","referenceIndex":1},{"type":"CitationRun","referenceIndex":2}]}]}`, "boards: 40[1]"},
		"containers are read":                        {`{"body":[{"type":"Container","items":[{"type":"TextBlock","text":"saw"}]}]}`, "saw"},
		"columns are read":                           {`{"body":[{"type":"ColumnSet","columns":[{"type":"Column","items":[{"type":"TextBlock","text":"a"}]},{"type":"Column","items":[{"type":"TextBlock","text":"b"}]}]}]}`, "a\nb"},
		"a fact is title and value":                  {`{"body":[{"type":"FactSet","facts":[{"title":"wood","value":"oak"},{"title":"boards","value":40}]}]}`, "wood: oak\nboards: 40"},
		"a title that ends in a colon gets no other": {`{"body":[{"type":"FactSet","facts":[{"title":"wood:","value":"oak"},{"title":"木：","value":"樫"},{"title":"glue: ","value":"hide"}]}]}`, "wood: oak\n木: 樫\nglue: hide"},
		"a fact without title gets no colon":         {`{"body":[{"type":"FactSet","facts":[{"title":"","value":"oak"},{"value":"ash"},{"title":"pine"},{"title":"elm:","value":" "},{}]}]}`, "oak\nash\npine\nelm:"},
		"hidden elements are left out":               {`{"body":[{"type":"TextBlock","text":"a","isVisible":false},{"isVisible":true,"type":"TextBlock","text":"b"},{"type":"Container","items":[{"type":"TextBlock","text":"c"}],"isVisible":false,"fallback":{"type":"TextBlock","text":"d"}},{"type":"RichTextBlock","inlines":["e",{"type":"TextRun","text":"f","isVisible":false}]}]}`, "b\ne"},
		"a hidden cell remains as an empty one":      {`{"body":[{"type":"Table","rows":[{"cells":[{"isVisible":false,"items":[{"type":"TextBlock","text":"a"}]},{"items":[{"type":"TextBlock","text":"b"}]}]}]}]}`, "| b"},
		"badges are text":                            {`{"body":[{"type":"Badge","text":"New","icon":"Star","tooltip":"no"}]}`, "New"},
		"cards of Action.ShowCard are text":          {`{"body":[{"type":"ActionSet","actions":[{"type":"Action.ShowCard","card":{"body":[{"type":"TextBlock","text":"b"}]},"title":"a"}]}],"actions":[{"type":"Action.ShowCard","title":"c","card":{"type":"AdaptiveCard","body":[{"type":"TextBlock","text":"d"}]}}]}`, "a\nb\nc\nd"},
		"an element without text has its fallback":   {`{"body":[{"type":"Rating","value":4,"fallback":{"type":"TextBlock","text":"4 stars"}},{"type":"NewBox","fallback":{"type":"Container","items":[{"type":"TextBlock","text":"a"}]},"items":[{"type":"TextBlock","text":" "}]},{"type":"RichTextBlock","inlines":["b",{"type":"IconRun","fallback":{"type":"TextRun","text":"c"}}]}]}`, "4 stars\na\nbc"},
		"an element with text has no fallback":       {`{"body":[{"type":"TextBlock","text":"a","fallback":{"type":"TextBlock","text":"b"}},{"type":"NewBox","items":[{"type":"TextBlock","text":"c"}],"fallback":{"type":"TextBlock","text":"d"}},{"type":"NewBox","fallback":"drop"}]}`, "a\nc"},
		"a fallback may have a fallback":             {`{"body":[{"type":"NewBox","fallback":{"type":"OldBox","fallback":{"type":"TextBlock","text":"a"}}}]}`, "a"},
		"tabs have a title":                          {`{"body":[{"type":"TabSet","pages":[{"type":"TabPage","items":[{"type":"TextBlock","text":"oak"}],"title":"Woods"},{"type":"TabPage","title":"Tools","items":[]}]}]}`, "Woods\noak\nTools"},
		"accordion pages have a title":               {`{"body":[{"type":"Accordion","pages":[{"type":"AccordionPage","headerTitle":"Woods","items":[{"type":"TextBlock","text":"oak"}]}]}]}`, "Woods\noak"},
		"labels and choices of inputs are text":      {`{"body":[{"type":"Input.Text","id":"MessageTextField","label":"Wood","placeholder":"no"},{"type":"Input.Toggle","title":"planed","label":"Finish"},{"type":"Input.Toggle","title":"sanded"},{"type":"Input.ChoiceSet","choices":[{"title":"40","value":"1"},{"title":"80","value":"2"}],"label":"Grit"}]}`, "Wood\nFinish\nplaned\nsanded\nGrit\n40\n80"},
		"rows are lines with separated cells":        {`{"body":[{"type":"Table","columns":[{"width":1}],"rows":[{"cells":[{"items":[{"type":"TextBlock","text":"a"},{"type":"TextBlock","text":"b"}]},{"items":[]},{"items":[{"type":"RichTextBlock","inlines":["c","d"]}]}]},{"cells":[]}]}]}`, "a b |  | cd"},
		"code is text":                               {`{"body":[{"type":"CodeBlock","codeSnippet":"cut(b)","language":"Python"}]}`, "cut(b)"},
		"carousel pages are read":                    {`{"body":[{"type":"Carousel","pages":[{"type":"CarouselPage","items":[{"type":"TextBlock","text":"a"}]}]}]}`, "a"},
		"children of unknown elements are read":      {`{"body":[{"type":"NewBox","items":[{"type":"TextBlock","text":"a"}]}]}`, "a"},
		"the own text of unknown elements is not":    {`{"body":[{"type":"NewBox","text":"a","title":"b","value":"c"},{"type":"Input.Text","value":"d"}]}`, ""},
		"a single element may replace a list":        {`{"body":{"type":"TextBlock","text":"a"}}`, "a"},
		"nested lists are read":                      {`{"body":[[{"type":"TextBlock","text":"a"}]]}`, "a"},
		"other actions are ignored":                  {`{"body":[{"type":"ActionSet","actions":[{"type":"Action.OpenUrl","title":"a","url":"https://yard.example"}]}],"actions":[{"title":"c"}]}`, ""},
		"descriptions of images are ignored":         {`{"body":[{"type":"Image","altText":"a","url":"https://yard.example"},{"type":"TextBlock","text":"b","selectAction":{"title":"c"}}]}`, "b"},
		"members of another type are ignored":        {`{"body":[{"type":"TextBlock","text":["a"]},{"type":{},"text":"b"},{"type":"TextBlock","id":[],"text":"c"},3,"d",null],"items":"e","facts":7}`, "c"},
		"blank blocks are left out":                  {`{"body":[{"type":"TextBlock","text":" \r\n"},{"type":"TextBlock","text":" a\r\n"}]}`, "a"},
		"Markdown and other tags are kept":           {`{"body":[{"type":"TextBlock","text":"**a** <b>c</b> &lt; [d](https://d.example)"}]}`, "**a** <b>c</b> &lt; [d](https://d.example)"},
		"attachment tags are removed":                {`{"body":[{"type":"TextBlock","text":"a<attachment id=\"1\"></attachment>"}]}`, "a"},
		"invalid JSON has no text":                   {`{"body":[{"type":"TextBlock","text":"a"}]`, ""},
		"a card with trailing data has no text":      {`{"body":[{"type":"TextBlock","text":"a"}]} x`, ""},
		"a string has no text":                       {`"a"`, ""},
		"null has no text":                           {`null`, ""},
		"an empty card has no text":                  {``, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromCard(tt.card))
		})
	}
}

func TestCard_LimitsDepth(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string {
		return `{"body":[` + strings.Repeat(`{"items":[`, depth) + `{"type":"TextBlock","text":"deep"}` + strings.Repeat(`]}`, depth) + `,{"type":"TextBlock","text":"flat"}]}`
	}
	assert.Equal(t, "deep\nflat", fromCard(nested(31)))
	assert.Equal(t, "flat", fromCard(nested(32)))
}

func TestCard_OmitsMessageThatRepeatsOtherBlocks(t *testing.T) {
	t.Parallel()
	const other = `{"type":"TextBlock","text":"Two deliveries of oak arrive this week, see [Boards from Hallvik](https://yard.example/d/411 \"x\")[1](https://yard.example/d/411)."}`
	message := func(text string) string { return `{"type":"TextBlock","id":"MessageTextField","text":"` + text + `"}` }
	block := func(text string) string { return `{"type":"TextBlock","text":"` + text + `"}` }
	const seen = "Two deliveries of oak arrive this week, see [Boards from Hallvik](https://yard.example/d/411 \"x\")[1](https://yard.example/d/411)."
	for name, tt := range map[string]struct {
		blocks []string
		want   string
	}{
		"a message with citations is left out": {
			[]string{other, message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^].")},
			seen,
		},
		"a message with entity tags is left out": {
			[]string{other, message("Two deliveries of oak arrive this week, see <File>Boards from Hallvik</File>[^2^].")},
			seen,
		},
		"a message before the other blocks is left out": {
			[]string{message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^]."), other},
			seen,
		},
		"a message that repeats two blocks together is left out": {
			[]string{block("Oak is hard and it is heavy."), block("Pine is soft and it is light."), message("Oak is hard and it is heavy. Pine is soft and it is light.")},
			"Oak is hard and it is heavy.\nPine is soft and it is light.",
		},
		"a message in a script without spaces is left out": {
			[]string{block("今週はオークの板が二回届きます。[1](https://yard.example)"), message("今週はオークの板が二回届きます。[^1^]")},
			"今週はオークの板が二回届きます。[1](https://yard.example)",
		},
		"a short message without the links is left out": {
			[]string{block("[Oak](https://a.example/b/c) [ash](https://a.example/d/e)"), message("Oak ash")},
			"[Oak](https://a.example/b/c) [ash](https://a.example/d/e)",
		},
		"a short message with entity tags is left out": {
			[]string{block("Oak ash"), message("<File>Oak</File> <Person>ash</Person>")},
			"Oak ash",
		},
		"a short message with citations is left out": {
			[]string{block("Oak ash"), message("Oak[^1^] ash[2]")},
			"Oak ash",
		},
		"a message with the same index is left out": {
			[]string{block("Cut boards[0] first."), message("Cut boards[0] first.")},
			"Cut boards[0] first.",
		},
		"a message with another sentence is kept": {
			[]string{other, message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^]. Sign for them.")},
			seen + "\nTwo deliveries of oak arrive this week, see Boards from Hallvik[^2^]. Sign for them.",
		},
		"a message with another number is kept": {
			[]string{block("The oak for the twelve chairs of the town hall costs 4,000 EUR."), message("The oak for the twelve chairs of the town hall costs 9,000 EUR.")},
			"The oak for the twelve chairs of the town hall costs 4,000 EUR.\nThe oak for the twelve chairs of the town hall costs 9,000 EUR.",
		},
		"a message with another emoji is kept": {
			[]string{block("👍"), message("👎")},
			"👍\n👎",
		},
		"a message with another argument is kept": {
			[]string{block("Call f[0](oak)."), message("Call f[0](ash).")},
			"Call f[0](oak).\nCall f[0](ash).",
		},
		"a message that is only a citation is kept": {
			[]string{block(" "), message("[1]")},
			"[1]",
		},
		"a message with more detail is kept": {
			[]string{other, message("Two deliveries of oak. They come by boat, and somebody has to be there and sign for them.")},
			seen + "\nTwo deliveries of oak. They come by boat, and somebody has to be there and sign for them.",
		},
		"a message with another content is kept": {
			[]string{other, message("The yard is closed on Friday.")},
			seen + "\nThe yard is closed on Friday.",
		},
		"a message beside blank blocks is kept": {
			[]string{block(" "), message("Oak it is[^1^].")},
			"Oak it is[^1^].",
		},
		"a message whose words are in another order is kept": {
			[]string{block("Cut oak, then ash."), message("Cut ash, then oak.")},
			"Cut oak, then ash.\nCut ash, then oak.",
		},
		"a message of which the others have every word in order is left out": {
			[]string{block("The answer is not yes."), message("Answer: **yes**")},
			"The answer is not yes.\nAnswer: **yes**",
		},
		"a message that is another number is kept": {
			[]string{block("40"), message("41")},
			"40\n41",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromCard(`{"body":[`+strings.Join(tt.blocks, ",")+`]}`))
		})
	}
}
