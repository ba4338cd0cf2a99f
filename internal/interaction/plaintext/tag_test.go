package plaintext_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTags_RemovedFromText(t *testing.T) {
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
			assert.Equal(t, tt.want, fromText(tt.content))
		})
	}
}
