package translate_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// always are the attributes that every record has.
func always() []string {
	return []string{
		"log.record.uid",
		"microsoft.copilot.interaction.id",
		"microsoft.copilot.change.type",
		"microsoft.copilot.source",
		"microsoft.copilot.content.captured",
		"microsoft.copilot.content.length",
		"microsoft.copilot.attachment.count",
		"microsoft.copilot.link.count",
		"microsoft.copilot.mention.count",
		"microsoft.copilot.context.count",
		"gen_ai.provider.name",
		"gen_ai.operation.name",
	}
}

// whereGraphSaysSo are the attributes that a complete interaction adds to those.
func whereGraphSaysSo() []string {
	return []string{
		"microsoft.copilot.interaction.type",
		"microsoft.copilot.interaction.etag",
		"microsoft.copilot.request.id",
		"microsoft.copilot.conversation.type",
		"microsoft.copilot.locale",
		"microsoft.copilot.app.class",
		"microsoft.copilot.app.name",
		"microsoft.copilot.ingestion.delay",
		"microsoft.copilot.turn.id",
		"user.id",
		"microsoft.copilot.user.source",
		"gen_ai.conversation.id",
	}
}

func TestARecordHasExactlyTheAttributesOfItsKind(t *testing.T) {
	t.Parallel()
	ofAResponse := []string{"gen_ai.agent.id", "gen_ai.agent.name", "gen_ai.response.id"}
	contextTypes := []string{"microsoft.copilot.context.types"}
	references := []string{"microsoft.copilot.references"}
	unattributed := func(r *interaction.Received) { r.UserID, r.UserSource = "", "" }
	tests := map[string]struct {
		input    string
		settings translate.LogSettings
		change   func(*interaction.Received)
		want     []string
	}{
		"an id and nothing else": {input: "minimal", change: unattributed, want: always()},
		"an id that tells the time": {
			input: "tombstone", change: unattributed,
			want: append(always(), "microsoft.copilot.ingestion.delay"),
		},
		"a prompt": {input: "prompt", want: slices.Concat(always(), whereGraphSaysSo())},
		"a prompt in a meeting": {
			input: "teams_meeting_prompt",
			want:  slices.Concat(always(), whereGraphSaysSo(), contextTypes),
		},
		"a response": {input: "chat_response", want: slices.Concat(always(), whereGraphSaysSo(), ofAResponse)},
		"a response with references that are not asked for": {
			input: "references",
			want:  slices.Concat(always(), whereGraphSaysSo(), ofAResponse, contextTypes),
		},
		"a response with references and text": {
			input: "references", settings: translate.LogSettings{CaptureText: true, References: true},
			want: slices.Concat(always(), whereGraphSaysSo(), ofAResponse, contextTypes, references),
		},
		"a prompt that refers to placeholders only": {
			input: "powerpoint_prompt", settings: translate.LogSettings{References: true},
			want: slices.Concat(always(), whereGraphSaysSo()),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, test.input)
			if test.change != nil {
				test.change(&r)
			}
			attributes := recordOf(t, test.settings, r).Attributes()
			got := slices.Collect(maps.Keys(attributes.AsRaw()))
			assert.ElementsMatch(t, test.want, got)
			assert.Equal(t, len(got), attributes.Len(), "a name is there twice")
		})
	}
}
