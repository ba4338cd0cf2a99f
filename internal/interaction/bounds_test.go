//go:build unix

package interaction_test

import (
	"encoding/json"
	"html"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// sizes are those of a hostile input. Each is 8 times the one before: linear work takes about 8 times as long for it,
// quadratic work 64 times.
var sizes = []int{16 << 10, 128 << 10, 1 << 20}

// atOnce is how long a byte may take in any case: 10 times as long as encoding/json takes for one here, which is more
// with the race detector. Below it, the memory that the larger size needs weighs more than the work; quadratic work on
// the largest size takes far longer.
var atOnce = sync.OnceValue(func() time.Duration {
	const size = 64 << 10
	data := []byte(filled(size, `[`, `"a",`, `""]`))
	least := time.Hour
	for range 5 {
		least = min(least, processorTime(func() { _ = json.Unmarshal(data, new(any)) }))
	}
	return max(10*least/size, 200*time.Nanosecond)
})

// assertLinear wants each size to take less than 12 times as long as the one before, or to be done at once. It compares
// processor time, which other processes hardly change, and the least of some tries, since whatever disturbs a
// measurement makes it longer. These tests are not parallel, for the time of every goroutine counts.
func assertLinear(t *testing.T, prepare func(size int) (do func()), sizes ...int) {
	t.Helper()
	const factor, tries, enough = 12, 30, 5 * time.Second
	for n := range len(sizes) - 1 {
		small, large := prepare(sizes[n]), prepare(sizes[n+1])
		limit := atOnce() * time.Duration(sizes[n+1])
		slow, fast := processorTime(large), time.Hour
		for try, sum := 0, slow; slow >= limit && (try == 0 || try < tries && sum < enough); try++ {
			if try > 0 {
				took := processorTime(large)
				slow, sum = min(slow, took), sum+took
			}
			fast = min(fast, processorTime(small))
			limit = max(limit, factor*fast)
		}
		if !assert.Less(t, slow, limit, "%d bytes, against %v for %d", sizes[n+1], fast, sizes[n]) {
			return // the next size would take far too long
		}
	}
}

func processorTime(do func()) time.Duration {
	start := used()
	do()
	return used() - start
}

func used() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
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
				assertLinear(t, func(size int) func() {
					content := filled(size, tt.head, tt.body, tt.tail)
					return func() { textOf(contentType, content) }
				}, sizes...)
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
			assertLinear(t, func(size int) func() {
				content := strings.ReplaceAll(filled(size, tt.head, tt.body, tt.tail), ",]", "]")
				return func() { textOfCard(content) }
			}, sizes...)
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
			assertLinear(t, func(size int) func() {
				content := cardThatSaysTwice(t, filled(size, "", said, ""))
				return func() { textOfCard(content) }
			}, sizes...)
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
			assertLinear(t, func(size int) func() {
				data := []byte(filled(size, tt.head, tt.body, tt.tail))
				return func() {
					_, err := interaction.Parse(data)
					assert.NoError(t, err)
				}
			}, sizes...)
		})
	}
}

// cardThatSaysTwice is a card that holds an answer twice, as those of a chat do.
func cardThatSaysTwice(t *testing.T, answer string) string {
	t.Helper()
	quoted, err := json.Marshal(answer)
	require.NoError(t, err)
	return `{"body":[{"type":"TextBlock","text":` + string(quoted) + `},` +
		`{"type":"TextBlock","id":"MessageTextField","text":` + string(quoted) + `}]}`
}

// fragments are what hostile text is generated from: each as it is, escaped once, and escaped twice.
var fragments = []string{
	`<attachment `, `<attachment id=`, `<attachment id="`, `<attachment id='a`, `<attachment id="a" `, `<attachment id="a">`, `<attachment id="a"/>`,
	`</attachment>`, `</attachment `, `<Attachment>`, ` id="`, `"`, `'`, `=`, `/`, `>`, `<`, `&`, `&#`, `&quot;`, `&nbsp;`, `;`, ` `, "\n", `a`, `a="b" `,
	`<b>`, `</b>`, `<b`, `<p title="`, `<ol start="5"><li value='7'>a`, `<ul><li>`, `</ul>`, `<div>`, `<pre>`, `<code>a<br>`, `<codeblock class="">`,
	`<td>`, `<table><tr><td>a`, `<!--`, `-->`, `<![CDATA[`, `]]>`, `<!DOCTYPE `, `<?`, `<script>`, `</script>`, `<style>`, `<textarea>`, `<plaintext>`,
	`<img itemtype="http://schema.skype.com/Emoji" alt="`, `<emoji alt="x">`, `<https://yard.example/?a=1&amp;b=2>`, `List<String>`,
	`{"finalResponse":"`, `{"finalResponse":{`, `[1](https://yard.example)`, `](`, `](https://`, `[^1^]`, `[1`, `<File>`, `</File>`, `</`, `**`,
}

func TestText_GeneratedUnitsTakeLinearTime(t *testing.T) {
	type reader struct {
		read  func(content string)
		sizes []int
	}
	textBody := reader{func(content string) { textOf("text", content) }, sizes}
	// These take many times as long, above all with the race detector.
	htmlBody := reader{func(content string) { textOf("html", content) }, sizes[:2]}
	card := reader{func(content string) { textOfCard(cardThatSaysTwice(t, content[len(content)/2:])) }, sizes[:2]}
	for _, fragment := range fragments {
		once := html.EscapeString(fragment)
		for _, tt := range []struct {
			unit    string
			readers []reader
		}{
			{fragment, []reader{textBody, htmlBody, card}},
			{once, []reader{textBody, htmlBody}},
			{html.EscapeString(once), []reader{textBody}}, // in HTML it is text that is escaped once
		} {
			t.Run(tt.unit, func(t *testing.T) {
				for _, r := range tt.readers {
					assertLinear(t, func(size int) func() {
						content := filled(size, "", tt.unit, "")
						return func() { r.read(content) }
					}, r.sizes...)
				}
			})
		}
	}
}

// A unit of two fragments finds what one alone does not: a quote that only another kind of quote follows.
func TestText_PairsOfFragmentsTakeLinearTime(t *testing.T) {
	for _, first := range fragments[:10] {
		for _, second := range fragments {
			for _, contentType := range []string{"text", "html"} {
				assertLinear(t, func(size int) func() {
					content := filled(size, "", first+html.EscapeString(second), "")
					return func() { textOf(contentType, content) }
				}, 8<<10, 64<<10)
			}
			require.False(t, t.Failed(), "%q and %q", first, second)
		}
	}
}
