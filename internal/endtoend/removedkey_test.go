package endtoend_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatWasSentForARemovedKeyIsFoundInTheHistory(t *testing.T) {
	t.Parallel()
	s := newSite(t, "receivers: {m365_copilot: {encryption: {certificates: ["+keyPair(t, "old")+"]}}}")
	first := s.run(t)
	s.subscribed(t)
	in := prompts(t, 23, 3)
	s.publish(t, in[:3]...) // so that each of the three users was seen
	s.backend.await(t, names(t, in[:3]...), soon)
	late, err := s.emulator.Collection(in[3:]...)
	require.NoError(t, err)
	require.NoError(t, s.emulator.AddHistory(in[3:]...)) // and nobody is notified of them otherwise
	first.terminate(t)

	s.own(t, "receivers: {m365_copilot: {encryption: {certificates: ["+keyPair(t, "young")+"]}}}")
	second := s.run(t)
	line := second.awaitLine(t, "history read", soon)
	assert.Contains(t, line, "removed_key")
	s.backend.await(t, names(t, in...), soon)
	status, err := s.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status, "Graph need not send again what nobody can read")
	assert.Zero(t, s.backend.repetitions())
}
