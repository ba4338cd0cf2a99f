// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// addReplay adds an entry for the last hour to the configuration of a running collector, and reloads it.
func (h *collectorHarness) addReplay(t *testing.T, collector *process, config string) {
	t.Helper()
	to := time.Now().UTC()
	config += fmt.Sprintf("\nreceivers: {m365_copilot: {history: {replay: [{from: %s, to: %s}]}}}\n",
		to.Add(-time.Hour).Format(time.RFC3339), to.Format(time.RFC3339))
	require.NoError(t, os.WriteFile(h.ownConfig, []byte(config), 0o600))
	collector.reload(t)
}

// What docs/replay.md says: an entry and a reload are enough, and a further reload replays nothing.
func TestReplay_ReloadEmitsTimeOnceMore(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "", withDirectory)
	collector := h.run(t)
	h.awaitConfirmed(t)
	in := prompts(t, 30, 3)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	twice := h.backend.recordsByUID()
	require.Len(t, twice, len(in))
	for uid := range twice {
		twice[uid] = 2
	}
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "nothing is known to be missing")

	h.addReplay(t, collector, "")
	awaitEqual(t, twice, h.backend.recordsByUID, waitTimeout)
	assert.Equal(t, map[string]int{"notification": len(in), "history": len(in)}, h.backend.recordsBySource())
	begin := collector.awaitLine(t, "\treading history\t", waitTimeout)
	for _, field := range []string{`"reasons": ["replay"]`, `"users": 3`, `"all_users_known": true`} {
		assert.Contains(t, begin, field)
	}
	end := collector.awaitLine(t, "\thistory read\t", waitTimeout)
	for _, field := range []string{`"reasons": ["replay"]`, `"users_done": 3`, `"users_left_for_later": 0`, `"interactions": 30`} {
		assert.Contains(t, end, field)
	}
	requests := len(h.emulator.Requests(graphtest.OpHistory))
	assert.Equal(t, 3, requests, "one for each user")

	collector.reload(t)
	h.awaitConfirmed(t)
	h.awaitConfirmed(t)
	assert.Equal(t, twice, h.backend.recordsByUID(), "the entry was done")
	assert.Len(t, h.emulator.Requests(graphtest.OpHistory), requests)
	assert.Len(t, collector.linesWith("\treading history\t"), 1)
}

// The queries of docs/replay.md drop what VictoriaLogs has twice.
func TestReplay_QueriesDropRepetitions(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	d := newDatabases(t)
	h := newCollectorHarness(t, d.exporters(), withDirectory)
	collector := h.run(t)
	h.awaitConfirmed(t)
	h.publish(t, prompts(t, 30, 3)...)
	records := func(query string) func() int {
		return func() int { return len(d.queryLogs(t, query)) }
	}
	awaitEqual(t, 30, records("*"), waitTimeout)
	h.addReplay(t, collector, d.exporters())
	awaitEqual(t, 60, records("*"), waitTimeout)
	assert.Equal(t, 30, records("* | first 1 by (_time) partition by (log.record.uid)")())
	counted := d.queryLogs(t, "* | stats count_uniq(log.record.uid) as n")
	assert.Equal(t, []map[string]string{{"n": "30"}}, counted)
}
