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
		"with citations": {
			[]string{other, message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^].")},
			seen,
		},
		"with tags": {
			[]string{other, message("Two deliveries of oak arrive this week, see <File>Boards from Hallvik</File>[^2^].")},
			seen,
		},
		"before them": {
			[]string{message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^]."), other},
			seen,
		},
		"twice": {
			[]string{message("Oak."), message("Oak[^1^].")},
			"Oak.",
		},
		"that together say it": {
			[]string{block("Oak is hard and it is heavy."), block("Pine is soft and it is light."), message("Oak is hard and it is heavy. Pine is soft and it is light.")},
			"Oak is hard and it is heavy.\nPine is soft and it is light.",
		},
		"in a script without spaces": {
			[]string{block("今週はオークの板が二回届きます。[1](https://yard.example)"), message("今週はオークの板が二回届きます。[^1^]")},
			"今週はオークの板が二回届きます。[1](https://yard.example)",
		},
		"with links among few words": {
			[]string{block("[Oak](https://a.example/b/c) [ash](https://a.example/d/e)"), message("Oak ash")},
			"[Oak](https://a.example/b/c) [ash](https://a.example/d/e)",
		},
		"with tags among few words": {
			[]string{block("Oak ash"), message("<File>Oak</File> <Person>ash</Person>")},
			"Oak ash",
		},
		"with citations among few words": {
			[]string{block("Oak ash"), message("Oak[^1^] ash[2]")},
			"Oak ash",
		},
		"with an index that is the same": {
			[]string{block("Cut boards[0] first."), message("Cut boards[0] first.")},
			"Cut boards[0] first.",
		},
		"but not those with a further sentence": {
			[]string{other, message("Two deliveries of oak arrive this week, see Boards from Hallvik[^2^]. Sign for them.")},
			seen + "\nTwo deliveries of oak arrive this week, see Boards from Hallvik[^2^]. Sign for them.",
		},
		"but not those with another number": {
			[]string{block("The oak for the twelve chairs of the town hall costs 4,000 EUR."), message("The oak for the twelve chairs of the town hall costs 9,000 EUR.")},
			"The oak for the twelve chairs of the town hall costs 4,000 EUR.\nThe oak for the twelve chairs of the town hall costs 9,000 EUR.",
		},
		"but not those with another decimal point, sign or unit": {
			[]string{block("45 €"), message("4.5 €"), message("-45 €"), message("45 $")},
			"45 €\n4.5 €\n-45 €\n45 $",
		},
		"but not those with another picture": {
			[]string{block("👍"), message("👎")},
			"👍\n👎",
		},
		"but not those with another index": {
			[]string{block("Cut boards[0] first."), message("Cut boards[1] first.")},
			"Cut boards[0] first.\nCut boards[1] first.",
		},
		"but not those with another argument": {
			[]string{block("Call f[0](oak)."), message("Call f[0](ash).")},
			"Call f[0](oak).\nCall f[0](ash).",
		},
		"but not those with something between angle brackets": {
			[]string{block("Use List for <File>boards</File>."), message("Use List<String> for <File>boards</File>.")},
			"Use List for <File>boards</File>.\nUse List<String> for <File>boards</File>.",
		},
		"but not those where the titles of links are missing": {
			[]string{other, message("Two deliveries of oak arrive this week, see[2]")},
			seen + "\nTwo deliveries of oak arrive this week, see[2]",
		},
		"but not a citation alone": {
			[]string{block(" "), message("[1]")},
			"[1]",
		},
		"but not what another starts with": {
			[]string{block("Yes, and no."), message("Yes")},
			"Yes, and no.\nYes",
		},
		"but not those that say more": {
			[]string{other, message("Two deliveries of oak. They come by boat, and somebody has to be there and sign for them.")},
			seen + "\nTwo deliveries of oak. They come by boat, and somebody has to be there and sign for them.",
		},
		"but not those that say other things": {
			[]string{other, message("The yard is closed on Friday.")},
			seen + "\nThe yard is closed on Friday.",
		},
		"but not a word that happens to occur": {
			[]string{other, message("Oak")},
			seen + "\nOak",
		},
		"but not what is a piece of another": {
			[]string{block("The answer is not yes."), message("yes")},
			"The answer is not yes.\nyes",
		},
		"but not where nothing else is said": {
			[]string{block(" "), message("Oak it is[^1^].")},
			"Oak it is[^1^].",
		},
		"but not where only the numbers differ": {
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
