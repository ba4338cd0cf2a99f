//go:build unix

package interaction_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

var attachmentTag = regexp.MustCompile(`(<|&lt;|&amp;lt;)attachment\s+id\s*=`)

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(samples, "*.json"))
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Clean(file))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"id":1e3,"etag":{},"mentions":[{"mentionId":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := interaction.Parse(data)
		if err != nil {
			assert.Nil(t, i)
			return
		}
		assert.True(t, json.Valid(data), "what is parsed is JSON")
		assert.NotEmpty(t, strings.TrimSpace(i.ID))
		assert.True(t, utf8.ValidString(i.ID+i.SessionID+i.AppClass+i.Body.Content))
		again, err := interaction.Parse(data)
		require.NoError(t, err)
		assert.Equal(t, i, again)
		checkText(t, i)
		r := interaction.Received{Interaction: *i, Change: interaction.Updated}
		assert.Len(t, r.UID(), 32)
		r.HappenedAt()
		assert.LessOrEqual(t, strings.Count(i.App(), "."), 1, "one part, or the two before a GUID")
	})
}

func FuzzText(f *testing.F) {
	f.Add(true, `<p>a<attachment id="1"></attachment><ul><li>b`, `{"body":[{"type":"TextBlock","text":"a"},{"type":"TextBlock","id":"MessageTextField","text":"[a](b)[^1^]"}]}`)
	f.Add(false, `a&lt;attachment id=&quot;1&quot;&gt;&lt;/attachment&gt;b<attachment id='`, `{"body":[{"type":"Table","rows":[{"cells":[{"items":[]}]}]}]}`)
	f.Add(true, `<attach<attachment/>ment id="1"><script><table><tr><td>a<td>`, `{"inlines":["<attach","<attachment>","ment >"]}`)
	f.Add(false, `{"thoughts":"a","finalResponse":"b"}<attachment id="1"/>`, `{"body":[{"type":"TextBlock","text":"{\"finalResponse\":\"<attachment>\"}"}]}`)
	f.Fuzz(func(t *testing.T, html bool, content, card string) {
		i := &interaction.Interaction{
			Body:        interaction.Body{ContentType: map[bool]string{true: "html", false: "text"}[html], Content: content},
			Attachments: []interaction.Attachment{{ID: "1", ContentType: "application/vnd.microsoft.card.adaptive", Content: card}},
		}
		checkText(t, i)
		if !html && !strings.ContainsAny(content, "<&{\r") && strings.TrimSpace(content) != "" {
			assert.Equal(t, strings.TrimSpace(content), i.Text(), "a text body without tags is its own text")
		}
	})
}

func checkText(t *testing.T, i *interaction.Interaction) {
	t.Helper()
	text := i.Text()
	assert.Equal(t, text, i.Text())
	assert.Equal(t, strings.TrimSpace(text), text)
	assert.NotRegexp(t, attachmentTag, text)
	assert.NotContains(t, text, "\r")
}

// FuzzTextLinearTime looks for what takes more than linear time when it is said over and over, in a body and in a card.
func FuzzTextLinearTime(f *testing.F) {
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
			assertLinear(t, func(size int) func() {
				content := filled(size, head, unit, tail)
				return func() { do(content) }
			}, 4<<10, 32<<10)
		}
		check(func(content string) { textOf("text", content) })
		check(func(content string) { textOf("html", content) })
		check(func(content string) { textOfCard(content) })
		check(func(content string) { textOfCard(cardThatSaysTwice(t, content)) })
	})
}
