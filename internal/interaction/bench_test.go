package interaction_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func BenchmarkParse(b *testing.B) {
	data, err := os.ReadFile(filepath.Join(samples, "answer_twice_in_a_card_with_links_and_with_citations.json"))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := interaction.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	for _, name := range []string{
		"prompt", "answer_twice_in_a_card_with_links_and_with_citations", "answer_in_html", "cowork_answer_is_markdown_in_html",
	} {
		b.Run(name, func(b *testing.B) {
			data, err := os.ReadFile(filepath.Join(samples, name+".json"))
			require.NoError(b, err)
			i, err := interaction.Parse(data)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				i.Text()
			}
		})
	}
}

// The largest body that a notification can bring is 20 MiB.
func BenchmarkLargest(b *testing.B) {
	const largest = 20 << 20
	said := strings.Repeat("- **saw** the [board](https://yard.example)[^1^]\n", largest/100)
	quoted, err := json.Marshal(said)
	require.NoError(b, err)
	card := `{"body":[{"type":"TextBlock","text":` + string(quoted) + `},{"type":"TextBlock","id":"MessageTextField","text":` + string(quoted) + `}]}`
	for name, i := range map[string]*interaction.Interaction{
		"html": {Body: interaction.Body{ContentType: "html", Content: strings.Repeat("<p>saw the <b>board</b></p>\n", largest/28)}},
		"card": {Attachments: []interaction.Attachment{{ContentType: "application/vnd.microsoft.card.adaptive", Content: card}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				i.Text()
			}
		})
	}
	b.Run("parse", func(b *testing.B) {
		quotedCard, err := json.Marshal(card)
		require.NoError(b, err)
		data := []byte(`{"id":"1","attachments":[{"content":` + string(quotedCard) + `}]}`)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := interaction.Parse(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
