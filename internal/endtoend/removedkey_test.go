package endtoend_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHistory_BackfillsForRemovedKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "receivers: {m365_copilot: {encryption: {certificates: ["+keyPair(t, "old")+"]}}}")
	first := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 23, 3)
	h.publish(t, in[:3]...) // so that each of the three users was seen
	h.backend.await(t, interactionKeys(t, in[:3]...), waitTimeout)
	late, err := h.emulator.Collection(in[3:]...)
	require.NoError(t, err)
	require.NoError(t, h.emulator.AddHistory(in[3:]...)) // and nobody is notified of them otherwise
	first.terminate(t)

	h.configure(t, "receivers: {m365_copilot: {encryption: {certificates: ["+keyPair(t, "young")+"]}}}")
	second := h.run(t)
	line := second.awaitLine(t, "history read", waitTimeout)
	assert.Contains(t, line, "removed_key")
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	status, err := h.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status, "Graph need not send again what nobody can read")
	assert.Zero(t, h.backend.duplicates())
}
