//go:build unix

package plaintext_test

import (
	"encoding/json"
	"html"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lineartest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

func TestOf_HostileBodyTakesLinearTime(t *testing.T) {
	for name, tt := range map[string]struct{ head, body, tail string }{
		"tags":                      {body: `<attachment id="a"></attachment>`},
		"unclosed tags":             {body: `<attachment `},
		"tags with unclosed quotes": {body: `<attachment id="`},
		"tags with overlapping quotes of both kinds": {body: `<attachment id="<attachment id='`},
		"tags with unclosed escaped quotes":          {body: `&lt;attachment id=&quot; &lt;attachment id=&apos; &lt;attachment id=&#34; `},
		"tags that the removal of a tag could form":  {body: `<attach<attachment/>`},
		"endless attributes":                         {head: `<attachment `, body: `a `},
		"slashes":                                    {head: `<attachment `, body: `/`},
		"equals signs":                               {head: `<attachment `, body: `a=`},
		"an endless value":                           {head: `<attachment id=`, body: `a`},
		"a tag with many attributes":                 {head: `<p `, body: `a="b" `, tail: `>`},
		"ampersands":                                 {body: `&`},
		"escaped brackets":                           {body: `&lt;`},
		"doubly escaped brackets":                    {body: `&amp;lt;/`},
		"less-than signs":                            {body: `<`},
		"entities":                                   {body: `&nbsp;&amp;&lt;`},
		"nested lists":                               {body: `<ol><li>a`},
		"nested blocks":                              {body: `<div>a`},
		"breaks":                                     {body: `<br>`},
		"unclosed scripts":                           {body: `<script>`},
		"scripts and styles with the end tag of the other": {body: `<script></style><style></script>`},
		"unclosed comments":             {body: `<!--`},
		"nested tables":                 {body: `<table><tr><td>a`},
		"cells":                         {body: `<td>`},
		"spaces":                        {body: " \n"},
		"spaces and breaks":             {body: " <br> "},
		"carriage returns":              {body: "\r\n\r"},
		"a response wrapped many times": {body: `{"finalResponse":`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, of := range []func(string, ...plaintext.Card) string{fromText, fromHTML} {
				lineartest.Assert(t, func(size int) func() {
					content := lineartest.Fill(size, tt.head, tt.body, tt.tail)
					return func() { of(content) }
				}, lineartest.Sizes()...)
			}
		})
	}
}

func TestCard_HostileContentTakesLinearTime(t *testing.T) {
	around := func(open, body, shut string) (string, string, string) {
		return strings.Repeat(open, 30), body, strings.Repeat(shut, 30)
	}
	type shape struct{ head, body, tail string }
	of := func(head, body, tail string) shape { return shape{head, body, tail} }
	for name, tt := range map[string]shape{
		"deep containers": of(around(`{"items":[`, `{"type":"TextBlock","text":"a"},`, `]}`)),
		"deep lists":      {`{"body":` + strings.Repeat(`[`, 50), `{"type":"TextBlock","text":"a"},`, strings.Repeat(`]`, 50) + `}`},
		"deep rows":       of(around(`{"cells":[`, `{"type":"TextBlock","text":"a"},`, `]}`)),
		"deep inlines":    of(around(`{"inlines":[`, `"a",`, `]}`)),
		"no end":          {body: `{"items":[`},
		"empty elements":  {`{"body":[`, `{},`, `{}]}`},
		"messages":        {`{"body":[`, `{"type":"TextBlock","id":"MessageTextField","text":"a b"},`, `{}]}`},
		"unknown members": {`{`, `"x":{},`, `"y":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			lineartest.Assert(t, func(size int) func() {
				content := strings.ReplaceAll(lineartest.Fill(size, tt.head, tt.body, tt.tail), ",]", "]")
				return func() { fromCard(content) }
			}, lineartest.Sizes()...)
		})
	}
	for name, seen := range map[string]string{
		"the same long message twice": "one two three ",
		"unclosed links":              "](",
		"unclosed citations":          "[1",
		"brackets":                    "[",
		"unclosed tags":               "<a",
		"an endless word":             "a",
		"a script without spaces":     "木",
		"links with unclosed targets": "[a](",
	} {
		t.Run(name, func(t *testing.T) {
			lineartest.Assert(t, func(size int) func() {
				content := cardWithRepeatedText(t, lineartest.Fill(size, "", seen, ""))
				return func() { fromCard(content) }
			}, lineartest.Sizes()...)
		})
	}
}

// cardWithRepeatedText returns a card that holds a response twice, as the cards of a chat do.
func cardWithRepeatedText(t *testing.T, answer string) string {
	t.Helper()
	quoted, err := json.Marshal(answer)
	require.NoError(t, err)
	return `{"body":[{"type":"TextBlock","text":` + string(quoted) + `},` +
		`{"type":"TextBlock","id":"MessageTextField","text":` + string(quoted) + `}]}`
}

// fragments are the parts of generated hostile text, each plain, escaped once, and escaped twice.
var fragments = []string{
	`<attachment `, `<attachment id=`, `<attachment id="`, `<attachment id='a`, `<attachment id="a" `, `<attachment id="a">`, `<attachment id="a"/>`,
	`</attachment>`, `</attachment `, `<Attachment>`, ` id="`, `"`, `'`, `=`, `/`, `>`, `<`, `&`, `&#`, `&quot;`, `&nbsp;`, `;`, ` `, "\n", `a`, `a="b" `,
	`<b>`, `</b>`, `<b`, `<p title="`, `<ol start="5"><li value='7'>a`, `<ul><li>`, `</ul>`, `<div>`, `<pre>`, `<code>a<br>`, `<codeblock class="">`,
	`<td>`, `<table><tr><td>a`, `<!--`, `-->`, `<![CDATA[`, `]]>`, `<!DOCTYPE `, `<?`, `<script>`, `</script>`, `<style>`, `<textarea>`, `<plaintext>`,
	`<img itemtype="http://schema.skype.com/Emoji" alt="`, `<emoji alt="x">`, `<https://yard.example/?a=1&amp;b=2>`, `List<String>`,
	`{"finalResponse":"`, `{"finalResponse":{`, `[1](https://yard.example)`, `](`, `](https://`, `[^1^]`, `[1`, `<File>`, `</File>`, `</`, `**`,
}

func TestOf_GeneratedUnitsTakeLinearTime(t *testing.T) {
	type reader struct {
		read  func(content string)
		sizes []int
	}
	textBody := reader{func(content string) { fromText(content) }, lineartest.Sizes()}
	// These take much longer, above all with the race detector.
	htmlBody := reader{func(content string) { fromHTML(content) }, lineartest.Sizes()[:2]}
	card := reader{func(content string) { fromCard(cardWithRepeatedText(t, content[len(content)/2:])) }, lineartest.Sizes()[:2]}
	for _, fragment := range fragments {
		once := html.EscapeString(fragment)
		for _, tt := range []struct {
			unit    string
			readers []reader
		}{
			{fragment, []reader{textBody, htmlBody, card}},
			{once, []reader{textBody, htmlBody}},
			{html.EscapeString(once), []reader{textBody}}, // in HTML it is equal to text that is escaped once
		} {
			t.Run(tt.unit, func(t *testing.T) {
				for _, r := range tt.readers {
					lineartest.Assert(t, func(size int) func() {
						content := lineartest.Fill(size, "", tt.unit, "")
						return func() { r.read(content) }
					}, r.sizes...)
				}
			})
		}
	}
}

// TestOf_PairsOfFragmentsTakeLinearTime finds what single fragments do not: a quote that only another kind of quote follows.
func TestOf_PairsOfFragmentsTakeLinearTime(t *testing.T) {
	for _, first := range fragments[:10] {
		for _, second := range fragments {
			for _, of := range []func(string, ...plaintext.Card) string{fromText, fromHTML} {
				lineartest.Assert(t, func(size int) func() {
					content := lineartest.Fill(size, "", first+html.EscapeString(second), "")
					return func() { of(content) }
				}, 8<<10, 64<<10)
			}
			require.False(t, t.Failed(), "%q and %q", first, second)
		}
	}
}
