package plaintext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCard_OmitsMessageThatRepeatsOtherBlocks(t *testing.T) {
	t.Parallel()
	const other = `{"type":"TextBlock","text":"Two deliveries of oak arrive this week, see [Boards from Hallvik](https://yard.example/d/411 \"x\")[1](https://yard.example/d/411)."}`
	message := func(text string) string { return `{"type":"TextBlock","id":"MessageTextField","text":"` + text + `"}` }
	block := func(text string) string { return `{"type":"TextBlock","text":"` + text + `"}` }
	const seen = "Two deliveries of oak arrive this week, see [Boards from Hallvik](https://yard.example/d/411 \"x\")[1](https://yard.example/d/411)."
	for name, tt := range map[string]struct {
		blocks []string
		want   string
	}{
		"a message with citations is left out": {
			[]string{other, message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^].")},
			seen,
		},
		"a message with entity tags is left out": {
			[]string{other, message("Two deliveries of oak arrive this week, see <File>Boards from Hallvik</File>[^2^].")},
			seen,
		},
		"a message before the other blocks is left out": {
			[]string{message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^]."), other},
			seen,
		},
		"a repeated message is left out": {
			[]string{message("Oak."), message("Oak[^1^].")},
			"Oak.",
		},
		"a message that repeats two blocks together is left out": {
			[]string{block("Oak is hard and it is heavy."), block("Pine is soft and it is light."), message("Oak is hard and it is heavy. Pine is soft and it is light.")},
			"Oak is hard and it is heavy.\nPine is soft and it is light.",
		},
		"a message in a script without spaces is left out": {
			[]string{block("今週はオークの板が二回届きます。[1](https://yard.example)"), message("今週はオークの板が二回届きます。[^1^]")},
			"今週はオークの板が二回届きます。[1](https://yard.example)",
		},
		"a short message without the links is left out": {
			[]string{block("[Oak](https://a.example/b/c) [ash](https://a.example/d/e)"), message("Oak ash")},
			"[Oak](https://a.example/b/c) [ash](https://a.example/d/e)",
		},
		"a short message with entity tags is left out": {
			[]string{block("Oak ash"), message("<File>Oak</File> <Person>ash</Person>")},
			"Oak ash",
		},
		"a short message with citations is left out": {
			[]string{block("Oak ash"), message("Oak[^1^] ash[2]")},
			"Oak ash",
		},
		"a message with the same index is left out": {
			[]string{block("Cut boards[0] first."), message("Cut boards[0] first.")},
			"Cut boards[0] first.",
		},
		"a message with another sentence is kept": {
			[]string{other, message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^]. Sign for them.")},
			seen + "\nTwo deliveries of oak arrive this week, see Boards from Hallvik[^2^]. Sign for them.",
		},
		"a message with another number is kept": {
			[]string{block("The oak for the twelve chairs of the town hall costs 4,000 EUR."), message("The oak for the twelve chairs of the town hall costs 9,000 EUR.")},
			"The oak for the twelve chairs of the town hall costs 4,000 EUR.\nThe oak for the twelve chairs of the town hall costs 9,000 EUR.",
		},
		"a message with another decimal point, sign or unit is kept": {
			[]string{block("45 €"), message("4.5 €"), message("-45 €"), message("45 $")},
			"45 €\n4.5 €\n-45 €\n45 $",
		},
		"a message with another emoji is kept": {
			[]string{block("👍"), message("👎")},
			"👍\n👎",
		},
		"a message with another index is kept": {
			[]string{block("Cut boards[0] first."), message("Cut boards[1] first.")},
			"Cut boards[0] first.\nCut boards[1] first.",
		},
		"a message with another argument is kept": {
			[]string{block("Call f[0](oak)."), message("Call f[0](ash).")},
			"Call f[0](oak).\nCall f[0](ash).",
		},
		"a message with text in angle brackets is kept": {
			[]string{block("Use List for <File>boards</File>."), message("Use List<String> for <File>boards</File>.")},
			"Use List for <File>boards</File>.\nUse List<String> for <File>boards</File>.",
		},
		"a message without the titles of links is kept": {
			[]string{other, message("Two deliveries of oak arrive this week, see[2]")},
			seen + "\nTwo deliveries of oak arrive this week, see[2]",
		},
		"a message that is only a citation is kept": {
			[]string{block(" "), message("[1]")},
			"[1]",
		},
		"a message that another block starts with is kept": {
			[]string{block("Yes, and no."), message("Yes")},
			"Yes, and no.\nYes",
		},
		"a message with more detail is kept": {
			[]string{other, message("Two deliveries of oak. They come by boat, and somebody has to be there and sign for them.")},
			seen + "\nTwo deliveries of oak. They come by boat, and somebody has to be there and sign for them.",
		},
		"a message with another content is kept": {
			[]string{other, message("The yard is closed on Friday.")},
			seen + "\nThe yard is closed on Friday.",
		},
		"a message that is a word of another block is kept": {
			[]string{other, message("Oak")},
			seen + "\nOak",
		},
		"a message that is a part of another block is kept": {
			[]string{block("The answer is not yes."), message("yes")},
			"The answer is not yes.\nyes",
		},
		"a message beside blank blocks is kept": {
			[]string{block(" "), message("Oak it is[^1^].")},
			"Oak it is[^1^].",
		},
		"a message that is another number is kept": {
			[]string{block("40"), message("41")},
			"40\n41",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, fromCard(`{"body":[`+strings.Join(tt.blocks, ",")+`]}`))
		})
	}
}
