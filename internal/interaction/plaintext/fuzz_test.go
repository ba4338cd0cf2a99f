// SPDX-License-Identifier: Apache-2.0

package plaintext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

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
		assert.NotContains(t, text, "\r")
		if !html && !strings.ContainsAny(content, "<&{\r") && strings.TrimSpace(content) != "" {
			assert.Equal(t, strings.TrimSpace(content), text, "a text body without tags is its own text")
		}
		m.Content += `<attachment id="19:meeting_Zm9v@thread.v2"></attachment>`
		if !strings.Contains(content, "<") {
			assert.NotContains(t, plaintext.Of(m), "meeting_Zm9v", "no attachment tag is in the text")
		}
	})
}
