// SPDX-License-Identifier: Apache-2.0

package plaintext_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHTML_ConvertedToText(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"paragraphs have an empty line between them":  {"<p>saw</p><p>plane</p>", "saw\n\nplane"},
		"other blocks start a line":                   {"<div>saw</div><div>plane</div>sand", "saw\nplane\nsand"},
		"unclosed blocks start a line, too":           {"<p>saw<p>plane<div>sand", "saw\n\nplane\nsand"},
		"headings are paragraphs":                     {"<h1>Joints</h1>dowels", "Joints\n\ndowels"},
		"a break starts a line":                       {"saw<br>plane<br/>sand<br><br>oil", "saw\nplane\nsand\n\noil"},
		"several empty lines become one":              {"saw<br><br><br><br><p></p><p>plane</p>", "saw\n\nplane"},
		"inline tags do not separate words":           {"<b>dove</b>tail <i>joint</i>", "dovetail joint"},
		"links keep their text":                       {`see <a href="https://yard.example">the yard</a>.`, "see the yard."},
		"images have no text":                         {`oak<img src="data:image/png;base64,AAAA" alt="grain">`, "oak"},
		"entities are decoded once":                   {"5 &lt; 6 &amp;lt; 7&nbsp;&#8364; &eacute;", "5 < 6 &lt; 7 € é"},
		"list items get a marker":                     {"<ul><li>oak</li><li>ash</li></ul>pine", "- oak\n- ash\npine"},
		"numbered lists get numbers":                  {"<ol><li>oak<li>ash</ol>", "1. oak\n2. ash"},
		"a numbered list may start elsewhere":         {`<ol start="3"><li>oak<li>ash</ol><ol start="-1"><li>elm<li>yew<li>fir</ol><ol start="x"><li>pine</ol>`, "3. oak\n4. ash\n-1. elm\n0. yew\n1. fir\n1. pine"},
		"an item may set its number":                  {`<ol><li>oak<li value="7">ash<li>elm</ol><ul><li value="7">yew</ul>`, "1. oak\n7. ash\n8. elm\n- yew"},
		"numbers out of range are ignored":            {`<ol start="99999999999999999999"><li value="1e3">oak</ol>`, "1. oak"},
		"emoji are text":                              {`<p>cut <emoji id="1f600_grinningface" alt="😀" title="Grinning face"></emoji><customemoji id="x" alt="saw" source="https://yard.example"></customemoji></p>`, "cut 😀saw"},
		"emoji that are images are text":              {`cut <span title="Smile"><img itemscope itemtype="http://schema.skype.com/Emoji" src="https://yard.example/s.png" alt="🙂"></span>`, "cut 🙂"},
		"lists in lists are indented":                 {"<ul><li>oak<ol><li>red</li><li>white</li></ol></li><li>ash</li></ul>", "- oak\n  1. red\n  2. white\n- ash"},
		"an item without list gets a marker":          {"<li>oak", "- oak"},
		"paragraphs add no empty lines to a list":     {"<ul><li><p>oak</p></li><li><p>ash</p></li></ul>", "- oak\n- ash"},
		"an empty item is left out":                   {"<ul><li></li><li>ash</li></ul>", "- ash"},
		"an empty item without list is left out":      {"<li></li>oak", "oak"},
		"end tags without a list are ignored":         {"</ul></ol></li>oak", "oak"},
		"rows are lines with separated cells":         {"<table><tr><th>wood</th><th>price</th></tr><tr><td>oak</td><td>9</td></tr></table>now", "wood | price\noak | 9\n\nnow"},
		"a row stays one line":                        {"<table><tr><td><p>red</p><p>oak</p></td><td>a\nb<br>c</td></tr></table>", "red oak | a b c"},
		"an empty cell is kept":                       {"<table><tr><td>oak</td><td></td><td>9</td></tr></table>", "oak | | 9"},
		"an empty first cell is kept":                 {"x<table><tr><td></td><td>9</td></tr></table>", "x\n\n| 9"},
		"scripts and styles are left out":             {"<style>p{}</style>oak<script>alert('<p>no</p>')</script><SCRIPT>no</SCRIPT>", "oak"},
		"text after an unclosed script is kept":       {"use <script>for <b>this", "use for <b>this"},
		"comments are left out":                       {"oak<!-- no --><!DOCTYPE html>", "oak"},
		"titles and frames are text":                  {"<title>oak</title><textarea>a<br>b</textarea><iframe>c</iframe><plaintext>d<b>e</b>", "oaka\nbcde"},
		"Markdown keeps lines and indentation":        {"# Plan\n\n1. saw\n   - rip\n2. glue  \n   and clamp", "# Plan\n\n1. saw\n   - rip\n2. glue  \n   and clamp"},
		"Markdown in a block keeps them, too":         {"<div>\n# Plan\n- saw\n</div>\n<div>- glue</div>", "# Plan\n- saw\n- glue"},
		"pre keeps its spaces":                        {"code:<pre>\n  for b:\n    cut(a,  b)</pre>done", "code:\n\n  for b:\n    cut(a,  b)\n\ndone"},
		"code blocks keep their indentation":          {`saw:<codeblock class="Python"><code>for b:<br>&nbsp; &nbsp; cut(b)<br><br>  done()</code></codeblock>then`, "saw:\n\nfor b:\n    cut(b)\n\n  done()\n\nthen"},
		"code keeps its indentation":                  {"<p>saw: <code>for b:<br>    cut(a,  b)</code> and <b>glue</b></p>", "saw: for b:\n    cut(a,  b) and glue"},
		"addresses in angle brackets are kept":        {"see <https://yard.example/?a=1&amp;b=2> or <anna@contoso.com>, <mailto:anna@contoso.com>", "see <https://yard.example/?a=1&b=2> or <anna@contoso.com>, <mailto:anna@contoso.com>"},
		"type parameters are kept":                    {"Map<String, List<Integer>> or <T extends Saw></T>", "Map<String, List<Integer>> or <T extends Saw></T>"},
		"placeholders are kept":                       {"Dear <first name>, <Name/>", "Dear <first name>, <Name/>"},
		"tags of Teams and Office are removed":        {`<at id="0">Anna</at> saw<o:p></o:p><systemEventMessage/>`, "Anna saw"},
		"an attachment tag that a user wrote is kept": {`an <Attachment> and <attachment type="1">x</attachment>`, `an <Attachment> and <attachment type="1">x</attachment>`},
		"less-than signs are kept":                    {"if a < b and b <c", "if a < b and b <c"},
		"a truncated tag is text":                     {"saw <b>the</b> <board", "saw the <board"},
		"carriage returns are line ends":              {"saw\r\nplane\rsand", "saw\nplane\nsand"},
		"an attachment tag is removed":                {"saw<attachment id=\"1\"></attachment> it", "saw it"},
		"invalid UTF-8 and NUL are kept":              {"a\xff\x00<p>b", "a\xff\x00\n\nb"},
		"empty content has no text":                   {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromHTML(tt.content))
		})
	}
}
