package translate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

const turnIDName = "microsoft.copilot.turn.id"

// The ids wanted here were computed with
// printf 'm365_copilot trace v1\x1f{tenant}\x1f{session}\x1f{turn}' | sha256sum.
func TestLogs_TurnIDIsSharedByPromptAndResponse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		turn string
		want string
	}{
		"a turn known by its request id":       {turn: request, want: "1b239c28eefb10976f8b491b32077d26"},
		"a turn known by the id of its prompt": {turn: promptID, want: "7ea2c461e7252b10b8c325c89ca77273"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, input := range []string{"prompt", "chat_response"} {
				r := fixture(t, input)
				r.Turn = test.turn
				record := recordOf(t, translate.LogSettings{}, r)
				assert.Equal(t, test.want, value(t, record.Attributes(), turnIDName), input)
				assert.True(t, record.TraceID().IsEmpty(), "without a traces pipeline no trace has this id")
				assert.True(t, record.SpanID().IsEmpty())
			}
		})
	}
}

func TestLogs_TurnIDDiffersInEachPart(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*interaction.Received){
		"tenant":  func(r *interaction.Received) { r.TenantID = "another" },
		"session": func(r *interaction.Received) { r.SessionID = "another" },
		"turn":    func(r *interaction.Received) { r.Turn = "another" },
		"a part that moved over": func(r *interaction.Received) {
			r.SessionID, r.Turn = r.SessionID+r.Turn[:1], r.Turn[1:]
		},
	}
	same := value(t, recordOf(t, translate.LogSettings{}, fixture(t, "prompt")).Attributes(), turnIDName)
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			change(&r)
			record := recordOf(t, translate.LogSettings{}, r)
			assert.NotEqual(t, same, value(t, record.Attributes(), turnIDName))
		})
	}
}

func TestLogs_TurnIDIsAbsentWhereTurnIsUnknown(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*interaction.Received){
		"without a turn":    func(r *interaction.Received) { r.Turn = "" },
		"without a session": func(r *interaction.Received) { r.SessionID = "" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			change(&r)
			record := recordOf(t, translate.LogSettings{}, r)
			assert.NotContains(t, record.Attributes().AsRaw(), turnIDName)
		})
	}
}
