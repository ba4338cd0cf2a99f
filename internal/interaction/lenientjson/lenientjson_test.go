package lenientjson_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lenientjson"
)

func TestEachMember_PassesMembersInOrder(t *testing.T) {
	t.Parallel()
	var got []string
	read := func(name string, value json.RawMessage) { got = append(got, name, string(value)) }
	assert.True(t, lenientjson.EachMember([]byte(" {\"a\\u0062\" : 1 ,\n\"c\":{\"d\":[\"}\"]},\"e\":\"\\\"}\",\"c\":null} "), read))
	assert.Equal(t, []string{"ab", "1", "c", `{"d":["}"]}`, "e", `"\"}"`, "c", "null"}, got)
	for _, data := range []string{"[]", `"{"`, "1", "null", ""} {
		assert.False(t, lenientjson.EachMember([]byte(data), read), data)
	}
}

func TestEachElement_PassesElementsUntilFalse(t *testing.T) {
	t.Parallel()
	elements := func(data string, limit int) []string {
		got := []string{}
		lenientjson.EachElement([]byte(data), func(value json.RawMessage) bool {
			got = append(got, string(value))
			return len(got) < limit
		})
		return got
	}
	assert.Equal(t, []string{`[1,2]`, `"]"`, "true", "{}"}, elements(` [ [1,2] , "]",true,{} ] `, 10))
	assert.Equal(t, []string{"1"}, elements(`[1,2]`, 1))
	for _, data := range []string{"[]", "{}", `"["`, "null", ""} {
		assert.Empty(t, elements(data, 10), data)
	}
}

func TestString_ReadsStringsAndNumbers(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`"oak"`: "oak", `"a\"\u0062"`: `a"b`, "\"a\xff\"": "a\uFFFD",
		"12": "12", "-1": "-1", "1.5": "1.5", "1.764601200123e12": "1764601200123", "1e999": "1e999", "9e15": "9000000000000000", "1e16": "1e16",
		"true": "", "null": "", "{}": "", `["a"]`: "", "": "",
	} {
		assert.Equal(t, want, lenientjson.String(json.RawMessage(data)), data)
	}
}
