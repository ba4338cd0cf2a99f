// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// version is a version of an interaction that Graph has.
type version struct {
	// change is that of its notification; empty for a version that only the history has.
	change string
	// edits is how often the interaction was edited before.
	edits int64
}

// notified is a version that a notification brings; the history does not know it.
func notified(change string, edits int64) version { return version{change: change, edits: edits} }

// inHistory is the version that the history shows.
func inHistory(edits int64) version { return version{edits: edits} }

// edited returns an interaction after a number of edits, each of which gives it a newer etag.
func edited(t *testing.T, i graphtest.Interaction, edits int64) graphtest.Interaction {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal(i.JSON, &fields))
	id, err := strconv.ParseInt(fields["id"].(string), 10, 64)
	require.NoError(t, err)
	fields["etag"] = strconv.FormatInt(id+edits, 10)
	i.JSON, err = json.Marshal(fields)
	require.NoError(t, err)
	return i
}

// apply makes Graph send a version, or show it in the history.
func (h *harness) apply(t *testing.T, i graphtest.Interaction, v version) {
	t.Helper()
	i = edited(t, i, v.edits)
	if v.change == "" {
		require.NoError(t, h.emulator.AddHistory(i))
		return
	}
	i.Change = v.change
	c, err := h.emulator.Collection(i)
	require.NoError(t, err)
	status, err := h.emulator.Post(t.Context(), c)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
}

// versions returns source and change type of each record of an interaction, sorted.
func (h *harness) versions(t *testing.T, i graphtest.Interaction) []string {
	t.Helper()
	id := interactionIDs(t, i)[0]
	all := []string{}
	for _, record := range h.records() {
		if valueOf(record, "microsoft.copilot.interaction.id") == id {
			all = append(all, valueOf(record, "microsoft.copilot.source")+" "+valueOf(record, "microsoft.copilot.change.type"))
		}
	}
	slices.Sort(all)
	return all
}

// What the history brings yields to what notifications have said of the same interaction, before and after. Here it is a
// reconciliation that reads the history, so it is also said what counts as recovered: creations alone.
func TestVersions_OfNotificationsAndHistory(t *testing.T) {
	t.Parallel()
	const nCreated, nUpdated, nDeleted = "notification created", "notification updated", "notification deleted"
	const hCreated, hUpdated = "history created", "history updated"
	tests := map[string]struct {
		// before is what happens before the reconciliation, after what happens later, and is reconciled as well.
		before, after []version
		want          []string
		recovered     int
	}{
		"a creation that was delivered": {
			before: []version{notified("created", 0), inHistory(0)},
			want:   []string{nCreated},
		},
		"a creation that only the history has": {
			before: []version{inHistory(0)}, after: []version{notified("created", 0)},
			want: []string{hCreated}, recovered: 1,
		},
		"only the update was seen": {
			before: []version{notified("updated", 1), inHistory(1)}, after: []version{notified("updated", 1)},
			want: []string{hCreated, nUpdated}, recovered: 1,
		},
		"an edited one that only the history has is created": {
			before: []version{inHistory(1)}, after: []version{notified("created", 1), notified("created", 0), notified("updated", 1)},
			want: []string{hCreated}, recovered: 1,
		},
		"creation and update were delivered": {
			before: []version{notified("created", 0), notified("updated", 1), inHistory(1)},
			want:   []string{nCreated, nUpdated},
		},
		"the update came first": {
			before: []version{notified("updated", 1), notified("created", 0), inHistory(1)},
			want:   []string{nCreated, nUpdated},
		},
		"an etag that changed after the delivery": {
			before: []version{notified("created", 0), inHistory(1)}, after: []version{notified("updated", 1)},
			want: []string{hUpdated, nCreated},
		},
		"the history shows an older version": {
			before: []version{notified("created", 0), notified("updated", 2), inHistory(1)},
			want:   []string{nCreated, nUpdated},
		},
		"created and deleted": {
			before: []version{notified("created", 0), notified("deleted", 0), inHistory(1)},
			want:   []string{nCreated, nDeleted},
		},
		"only the deletion was seen": {
			before: []version{notified("deleted", 0), inHistory(0)},
			want:   []string{nDeleted},
		},
		"a deletion after the history brought it": {
			before: []version{inHistory(0)}, after: []version{notified("deleted", 0), notified("updated", 1)},
			want: []string{hCreated, nDeleted}, recovered: 1,
		},
	}
	h := newHarness(t)
	h.withStorage(t)
	h.reconcile(t, 6*time.Second, 5*time.Second)
	h.start(t)
	h.confirmed(t)
	interactions, recovered := map[string]graphtest.Interaction{}, 0
	for name, test := range tests {
		interactions[name] = h.promptsNow(t, 1)[0]
		for _, v := range test.before {
			h.apply(t, interactions[name], v)
		}
		recovered += test.recovered
	}
	assertComplete(t, recovered, h.awaitReconciled(t, time.Now()))
	for name, test := range tests {
		for _, v := range test.after {
			h.apply(t, interactions[name], v)
		}
	}
	assertComplete(t, recovered, h.awaitReconciled(t, time.Now()))
	h.awaitRecovered(t, recovered)
	for name, test := range tests {
		assert.Equal(t, test.want, h.versions(t, interactions[name]), name)
	}
	uids := map[string]int{}
	for _, record := range h.records() {
		uids[valueOf(record, "log.record.uid")]++
	}
	assert.Len(t, uids, len(h.records()), "each version has its own uid")
}
