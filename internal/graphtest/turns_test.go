package graphtest_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

var streamStart = time.Date(2026, 3, 4, 5, 6, 7, 891e6, time.UTC)

func newTurnStream(seed uint64, n int) [][]graphtest.Interaction {
	turns := graphtest.NewTurns(seed, graphtest.TurnSettings{TenantID: tenantID, Users: 7})
	var all [][]graphtest.Interaction
	for i := range n {
		all = append(all, turns.Next(streamStart.Add(time.Duration(i)*time.Second)))
	}
	return all
}

func TestTurns_SameSeedGivesSameTurns(t *testing.T) {
	t.Parallel()
	first, second := newTurnStream(1, 300), newTurnStream(1, 300)
	assert.Equal(t, first, second)
	assert.NotEqual(t, newTurnStream(1, 3), newTurnStream(2, 3))
}

func TestTurns_HaveShapesOfGraph(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	users := map[string]bool{}
	ids := map[string]bool{}
	for n, turn := range newTurnStream(3, 2000) {
		now := streamStart.Add(time.Duration(n) * time.Second)
		for i, one := range turn {
			var got map[string]any
			require.NoError(t, json.Unmarshal(one.JSON, &got))
			seen[got["appClass"].(string)]++
			seen[got["interactionType"].(string)]++
			seen["answers "+strconv.Itoa(len(turn)-1)]++
			users[one.UserID] = true
			key := got["sessionId"].(string) + got["id"].(string)
			require.False(t, ids[key], "an id comes once in a session")
			ids[key] = true
			ms, err := strconv.ParseInt(got["id"].(string), 10, 64)
			require.NoError(t, err)
			age := now.Sub(time.UnixMilli(ms))
			require.True(t, age >= 0 && age < 10*time.Second, "created %s ago", age)
			if created, ok := got["createdDateTime"].(string); ok {
				at, err := time.Parse(time.RFC3339, created)
				require.NoError(t, err)
				require.Equal(t, ms, at.UnixMilli())
			}
			checkSides(t, i, one, got)
			countShapes(seen, string(one.JSON), got)
		}
	}
	assert.Len(t, users, 7)
	for _, shape := range []string{
		"answers 0", "answers 1", "answers 2", "answers 3", "MessageTextField", "finalResponse", "unknown-file-name", "TeamsMeeting",
		`<attachment id=\"\">`, "&lt;attachment", "coworkchat", "🍀", `"linkType":null`, `"linkType":"Event"`, "mentionText",
		"null requestId", "null createdDateTime", "null etag", "null conversationType", "null body", "null attachments", "null links", "null contexts",
		"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.3f6a1c52-7d7e-4c0b-9a53-0f2d8b6f4e11",
	} {
		assert.Positive(t, seen[shape], shape)
	}
	for app := range strings.FieldsSeq("BizChat WebChat Teams Word Excel PowerPoint Outlook OneNote CoworkChat Loop SharePoint Forms Whiteboard " +
		"PrivateChat VivaEngage M365AdminCenter OfficeCopilotSearchAnswer OfficeCopilotNotebook ThirdPartyCopilot Office M365App Planner " +
		"Stream Designer OneDrive") {
		assert.Positive(t, seen["IPM.SkypeTeams.Message.Copilot."+app], app)
	}
}

// checkSides: the first of a turn is the prompt, which alone names the user.
func checkSides(t *testing.T, i int, one graphtest.Interaction, got map[string]any) {
	t.Helper()
	from := got["from"].(map[string]any)
	if i == 0 {
		require.Equal(t, "userPrompt", got["interactionType"])
		require.Equal(t, one.UserID, from["user"].(map[string]any)["id"])
		return
	}
	require.Equal(t, "aiResponse", got["interactionType"])
	require.Nil(t, from["user"])
	require.NotContains(t, string(one.JSON), "8:orgid:"+one.UserID)
}

func countShapes(seen map[string]int, text string, got map[string]any) {
	for _, shape := range []string{
		"MessageTextField", "finalResponse", "unknown-file-name", "TeamsMeeting", `<attachment id=\"\">`, "&lt;attachment", "coworkchat", "🍀",
		`"linkType":null`, `"linkType":"Event"`, "mentionText",
	} {
		if strings.Contains(text, shape) {
			seen[shape]++
		}
	}
	for name, value := range got {
		if value == nil {
			seen["null "+name]++
		}
	}
}

func TestTurns_UsersAreThoseOfPrompts(t *testing.T) {
	t.Parallel()
	turns := graphtest.NewTurns(9, graphtest.TurnSettings{TenantID: tenantID})
	users := turns.Users()
	require.Len(t, users, 5)
	for range 50 {
		assert.True(t, slices.Contains(users, turns.Next(streamStart)[0].UserID))
	}
}
