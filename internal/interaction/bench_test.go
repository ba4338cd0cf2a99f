// SPDX-License-Identifier: Apache-2.0

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

// BenchmarkParseLargest reads a card of 20 MiB, the most that a notification can bring.
func BenchmarkParseLargest(b *testing.B) {
	const largest = 20 << 20
	quoted, err := json.Marshal(strings.Repeat("- **saw** the [board](https://yard.example)[^1^]\n", largest/50))
	require.NoError(b, err)
	quotedCard, err := json.Marshal(`{"body":[{"type":"TextBlock","text":` + string(quoted) + `}]}`)
	require.NoError(b, err)
	data := []byte(`{"id":"1","attachments":[{"content":` + string(quotedCard) + `}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := interaction.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
