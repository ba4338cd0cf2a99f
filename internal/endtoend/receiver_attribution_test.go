// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// turnAt returns a prompt of a user and its answer, which names nobody.
func turnAt(t *testing.T, at time.Time, session, request, user string) (asks, answers graphtest.Interaction) {
	t.Helper()
	one := func(at time.Time, kind string, from map[string]any) graphtest.Interaction {
		id := strconv.FormatInt(at.UnixMilli(), 10)
		text, err := json.Marshal(map[string]any{
			"id": id, "etag": id, "createdDateTime": at.UTC().Format(time.RFC3339Nano), "sessionId": session, "requestId": request,
			"interactionType": kind, "from": from,
		})
		require.NoError(t, err)
		return graphtest.Interaction{JSON: text}
	}
	return one(at, "userPrompt", map[string]any{"user": map[string]any{"id": user}}),
		one(at.Add(time.Second), "aiResponse", map[string]any{"application": map[string]any{"id": "fb8d773d-7ef8-4ec0-a117-179f88add510"}})
}

// awaitAnswer waits for the record of the only answer.
func (h *harness) awaitAnswer(t *testing.T) (answer plog.LogRecord) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, record := range h.records() {
			if valueOf(record, "microsoft.copilot.interaction.type") == "aiResponse" {
				answer = record
				return true
			}
		}
		return false
	}, waitTimeout, 10*time.Millisecond)
	return answer
}

func assertUser(t *testing.T, record plog.LogRecord, user, source string) {
	t.Helper()
	assert.Equal(t, user, valueOf(record, "user.id"))
	assert.Equal(t, source, valueOf(record, "microsoft.copilot.user.source"))
}

func TestAttribution_AnswerAfterRestartHasItsUser(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.run(t)
	asks, answers := turnAt(t, time.Now().Add(-time.Minute), "19:a@thread.v2", "r1", testUser)
	h.deliver(t, asks)
	h.restart(t)
	h.confirmed(t)
	h.deliver(t, answers)
	assertUser(t, h.awaitAnswer(t), testUser, "request")
}

// A prompt that comes again is dropped, since the cache knows it from the run before, and still says whose answer follows.
func TestAttribution_DroppedPromptNamesUserOfAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.History.Users = []string{testUser}
	stored := h.withMemoryStorage()
	h.run(t)
	asks, answers := turnAt(t, time.Now().Add(-time.Minute), "19:a@thread.v2", "r1", testUser)
	h.deliver(t, asks)
	h.stop(t)
	require.Positive(t, stored.damage("turn/"))
	h.start(t)
	h.confirmed(t)
	h.deliver(t, asks)
	h.deliver(t, answers)
	assertUser(t, h.awaitAnswer(t), testUser, "request")
	assert.Equal(t, interactionIDs(t, asks, answers), h.deliveredIDs(), "the prompt once")
	warnings := h.warnings()
	require.Len(t, warnings, 1)
	assert.Contains(t, lineText(t, warnings[0]), "attributions in storage are damaged")
}

// The history of one user has a conversation in which another asks. Its answer is the last of a page, and its prompt on the next one.
func TestAttribution_HistoryHasPromptsOfOthers(t *testing.T) {
	t.Parallel()
	const other = "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
	h := newHarness(t)
	h.withStorage(t)
	h.config.History.Users, h.config.History.Lookback = []string{testUser}, 24*time.Hour
	newer := newPrompts(t, 99) // a page has 100
	asks, answers := turnAt(t, time.Now().Add(-time.Hour), "19:shared@thread.v2", "r1", other)
	asks.UserID, answers.UserID = testUser, testUser
	require.NoError(t, h.emulator.AddHistory(append(newer, asks, answers)...))
	h.run(t)
	h.awaitRecords(t, 101)
	assertUser(t, h.awaitAnswer(t), other, "request")
	assert.GreaterOrEqual(t, len(h.emulator.Requests(graphtest.OpHistory)), 2)
}
