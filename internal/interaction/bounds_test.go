package interaction_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Both sizes of a hostile input: the larger is what anything worse than linear needs far longer for.
const (
	small = 16 << 10
	large = 8 * small
)

// assertLinear wants the larger input to be done at once or, where the machine is slow, to take no more of the time
// of the smaller one than its size explains. These tests are not parallel, for they look at the clock.
func assertLinear(t *testing.T, do func(size int)) {
	t.Helper()
	measure := func(size int) time.Duration {
		start := time.Now()
		do(size)
		return time.Since(start)
	}
	slow := measure(large)
	if slow < 200*time.Millisecond {
		return
	}
	fast := measure(small)
	for range 2 {
		slow = min(slow, measure(large))
		fast = max(fast, measure(small))
	}
	assert.Less(t, slow, 3*large/small*fast)
}

// filled is a text of this size, of the same thing over and over between a head and a tail.
func filled(size int, head, body, tail string) string {
	return head + strings.Repeat(body, size/len(body)) + tail
}

func TestTheTextOfAHostileBodyTakesLinearTime(t *testing.T) {
	for name, tt := range map[string]struct{ head, body, tail string }{
		"tags":                        {body: `<attachment id="a"></attachment>`},
		"tags that never end":         {body: `<attachment `},
		"tags whose quotes never end": {body: `<attachment id="`},
		"tags whose quotes of both kinds overlap": {body: `<attachment id="<attachment id='`},
		"tags whose escaped quotes never end":     {body: `&lt;attachment id=&quot; &lt;attachment id=&apos; &lt;attachment id=&#34; `},
		"tags that a removed tag leaves":          {body: `<attach<attachment/>`},
		"attributes that never end":               {head: `<attachment `, body: `a `},
		"slashes":                                 {head: `<attachment `, body: `/`},
		"equals signs":                            {head: `<attachment `, body: `a=`},
		"a value that never ends":                 {head: `<attachment id=`, body: `a`},
		"a tag with many attributes":              {head: `<p `, body: `a="b" `, tail: `>`},
		"ampersands":                              {body: `&`},
		"escaped brackets":                        {body: `&lt;`},
		"doubly escaped brackets":                 {body: `&amp;lt;/`},
		"less-than signs":                         {body: `<`},
		"entities":                                {body: `&nbsp;&amp;&lt;`},
		"lists in lists":                          {body: `<ol><li>a`},
		"blocks in blocks":                        {body: `<div>a`},
		"breaks":                                  {body: `<br>`},
		"scripts that never end":                  {body: `<script>`},
		"scripts and styles that end as another":  {body: `<script></style><style></script>`},
		"comments that never end":                 {body: `<!--`},
		"tables in tables":                        {body: `<table><tr><td>a`},
		"cells":                                   {body: `<td>`},
		"spaces":                                  {body: " \n"},
		"spaces and breaks":                       {body: " <br> "},
		"carriage returns":                        {body: "\r\n\r"},
		"an answer wrapped again and again":       {body: `{"finalResponse":`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, contentType := range []string{"text", "html"} {
				assertLinear(t, func(size int) { textOf(contentType, filled(size, tt.head, tt.body, tt.tail)) })
			}
		})
	}
}

func TestTheTextOfAHostileCardTakesLinearTime(t *testing.T) {
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
			assertLinear(t, func(size int) { textOfCard(strings.ReplaceAll(filled(size, tt.head, tt.body, tt.tail), ",]", "]")) })
		})
	}
	for name, said := range map[string]string{
		"the same long message twice":   "one two three ",
		"links that never end":          "](",
		"citations that never end":      "[1",
		"brackets":                      "[",
		"tags that never end":           "<a",
		"a word that never ends":        "a",
		"a script without spaces":       "木",
		"links with targets of nothing": "[a](",
	} {
		t.Run(name, func(t *testing.T) {
			assertLinear(t, func(size int) {
				message, err := json.Marshal(filled(size, "", said, ""))
				require.NoError(t, err)
				textOfCard(`{"body":[{"type":"TextBlock","text":` + string(message) + `},` +
					`{"type":"TextBlock","id":"MessageTextField","text":` + string(message) + `}]}`)
			})
		})
	}
}

func TestParsingHostileJSONTakesLinearTime(t *testing.T) {
	for name, tt := range map[string]struct{ head, body, tail string }{
		"unknown members":   {`{"id":"1",`, `"x":[],`, `"y":1}`},
		"the same member":   {`{`, `"id":"1",`, `"id":"1"}`},
		"the same list":     {`{`, `"links":[{}],`, `"id":"1"}`},
		"a deep member":     {`{"id":"1","from":` + strings.Repeat(`{"user":`, 9_000) + `"`, "x", `"` + strings.Repeat("}", 9_001)},
		"a long id":         {`{"id":"`, "1", `"}`},
		"a long number":     {`{"id":1`, "1", `e1}`},
		"empty attachments": {`{"id":"1","attachments":[`, "{},", `{}]}`},
		"nulls in a list":   {`{"id":"1","links":[`, "null,", `null]}`},
		"escapes":           {`{"id":"`, `\\\"`, `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			assertLinear(t, func(size int) {
				_, err := interaction.Parse([]byte(filled(size, tt.head, tt.body, tt.tail)))
				assert.NoError(t, err)
			})
		})
	}
}
