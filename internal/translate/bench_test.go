// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"testing"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
)

// hundredInteractions returns 50 prompts and 50 responses.
func hundredInteractions(b *testing.B) []interaction.Received {
	b.Helper()
	prompt, response := fixture(b, "prompt"), fixture(b, "references")
	received := make([]interaction.Received, 0, 100)
	for range 50 {
		received = append(received, prompt, response)
	}
	return received
}

func BenchmarkLogsTranslate(b *testing.B) {
	received := hundredInteractions(b)
	for i := range received {
		received[i].Person = hybridPerson()
	}
	settings := map[string]privacy.Settings{
		"without content":          {},
		"with text and references": {CaptureText: true, References: true},
		"with a person":            {Directory: true, Properties: privacy.PropertyNames()},
	}
	for name, s := range settings {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				translateAll(s, received)
			}
		})
	}
}

func BenchmarkMetricsAdd(b *testing.B) {
	records := privacy.Settings{}.Apply(hundredInteractions(b))
	metrics := newMetrics()
	b.ReportAllocs()
	for b.Loop() {
		metrics.Add(records)
	}
}
