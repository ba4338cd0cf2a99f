// SPDX-License-Identifier: Apache-2.0

package interaction_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(samples, "*.json"))
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Clean(file))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"id":1e3,"etag":{},"mentions":[{"mentionId":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := interaction.Parse(data)
		if err != nil {
			assert.Nil(t, i)
			return
		}
		assert.True(t, json.Valid(data), "what is parsed is JSON")
		assert.NotEmpty(t, strings.TrimSpace(i.ID))
		assert.True(t, utf8.ValidString(i.ID+i.SessionID+i.AppClass+i.Body.Content))
		again, err := interaction.Parse(data)
		require.NoError(t, err)
		assert.Equal(t, i, again)
		checkText(t, i)
		r := interaction.Received{Interaction: *i, Change: interaction.Updated}
		assert.Len(t, r.UID(), 32)
		r.HappenedAt()
		assert.LessOrEqual(t, strings.Count(i.App(), "."), 1, "one part, or the two before a GUID")
	})
}

func checkText(t *testing.T, i *interaction.Interaction) {
	t.Helper()
	text := i.Text()
	assert.Equal(t, text, i.Text())
	assert.Equal(t, strings.TrimSpace(text), text)
	assert.NotContains(t, text, "\r")
}
