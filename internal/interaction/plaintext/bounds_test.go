// SPDX-License-Identifier: Apache-2.0

package plaintext_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// assertLinear fails if read takes time that grows faster than its input of this form. It reads 1 MiB, or with -short 16 KiB,
// and looks at the growth only where that takes so long that it may be quadratic, several times, because other processes
// disturb it.
func assertLinear(t *testing.T, head, unit, tail string, read func(content string)) {
	t.Helper()
	size := 1 << 20
	if testing.Short() {
		size = 1 << 14
	}
	timeOf := func(size int) time.Duration {
		content := head + strings.Repeat(unit, size/len(unit)) + tail
		start := time.Now()
		read(content)
		return time.Since(start)
	}
	const tries, enough = 3, time.Second
	for range tries {
		// Linear work takes 8 times as long as for an eighth of the input, quadratic work 64 times.
		if took := timeOf(size); took < enough || took < 24*timeOf(size/8) {
			return
		}
	}
	assert.Fail(t, "it takes more than linear time")
}

func TestOf_HostileTextTakesLinearTime(t *testing.T) { //nolint:paralleltest // they would disturb each other
	for name, tt := range map[string]struct{ head, unit, tail string }{
		"tags":                            {unit: `<attachment id="a"></attachment>`},
		"escaped tags":                    {unit: `&lt;attachment id=&quot;a&quot;&gt;`},
		"unclosed tags":                   {unit: `<attachment `},
		"unclosed quotes":                 {unit: `<attachment id="`},
		"unclosed quotes in escaped tags": {unit: `&lt;attachment id=&quot;`},
		"unclosed quotes before tags":     {unit: `&lt;attachment id=&quot;<attachment id='<attachment id="a">`},
		"end tags":                        {unit: `</attachment>`},
		"nested tags":                     {unit: `<attach<attachment id=""/>`},
		"a tag with much space":           {head: `<attachment `, unit: ` `},
		"an endless id":                   {head: `<attachment id="`, unit: `a`},
		"a tag with many attributes":      {head: `<p `, unit: `a="b" `, tail: `>`},
		"ampersands":                      {unit: `&`},
		"escaped brackets":                {unit: `&amp;lt;/`},
		"less-than signs":                 {unit: `<`},
		"entities":                        {unit: `&nbsp;&amp;&lt;`},
		"nested lists":                    {unit: `<ol><li>a`},
		"list items":                      {unit: `<ul><li></ul>`},
		"nested blocks":                   {unit: `<div>a`},
		"nested code":                     {unit: `<pre><code>a<br>`},
		"breaks":                          {unit: ` <br> `},
		"unclosed scripts":                {unit: `<script>`},
		"scripts and styles":              {unit: `<script></style><style></script>`},
		"unclosed comments":               {unit: `<!--`},
		"unclosed declarations":           {unit: `<![CDATA[<?`},
		"unknown tags":                    {unit: `List<String>`},
		"nested tables":                   {unit: `<table><tr><td>a`},
		"cells":                           {unit: `<td>`},
		"carriage returns":                {unit: "\r\n\r"},
		"spaces":                          {unit: " \n"},
		"a response wrapped many times":   {unit: `{"finalResponse":`},
		"a wrapped response":              {head: `{"finalResponse":"`, unit: `\u003c`, tail: `"}`},
		"unclosed links":                  {unit: `](`},
		"citations":                       {unit: `[^1^]`},
		"entity tags":                     {unit: `<File>a</File>`},
		"an endless word":                 {unit: `a`},
		"a script without spaces":         {unit: `木`},
		"words":                           {unit: `one two three `},
	} {
		t.Run(name, func(t *testing.T) {
			for _, read := range []func(content string){
				func(content string) { fromText(content) },
				func(content string) { fromHTML(content) },
				func(content string) { fromCard(cardWithRepeatedText(t, content)) },
			} {
				assertLinear(t, tt.head, tt.unit, tt.tail, read)
			}
		})
	}
}

func TestCard_HostileContentTakesLinearTime(t *testing.T) { //nolint:paralleltest // they would disturb each other
	for name, tt := range map[string]struct{ head, unit, tail string }{
		"deep containers": {strings.Repeat(`{"items":[`, 9_000/2), `{"type":"TextBlock","text":"a"},`, `{}` + strings.Repeat(`]}`, 9_000/2)},
		"deep lists":      {`{"body":` + strings.Repeat(`[`, 9_000), `{"type":"TextBlock","text":"a"},`, `{}` + strings.Repeat(`]`, 9_000) + `}`},
		"deep rows":       {strings.Repeat(`{"cells":[`, 30), `{"type":"TextBlock","text":"a"},`, `{}` + strings.Repeat(`]}`, 30)},
		"deep inlines":    {strings.Repeat(`{"inlines":[`, 30), `"a",`, `""` + strings.Repeat(`]}`, 30)},
		"no end":          {"", `{"items":[`, ""},
		"empty elements":  {`{"body":[`, `{},`, `{}]}`},
		"messages":        {`{"body":[`, `{"type":"TextBlock","id":"MessageTextField","text":"a b"},`, `{}]}`},
		"unknown members": {`{`, `"x":{},`, `"y":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			assertLinear(t, tt.head, tt.unit, tt.tail, func(content string) { fromCard(content) })
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

// A card of empty elements would take a hundred times the memory of its JSON if it were decoded.
func TestCard_HostileContentTakesLittleMemory(t *testing.T) { //nolint:paralleltest // the memory of all goroutines counts
	const size = 1 << 20
	content := `{"body":[` + strings.Repeat(`{},`, size/3) + `{}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fromCard(content)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*size))
}
