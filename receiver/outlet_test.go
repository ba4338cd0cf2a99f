package receiver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// A user who has no license is left alone until a prompt of theirs arrives: what was found out about the user otherwise, as
// that their history was read, must not end that.
func TestPipelineOutput_ReportsUsersOfPromptsOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source interaction.UserSource
		want   []string
	}{
		"a prompt names its user":                         {interaction.UserFromPrompt, []string{"u"}},
		"the prompt of the same request named the user":   {interaction.UserFromRequest, nil},
		"prompts of the same conversation named the user": {interaction.UserFromConversation, nil},
		"it was read from the user's history":             {interaction.UserFromHistory, nil},
		"nobody is known to have asked":                   {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(receivertest.NewNopSettings(metadata.Type), Settings{}, func() {})
			require.NoError(t, err)
			logs := &consumertest.LogsSink{}
			r.SendLogs(logs)
			var seen []string
			r.output.seen = func(users ...string) { seen = append(seen, users...) }
			require.NoError(t, r.output.Deliver(t.Context(), []interaction.Received{{UserID: "u", UserSource: c.source}}))
			assert.Equal(t, c.want, seen)
			assert.Equal(t, 1, logs.LogRecordCount())
		})
	}
}
