// SPDX-License-Identifier: Apache-2.0

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
			require.False(t, ids[key], "ids are unique within a session")
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

// checkSides checks that interaction i of a turn is the prompt if it is the first and an answer otherwise, and that only the prompt
// names the user.
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

// versioned holds what distinguishes the versions of an interaction.
type versioned struct {
	ID, SessionID, ETag string
	Body                *struct{ Content string }
}

func TestTurns_ChangeNothingByDefault(t *testing.T) {
	t.Parallel()
	for _, turn := range newTurnStream(5, 500) {
		for _, one := range turn {
			require.Empty(t, one.Change)
		}
	}
}

func TestTurns_UpdateAndDeleteEarlierInteractions(t *testing.T) {
	t.Parallel()
	turns := graphtest.NewTurns(5, graphtest.TurnSettings{TenantID: tenantID, Updates: 0.5, Deletes: 0.3})
	existing, etags, changes := map[string]graphtest.Interaction{}, map[string]int64{}, map[string]int{}
	for n := range 1000 {
		now := streamStart.Add(time.Duration(n/50) * time.Second) // several changes in the same instant
		for _, one := range turns.Next(now) {
			var got versioned
			require.NoError(t, json.Unmarshal(one.JSON, &got))
			key := got.SessionID + got.ID
			before, exists := existing[key]
			etag, _ := strconv.ParseInt(got.ETag, 10, 64)
			changes[one.Change]++
			if one.WithoutContent {
				changes["tombstone"]++
			}
			switch one.Change {
			case "":
				require.False(t, exists)
				existing[key], etags[key] = one, etag
			case "updated":
				require.True(t, exists, "only existing interactions are updated")
				require.Equal(t, before.UserID, one.UserID)
				require.Greater(t, etag, etags[key])
				require.InDelta(t, now.UnixMilli(), etag, 60_000)
				require.NotEqual(t, string(before.JSON), string(one.JSON))
				if got.Body != nil {
					require.Contains(t, got.Body.Content, "(edited)")
				}
				existing[key], etags[key] = one, etag
			case "deleted":
				require.True(t, exists, "only existing interactions are deleted")
				require.JSONEq(t, string(before.JSON), string(one.JSON), "a deletion carries the last version")
				delete(existing, key)
			}
		}
	}
	assert.InDelta(t, 500, changes["updated"], 80)
	assert.InDelta(t, 300, changes["deleted"], 80)
	assert.InDelta(t, 150, changes["tombstone"], 60)
}

func TestTurns_ChangesAreRepeatable(t *testing.T) {
	t.Parallel()
	settings := graphtest.TurnSettings{TenantID: tenantID, Updates: 0.5, Deletes: 0.3}
	first, second := graphtest.NewTurns(8, settings), graphtest.NewTurns(8, settings)
	for range 200 {
		assert.Equal(t, first.Next(streamStart), second.Next(streamStart))
	}
}

func TestTurns_ChangesAreDeliveredAndInHistory(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	turns := graphtest.NewTurns(6, graphtest.TurnSettings{TenantID: tenantID, Users: 1, Updates: 1, Deletes: 0.5})
	offered, created := 0, 0
	for n := range 20 {
		turn := turns.Next(streamStart.Add(time.Duration(n) * time.Minute))
		for _, one := range turn {
			if one.Change == "" {
				created++
			}
		}
		more, err := g.Publish(t.Context(), turn...)
		require.NoError(t, err)
		offered += more
	}
	require.NoError(t, g.WaitDelivered(deadline(t), offered))
	kinds := map[string]int{}
	posts, _ := e.received()
	for _, c := range posts {
		for _, item := range c.Value {
			kinds[item.ChangeType]++
		}
	}
	assert.Equal(t, created, kinds["created"])
	assert.Equal(t, 19, kinds["updated"], "every turn but the first has an update")
	assert.Positive(t, kinds["deleted"])
	found, _ := g.historyIDs(historyPath(turns.Users()[0], nil))
	assert.Len(t, found, created, "the history keeps deleted interactions and has each once")
}
