//go:build unix

package plaintext_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lineartest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

var attachmentTag = regexp.MustCompile(`(<|&lt;|&amp;lt;)attachment\s+id\s*=`)

func FuzzOf(f *testing.F) {
	f.Add(true, `<p>a<attachment id="1"></attachment><ul><li>b`, `{"body":[{"type":"TextBlock","text":"a"},{"type":"TextBlock","id":"MessageTextField","text":"[a](b)[^1^]"}]}`)
	f.Add(false, `a&lt;attachment id=&quot;1&quot;&gt;&lt;/attachment&gt;b<attachment id='`, `{"body":[{"type":"Table","rows":[{"cells":[{"items":[]}]}]}]}`)
	f.Add(true, `<attach<attachment/>ment id="1"><script><table><tr><td>a<td>`, `{"inlines":["<attach","<attachment>","ment >"]}`)
	f.Add(false, `{"thoughts":"a","finalResponse":"b"}<attachment id="1"/>`, `{"body":[{"type":"TextBlock","text":"{\"finalResponse\":\"<attachment>\"}"}]}`)
	f.Fuzz(func(t *testing.T, html bool, content, card string) {
		m := plaintext.Message{HTML: html, Content: content, Cards: []plaintext.Card{{ID: "1", Content: card}}}
		text := plaintext.Of(m)
		assert.Equal(t, text, plaintext.Of(m))
		assert.Equal(t, strings.TrimSpace(text), text)
		assert.NotRegexp(t, attachmentTag, text)
		assert.NotContains(t, text, "\r")
		if !html && !strings.ContainsAny(content, "<&{\r") && strings.TrimSpace(content) != "" {
			assert.Equal(t, strings.TrimSpace(content), text, "a text body without tags is its own text")
		}
	})
}

// FuzzLinearTime searches for units that take more than linear time when they are repeated, in a body and in a card.
func FuzzLinearTime(f *testing.F) {
	f.Add(`<attachment id="`, ` x='<attachment `, ``)
	f.Add(``, `&lt;attachment `, ``)
	f.Add(`<ol>`, `<li value="7">a</li><table><td>`, `</ol>`)
	f.Add(`[1`, `](https://`, `)`)
	f.Add(`{"finalResponse":"`, `<File>a</File>`, `"}`)
	f.Add(`{"body":[`, `{"type":"Container","items":[{"type":"Badge","text":"a"}],"fallback":{}},`, `{}]}`)
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		if unit == "" || len(head)+len(unit)+len(tail) > 1<<10 {
			return
		}
		check := func(do func(content string)) {
			lineartest.Assert(t, func(size int) func() {
				content := lineartest.Fill(size, head, unit, tail)
				return func() { do(content) }
			}, 4<<10, 32<<10)
		}
		check(func(content string) { fromText(content) })
		check(func(content string) { fromHTML(content) })
		check(func(content string) { fromCard(content) })
		check(func(content string) { fromCard(cardWithRepeatedText(t, content)) })
	})
}
