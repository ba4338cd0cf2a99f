package interaction_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestInteractionApp_IsNameOfClass(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]string{
		"IPM.SkypeTeams.Message.Copilot.BizChat":                                           "BizChat",
		"IPM.SkypeTeams.Message.Copilot.Powerpoint":                                        "Powerpoint",
		"IPM.SkypeTeams.Message.TeamCopilot.AiNotes.Teams":                                 "Teams",
		"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.6a0b3c1d-77e2-4f58-9c04-1d2e3f405162": "ConnectedAIApp.Entra",
		"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.6A0B3C1D-77E2-4F58-9C04-1D2E3F405162": "ConnectedAIApp.Entra",
		"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.6a0b3c1d-77e2-4f58-9c04-1d2e3f40516g": "6a0b3c1d-77e2-4f58-9c04-1d2e3f40516g",
		"Entra.6a0b3c1d-77e2-4f58-9c04-1d2e3f405162":                                       "Entra",
		"6a0b3c1d-77e2-4f58-9c04-1d2e3f405162":                                             "6a0b3c1d-77e2-4f58-9c04-1d2e3f405162",
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
