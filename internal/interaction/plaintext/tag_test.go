package plaintext_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTags_RemovedFromText(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"plain":                                  {`glue<attachment id="19:m@thread.v2"></attachment>`, "glue"},
		"escaped":                                {`glue&lt;attachment id="19:m@thread.v2"&gt;&lt;/attachment&gt;`, "glue"},
		"escaped with its quotes":                {`glue&lt;attachment id=&quot;19:m&quot;&gt;&lt;/attachment&gt;`, "glue"},
		"escaped twice with its quotes":          {`glue&amp;lt;attachment id=&amp;quot;1&amp;quot;&amp;gt;&amp;lt;/attachment&amp;gt;`, "glue"},
		"escaped twice":                          {`glue&amp;lt;attachment id="1"&amp;gt;&amp;lt;/attachment&amp;gt;`, "glue"},
		"with an empty id":                       {`glue<attachment id=""></attachment>`, "glue"},
		"self-closing":                           {`glue<attachment id="1"/> and clamp`, "glue and clamp"},
		"self-closing with space":                {`glue <attachment id="1" /> and clamp`, "glue  and clamp"},
		"never closed":                           {`glue<attachment id="1"> and clamp`, "glue and clamp"},
		"with single quotes":                     {`glue<attachment id='a>b'></attachment>`, "glue"},
		"without quotes":                         {`glue<attachment id=1></attachment>`, "glue"},
		"with space in it":                       {"glue<attachment\n id = \"1\" class=\"x\"\t></attachment>", "glue"},
		"between words":                          {`glue<attachment id="1"></attachment>clamp`, "glue clamp"},
		"before a full stop":                     {`glue<attachment id="1"></attachment>.`, "glue."},
		"around text":                            {`glue <attachment id="1">this</attachment>`, "glue this"},
		"truncated in the id":                    {`glue<attachment id="19:meeting_Zm9v`, "glue"},
		"truncated in the id, escaped":           {`glue&lt;attachment id=&quot;19:meeting_Zm9v`, "glue"},
		"truncated before the id":                {`glue<attachment`, "glue"},
		"truncated after the id":                 {`glue<attachment id="1"`, "glue"},
		"truncated by another tag":               {`glue<attachment id="1" <b>`, "glue <b>"},
		"truncated, with text after it":          {`glue <attachment id="19:m and clamp`, "glue  and clamp"},
		"truncated by an escaped tag":            {`glue &lt;attachment id=&quot;1&quot; &lt;b&gt;`, "glue  &lt;b&gt;"},
		"removal forms no other tag":             {`glue<<attachment id=""/>attachment id="1">`, `glue< attachment id="1">`},
		"removal forms no tag with a start":      {`glue <attachment <attachment id=""/>id="1">`, `glue  id="1">`},
		"removal forms no tag with an attribute": {`glue <attachment id<attachment id=""/>="1">`, `glue ="1">`},
		"a tag that a user wrote is kept":        {`an <Attachment>, an <attachment type="1">x</attachment>, an &lt;attachment&gt;`, `an <Attachment>, an <attachment type="1">x</attachment>, an &lt;attachment&gt;`},
		"a tag in another case is kept":          {`<Attachment id="1">x</Attachment>`, `<Attachment id="1">x</Attachment>`},
		"an unmatched end tag is kept":           {`glue<attachment id="1"></attachment> and </attachment>`, `glue and </attachment>`},
		"other tags are kept":                    {`use <attachments> or <b> & <attach>`, `use <attachments> or <b> & <attach>`},
		"the word attachment is kept":            {`an attachment id="1" > 2`, `an attachment id="1" > 2`},
		"other entities are kept":                {`a &lt; b &amp;&amp; &lt;b&gt; &eacute;`, `a &lt; b &amp;&amp; &lt;b&gt; &eacute;`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromText(tt.content))
		})
	}
}
