package translate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

func TestReferencesAreWhatAnInteractionNames(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		attachments []interaction.Attachment
		contexts    []interaction.Context
		links       []interaction.Link
		want        []any
	}{
		"attachments, contexts and links, in this order": {
			links:       []interaction.Link{{URL: "https://l", DisplayName: "l", Type: "File"}},
			contexts:    []interaction.Context{{Reference: "https://c", DisplayName: "c", Type: "TeamsMeeting"}},
			attachments: []interaction.Attachment{{ContentURL: "https://a", Name: "a", ContentType: "reference"}},
			want: []any{
				map[string]any{"kind": "attachment", "name": "a", "url": "https://a", "type": "reference"},
				map[string]any{"kind": "context", "name": "c", "url": "https://c", "type": "TeamsMeeting"},
				map[string]any{"kind": "link", "name": "l", "url": "https://l", "type": "File"},
			},
		},
		"what is absent is left out of each": {
			attachments: []interaction.Attachment{{Name: "a"}},
			contexts:    []interaction.Context{{Reference: "https://c"}},
			want: []any{
				map[string]any{"kind": "attachment", "name": "a"},
				map[string]any{"kind": "context", "url": "https://c"},
			},
		},
		"placeholders are left out as values": {
			attachments: []interaction.Attachment{{Name: "unknown-file-name", ContentURL: "https://a"}},
			contexts:    []interaction.Context{{DisplayName: "c", Reference: "file:///unknown-url"}},
			links:       []interaction.Link{{DisplayName: "unknown-file-name", URL: "file:///unknown-url"}},
			want: []any{
				map[string]any{"kind": "attachment", "url": "https://a"},
				map[string]any{"kind": "context", "name": "c"},
			},
		},
		"without name and URL it is none": {
			attachments: []interaction.Attachment{{ContentType: "file"}},
			contexts:    []interaction.Context{{Type: "TeamsMeeting"}},
			links:       []interaction.Link{{Type: "File"}},
		},
		"an adaptive card is none": {
			attachments: []interaction.Attachment{
				{ContentType: "application/vnd.microsoft.card.adaptive", Name: "card", ContentURL: "https://card"},
				{ContentType: " Application/VND.Microsoft.Card.Adaptive ", Name: "card"},
			},
		},
		"a URL that holds the content itself is left out": {
			attachments: []interaction.Attachment{
				{ContentType: "image/png", Name: "chart.png", ContentURL: "DATA:image/png;base64,iVBORw0KGgo="},
				{ContentType: "image/png", ContentURL: " data:image/png;base64,iVBORw0KGgo="},
			},
			want: []any{map[string]any{"kind": "attachment", "name": "chart.png", "type": "image/png"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Attachments, r.Contexts, r.Links = test.attachments, test.contexts, test.links
			attributes := recordOf(t, translate.LogSettings{References: true}, r).Attributes()
			if test.want == nil {
				assert.NotContains(t, attributes.AsRaw(), "microsoft.copilot.references")
				return
			}
			assert.Equal(t, test.want, value(t, attributes, "microsoft.copilot.references"))
		})
	}
}
