// SPDX-License-Identifier: Apache-2.0

package plaintext_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

// BenchmarkLargest reads bodies of 20 MiB, the most that a notification can bring.
func BenchmarkLargest(b *testing.B) {
	const largest = 20 << 20
	seen := strings.Repeat("- **saw** the [board](https://yard.example)[^1^]\n", largest/100)
	quoted, err := json.Marshal(seen)
	require.NoError(b, err)
	card := `{"body":[{"type":"TextBlock","text":` + string(quoted) + `},{"type":"TextBlock","id":"MessageTextField","text":` + string(quoted) + `}]}`
	for name, m := range map[string]plaintext.Message{
		"html": {HTML: true, Content: strings.Repeat("<p>saw the <b>board</b></p>\n", largest/28)},
		"card": {Cards: []plaintext.Card{{Content: card}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plaintext.Of(m)
			}
		})
	}
}
