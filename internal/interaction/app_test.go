package interaction_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestAppIsTheLastPartOfTheClass(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]string{
		"IPM.SkypeTeams.Message.Copilot.BizChat":                                           "BizChat",
		"IPM.SkypeTeams.Message.Copilot.Powerpoint":                                        "Powerpoint",
		"IPM.SkypeTeams.Message.TeamCopilot.AiNotes.Teams":                                 "Teams",
		"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.6a0b3c1d-77e2-4f58-9c04-1d2e3f405162": "6a0b3c1d-77e2-4f58-9c04-1d2e3f405162",
		"Microsoft.Office.Word":                                                            "Word",
		"Word":                                                                             "Word",
		"IPM.SkypeTeams.Message.Copilot.Loop.":                                             "Loop",
		"":                                                                                 "",
		"...":                                                                              "",
	} {
		i := interaction.Interaction{AppClass: class}
		assert.Equal(t, want, i.App(), class)
	}
}
