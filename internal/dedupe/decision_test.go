// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// resent returns a notification that Graph encrypted anew.
func resent(r interaction.Received) interaction.Received {
	r.ContentDigest[31]++
	r.ContentDigest[0]++
	return r
}

func TestReserve_DeliversEachChangeOnce(t *testing.T) {
	t.Parallel()
	elsewhere := resent(item("1"))
	elsewhere.SessionID = "another"
	abroad := resent(resent(item("1")))
	abroad.TenantID = "another"
	withoutETag := resent(item("1"))
	withoutETag.ETag = ""
	type batches [][]interaction.Received

	for name, test := range map[string]struct {
		batches    batches
		want       []string
		duplicates int
	}{
		// Notifications.
		"a notification that comes again is a duplicate":                {batches{{item("1")}, {item("1")}}, []string{"n:created"}, 1},
		"a creation is one whatever its etag":                           {batches{{item("1")}, {version(item("1"), "9")}}, []string{"n:created"}, 1},
		"an absent etag is the id":                                      {batches{{item("1")}, {withoutETag}}, []string{"n:created"}, 1},
		"the same id in another session is another interaction":         {batches{{item("1")}, {elsewhere}}, []string{"n:created", "n:created"}, 0},
		"the same id in another tenant is another interaction":          {batches{{item("1")}, {abroad}}, []string{"n:created", "n:created"}, 0},
		"of a redelivered batch only the new half goes out":             {batches{items(0, 1), items(0, 3)}, []string{"n:created", "n:created", "n:created"}, 1},
		"an update with a greater etag is new":                          {batches{{item("1")}, {updated(item("1"), "9")}}, []string{"n:created", "n:updated"}, 0},
		"an update with the same etag is a duplicate":                   {batches{{updated(item("1"), "9")}, {resent(updated(item("1"), "9"))}}, []string{"n:updated"}, 1},
		"an update with a smaller etag is a duplicate":                  {batches{{updated(item("1"), "10")}, {updated(item("1"), "9")}}, []string{"n:updated"}, 1},
		"etags are compared as numbers":                                 {batches{{updated(item("1"), "9")}, {updated(item("1"), "10")}}, []string{"n:updated", "n:updated"}, 0},
		"an update to the etag of the delivered creation is known":      {batches{{version(item("1"), "9")}, {resent(updated(item("1"), "9"))}}, []string{"n:created"}, 1},
		"a creation after its update is not lost":                       {batches{{updated(item("1"), "9")}, {item("1")}, {resent(item("1"))}}, []string{"n:updated", "n:created"}, 1},
		"a creation after its update does not bring back its etag":      {batches{{updated(item("1"), "9")}, {item("1")}, {updated(item("1"), "5")}}, []string{"n:updated", "n:created"}, 1},
		"a creation after its deletion is not lost":                     {batches{{deleted(item("1"))}, {item("1")}, {resent(item("1"))}}, []string{"n:deleted", "n:created"}, 1},
		"an update after a deletion is a duplicate":                     {batches{{deleted(item("1"))}, {updated(item("1"), "9")}}, []string{"n:deleted"}, 1},
		"a deletion after a deletion is a duplicate, whatever its etag": {batches{{deleted(item("1"))}, {deleted(version(item("1"), "9"))}}, []string{"n:deleted"}, 1},
		"a deletion is no duplicate of what it deletes":                 {batches{{item("1")}, {deleted(item("1"))}}, []string{"n:created", "n:deleted"}, 0},

		// Etags that say little.
		"an etag that is no number is newer if it differs":          {batches{{item("1")}, {updated(item("1"), "x")}, {updated(item("1"), "y")}}, []string{"n:created", "n:updated", "n:updated"}, 0},
		"an etag that is no number is known if it is equal":         {batches{{updated(item("1"), "x")}, {resent(updated(item("1"), "x"))}}, []string{"n:updated"}, 1},
		"an etag above 2^63 is no number":                           {batches{{updated(item("1"), "99999999999999999999")}, {updated(item("1"), "9")}}, []string{"n:updated", "n:updated"}, 0},
		"from history an etag that is no number is never newer":     {batches{{item("1")}, {fromHistory(version(item("1"), "x"))}}, []string{"n:created"}, 1},
		"nor is any etag newer than one that is no number":          {batches{{version(item("1"), "x")}, {fromHistory(version(item("1"), "9"))}}, []string{"n:created"}, 1},
		"an update without etag is new":                             {batches{{item("1")}, {updated(item("1"), "")}}, []string{"n:created", "n:updated"}, 0},
		"an update without etag is known by its content":            {batches{{updated(item("1"), "")}, {updated(item("1"), "")}}, []string{"n:updated"}, 1},
		"another update without etag is new":                        {batches{{updated(item("1"), "")}, {resent(updated(item("1"), ""))}}, []string{"n:updated", "n:updated"}, 0},
		"an update without etag does not make an earlier one newer": {batches{{updated(item("1"), "9")}, {updated(item("1"), "")}, {updated(item("1"), "5")}}, []string{"n:updated", "n:updated"}, 1},

		// History.
		"history is a duplicate of the notification":            {batches{{item("1")}, {fromHistory(item("1"))}}, []string{"n:created"}, 1},
		"a notification is a duplicate of history":              {batches{{fromHistory(item("1"))}, {item("1")}}, []string{"h:created"}, 1},
		"history comes again, and a notification late":          {batches{{fromHistory(item("1"))}, {fromHistory(item("1")), item("1")}}, []string{"h:created"}, 2},
		"created and updated were seen, history has the update": {batches{{item("1")}, {updated(item("1"), "9")}, {fromHistory(version(item("1"), "9"))}}, []string{"n:created", "n:updated"}, 1},
		"the same in the other order":                           {batches{{updated(item("1"), "9")}, {item("1")}, {fromHistory(version(item("1"), "9"))}}, []string{"n:updated", "n:created"}, 1},
		"only the update was seen: history has the creation":    {batches{{updated(item("1"), "9")}, {fromHistory(version(item("1"), "9"))}}, []string{"n:updated", "h:created"}, 0},
		"an edited one only in history is a creation":           {batches{{fromHistory(version(item("1"), "9"))}, {item("1")}, {resent(version(item("1"), "9"))}}, []string{"h:created"}, 2},
		"its update is known, too":                              {batches{{fromHistory(version(item("1"), "9"))}, {updated(item("1"), "9")}}, []string{"h:created"}, 1},
		"the creation was seen, history has an edit":            {batches{{item("1")}, {fromHistory(version(item("1"), "9"))}, {fromHistory(version(item("1"), "9"))}}, []string{"n:created", "h:updated"}, 1},
		"history has an older version than was delivered":       {batches{{item("1")}, {updated(item("1"), "9")}, {fromHistory(version(item("1"), "5"))}}, []string{"n:created", "n:updated"}, 1},
		"history resurrects nothing":                            {batches{{deleted(item("1"))}, {fromHistory(item("1"))}}, []string{"n:deleted"}, 1},
		"history resurrects nothing in another version":         {batches{{deleted(version(item("1"), "5"))}, {fromHistory(version(item("1"), "9"))}}, []string{"n:deleted"}, 1},
		"a deletion does not affect another id":                 {batches{{deleted(item("1"))}, {fromHistory(item("2"))}}, []string{"n:deleted", "h:created"}, 0},

		// Tombstones without content.
		"a tombstone comes again":                        {batches{{tombstone("a", "1")}, {tombstone("a", "1")}}, []string{"n:deleted"}, 1},
		"a tombstone is known by its subscription":       {batches{{tombstone("a", "1")}, {tombstone("b", "1")}}, []string{"n:deleted", "n:deleted"}, 0},
		"a tombstone does not affect the history":        {batches{{tombstone("a", "1")}, {fromHistory(item("1"))}}, []string{"n:deleted", "h:created"}, 0},
		"a tombstone does not affect an empty session":   {batches{{tombstone("", "1")}, {fromHistory(response("", "", "1"))}}, []string{"n:deleted", "h:created"}, 0},
		"a tombstone is none of a deletion with content": {batches{{tombstone("a", "1")}, {deleted(item("1"))}}, []string{"n:deleted", "n:deleted"}, 0},

		// One batch.
		"what is in a batch twice goes out once":           {batches{{item("1"), item("2"), item("1")}}, []string{"n:created", "n:created"}, 1},
		"the first of a batch may be the known one":        {batches{{item("1")}, {item("1"), item("2"), item("3")}}, []string{"n:created", "n:created", "n:created"}, 1},
		"the last of a batch may be the known one":         {batches{{item("3")}, {item("1"), item("2"), item("3")}}, []string{"n:created", "n:created", "n:created"}, 1},
		"a creation and its update in one batch":           {batches{{item("1"), updated(item("1"), "9")}}, []string{"n:created", "n:updated"}, 0},
		"an update and its creation in one batch":          {batches{{updated(item("1"), "9"), item("1")}}, []string{"n:updated", "n:created"}, 0},
		"an update twice in one batch":                     {batches{{updated(item("1"), "9"), resent(updated(item("1"), "9"))}}, []string{"n:updated"}, 1},
		"two updates in one batch, the older one first":    {batches{{updated(item("1"), "8"), updated(item("1"), "9")}}, []string{"n:updated", "n:updated"}, 0},
		"two updates in one batch, the newer one first":    {batches{{updated(item("1"), "9"), updated(item("1"), "8")}}, []string{"n:updated"}, 1},
		"two different updates without etag in one batch":  {batches{{updated(item("1"), ""), resent(updated(item("1"), ""))}}, []string{"n:updated", "n:updated"}, 0},
		"all changes of one interaction in one batch":      {batches{{item("1"), updated(item("1"), "9"), deleted(item("1"))}}, []string{"n:created", "n:updated", "n:deleted"}, 0},
		"a deletion and an older history in one batch":     {batches{{deleted(item("1")), fromHistory(item("1"))}}, []string{"n:deleted"}, 1},
		"a creation and an edit from history in one batch": {batches{{item("1"), fromHistory(version(item("1"), "9"))}}, []string{"n:created", "h:updated"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dropped := &duplicateCounter{}
			p := newPipeline(newCache(t, func(set *dedupe.Settings) { set.Telemetry = dropped }))
			for _, batch := range test.batches {
				require.NoError(t, p.take(t.Context(), batch...))
			}
			assert.Equal(t, test.want, p.changes())
			assert.Equal(t, test.duplicates, dropped.count())
		})
	}
}

func TestReserve_CountsDuplicatesBySource(t *testing.T) {
	t.Parallel()
	dropped := &duplicateCounter{}
	p := newPipeline(newCache(t, func(set *dedupe.Settings) { set.Telemetry = dropped }))
	require.NoError(t, p.take(t.Context(), item("1")))
	require.NoError(t, p.take(t.Context(), item("1"), fromHistory(item("1")), fromHistory(item("1"))))
	assert.Equal(t, map[interaction.Source]int{interaction.FromNotification: 1, interaction.FromHistory: 2}, dropped.of)
	assert.Equal(t, 1, p.calls, "nothing new is no delivery")
}

func TestReserve_LeavesSliceOfCaller(t *testing.T) {
	t.Parallel()
	c := newCache(t, nil)
	c.Reserve(t.Context(), items(0, 4)).Commit()
	batch := items(2, 6)
	r := c.Reserve(t.Context(), batch)
	assert.Len(t, r.New, 2)
	r.Commit()
	for i := range batch {
		assert.Equal(t, items(2, 6)[i].ID, batch[i].ID, "the caller may go on with its slice")
	}
}

func TestReserve_CountsRecoveredCreations(t *testing.T) {
	t.Parallel()
	p := newPipeline(newCache(t, nil))
	at := func(id string) interaction.Received { return item("17646012" + id) }
	require.NoError(t, p.take(t.Context(), at("00001"), updated(at("00002"), "1764601300000"), deleted(at("00003"))))
	assert.Zero(t, p.recovered, "notifications recover nothing")
	require.NoError(t, p.take(t.Context(), fromHistory(at("00001")), fromHistory(at("00002")), fromHistory(at("00003")), fromHistory(at("00004"))))
	assert.Equal(t, 2, p.recovered, "the creation of which an update was seen, and the unseen one")
	require.NoError(t, p.take(t.Context(), fromHistory(version(at("00001"), "1764601300000"))))
	assert.Equal(t, []string{"n:created", "n:updated", "n:deleted", "h:created", "h:created", "h:updated"}, p.changes())
	assert.Equal(t, 2, p.recovered, "an edit is no creation")
}

func TestRelease_MakesItNewAgain(t *testing.T) {
	t.Parallel()
	dropped := &duplicateCounter{}
	c := newCache(t, func(set *dedupe.Settings) { set.Telemetry = dropped })
	p := newPipeline(c)
	p.err = errors.New("refused")
	twice := []interaction.Received{item("1"), deleted(item("2")), item("1")}
	require.ErrorIs(t, p.take(t.Context(), twice...), p.err)
	assert.False(t, c.Known(item("1").ContentDigest))
	assert.Zero(t, dropped.count(), "what was not delivered has no duplicates")

	p.err = nil
	require.NoError(t, p.take(t.Context(), append(twice, fromHistory(item("2")), fromHistory(item("3")))...))
	assert.Equal(t, []string{"1", "2", "3"}, p.ids())
	assert.True(t, c.Known(item("1").ContentDigest))
}

func TestKnown_AfterCommit(t *testing.T) {
	t.Parallel()
	dropped := &duplicateCounter{}
	c := newCache(t, func(set *dedupe.Settings) { set.Telemetry = dropped })
	one := item("1")
	assert.False(t, c.Known(one.ContentDigest))
	r := c.Reserve(t.Context(), []interaction.Received{one, fromHistory(item("2"))})
	assert.False(t, c.Known(one.ContentDigest), "what is in flight may still fail")
	r.Commit()
	assert.True(t, c.Known(one.ContentDigest))
	assert.False(t, c.Known(item("2").ContentDigest))
	assert.False(t, c.Known([32]byte{}), "a zero digest is never known")
	assert.Equal(t, map[interaction.Source]int{interaction.FromNotification: 1}, dropped.of, "it is not reserved any more")
	require.NoError(t, newPipeline(c).take(t.Context(), updated(item("1"), "9")))
	assert.True(t, c.Known(one.ContentDigest), "as well as the digest of the update")
	assert.True(t, c.Known(updated(item("1"), "9").ContentDigest))
}
