// SPDX-License-Identifier: Apache-2.0

package interaction_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const samples = "../../testdata/interactions"

// TestInteraction_TextOfSamples compares the text of each sample with the .txt file of the same name.
func TestInteraction_TextOfSamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(samples, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".txt")
			require.NoError(t, err)
			i := readSample(t, file)
			assert.Equal(t, strings.TrimSuffix(string(want), "\n"), i.Text())
			assert.NotEmpty(t, i.App())
			_, ok := i.CreatedAt()
			assert.True(t, ok)
		})
	}
}

func readSample(t *testing.T, file string) *interaction.Interaction {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	i, err := interaction.Parse(data)
	require.NoError(t, err)
	return i
}

// TestParse_ReadsPublishedInteractions tests with interactions that Graph really sent. COPILOT_SAMPLES is the path of a
// collection of published interactions: {"interactions": [{"n": 1, "object": {...}}]}. Without it, the collection is one
// sample of this repository.
func TestParse_ReadsPublishedInteractions(t *testing.T) {
	t.Parallel()
	type entry struct {
		N      int             `json:"n"`
		Object json.RawMessage `json:"object"`
	}
	var collection struct {
		Interactions []entry `json:"interactions"`
	}
	// The published interactions without text: a card without body, a malformed card, a missing card.
	withoutText := map[int]bool{13: true, 20: true, 21: true}
	if file := os.Getenv("COPILOT_SAMPLES"); file != "" {
		data, err := os.ReadFile(filepath.Clean(file))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &collection))
	} else {
		data, err := os.ReadFile(filepath.Join(samples, "prompt.json"))
		require.NoError(t, err)
		collection.Interactions = []entry{{N: 1, Object: data}}
	}
	require.NotEmpty(t, collection.Interactions)
	for _, e := range collection.Interactions {
		i, err := interaction.Parse(e.Object)
		require.NoError(t, err, "interaction %d", e.N)
		text := i.Text()
		assert.Equal(t, withoutText[e.N], text == "", "interaction %d", e.N)
		assert.NotContains(t, text, "attachment id", "interaction %d", e.N)
		assert.NotEmpty(t, i.App(), "interaction %d", e.N)
		_, ok := i.CreatedAt()
		assert.True(t, ok, "interaction %d", e.N)
		if i.Body.ContentType == "text" && !strings.Contains(i.Body.Content, "attachment") {
			assert.Equal(t, i.Body.Content, text, "interaction %d", e.N)
		}
	}
}

func TestInteraction_TextCombinesBodyAndCards(t *testing.T) {
	t.Parallel()
	card := interaction.Attachment{ID: "a", ContentType: " Application/vnd.microsoft.card.Adaptive", Content: `{"body":[{"type":"TextBlock","text":"saw"}]}`}
	file := interaction.Attachment{ID: "f", ContentType: "reference", Name: "drawing.dwg", Content: `{"body":[{"type":"TextBlock","text":"no"}]}`}
	for name, tt := range map[string]struct {
		typ, contentType, content string
		attachments               []interaction.Attachment
		want                      string
	}{
		"the case of the types does not matter": {interaction.TypeAIResponse, " HTML", `<p>x</p><attachment id="a"></attachment>`, []interaction.Attachment{card}, "x\nsaw"},
		"a body of another type is text":        {interaction.TypeAIResponse, "", `<p>x</p>`, nil, `<p>x</p>`},
		"a file has no text":                    {interaction.TypeAIResponse, "text", `<attachment id="f"></attachment>`, []interaction.Attachment{file}, ""},
		"a file is not what a body refers to":   {interaction.TypeAIResponse, "html", `<attachment id="f"></attachment>`, []interaction.Attachment{file, card}, "saw"},
		"a blank body stands for all cards":     {interaction.TypeAIResponse, "html", ` `, []interaction.Attachment{file, card, card}, "saw\nsaw"},
		"an answer is unwrapped":                {interaction.TypeAIResponse, "text", `{"finalResponse":"412"}`, nil, "412"},
		"a prompt is not":                       {interaction.TypeUserPrompt, "text", `{"finalResponse":"412"}`, nil, `{"finalResponse":"412"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := interaction.Interaction{
				Type: tt.typ, Body: interaction.Body{ContentType: tt.contentType, Content: tt.content}, Attachments: tt.attachments,
			}
			assert.Equal(t, tt.want, i.Text())
		})
	}
}

func TestInteraction_AppIsLastPartOfClass(t *testing.T) {
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
