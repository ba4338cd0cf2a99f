package graphtest_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// versioned is what tells the versions of an interaction apart.
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
	alive, etags, changes := map[string]graphtest.Interaction{}, map[string]int64{}, map[string]int{}
	for n := range 1000 {
		now := streamStart.Add(time.Duration(n/50) * time.Second) // several changes in the same instant
		for _, one := range turns.Next(now) {
			var got versioned
			require.NoError(t, json.Unmarshal(one.JSON, &got))
			key := got.SessionID + got.ID
			before, lives := alive[key]
			etag, _ := strconv.ParseInt(got.ETag, 10, 64)
			changes[one.Change]++
			if one.WithoutContent {
				changes["tombstone"]++
			}
			switch one.Change {
			case "":
				require.False(t, lives)
				alive[key], etags[key] = one, etag
			case "updated":
				require.True(t, lives, "only what is there changes")
				require.Equal(t, before.UserID, one.UserID)
				require.Greater(t, etag, etags[key])
				require.InDelta(t, now.UnixMilli(), etag, 60_000)
				require.NotEqual(t, string(before.JSON), string(one.JSON))
				if got.Body != nil {
					require.Contains(t, got.Body.Content, "(edited)")
				}
				alive[key], etags[key] = one, etag
			case "deleted":
				require.True(t, lives, "only what is there goes, and once")
				require.JSONEq(t, string(before.JSON), string(one.JSON), "in its last version")
				delete(alive, key)
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
	assert.Equal(t, 19, kinds["updated"], "with each turn but the first")
	assert.Positive(t, kinds["deleted"])
	found, _ := g.historyIDs(historyPath(turns.Users()[0], nil))
	assert.Len(t, found, created, "the history keeps what was deleted, and each once")
}
