package interaction_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const samples = "../../testdata/interactions"

// Each file is named after what it shows; the file with the same name that ends in .txt is the text of it.
func TestTextOfEverySample(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(samples, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".txt")
			require.NoError(t, err)
			i := readSample(t, file)
			assert.Equal(t, strings.TrimSuffix(string(want), "\n"), i.Text())
			assert.NotEmpty(t, i.App())
			_, ok := i.CreatedAt()
			assert.True(t, ok)
		})
	}
}

func readSample(t *testing.T, file string) *interaction.Interaction {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	i, err := interaction.Parse(data)
	require.NoError(t, err)
	return i
}

// COPILOT_SAMPLES may name a collection of interactions that others published, to test against what Graph really sent:
// {"interactions": [{"n": 1, "object": {...}}]}. Without it, the samples of this repository make up the collection.
func TestEveryPublishedInteractionCanBeRead(t *testing.T) {
	t.Parallel()
	type entry struct {
		N      int             `json:"n"`
		Object json.RawMessage `json:"object"`
	}
	var collection struct {
		Interactions []entry `json:"interactions"`
	}
	// The published ones without text: a card without body, one that is malformed, one that is missing.
	wordless := map[int]bool{13: true, 20: true, 21: true}
	if file := os.Getenv("COPILOT_SAMPLES"); file != "" {
		data, err := os.ReadFile(filepath.Clean(file))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &collection))
	} else {
		data, err := os.ReadFile(filepath.Join(samples, "prompt.json"))
		require.NoError(t, err)
		collection.Interactions = []entry{{N: 1, Object: data}}
	}
	require.NotEmpty(t, collection.Interactions)
	for _, e := range collection.Interactions {
		i, err := interaction.Parse(e.Object)
		require.NoError(t, err, "interaction %d", e.N)
		text := i.Text()
		assert.Equal(t, wordless[e.N], text == "", "interaction %d", e.N)
		assert.NotContains(t, text, "attachment id", "interaction %d", e.N)
		assert.NotEmpty(t, i.App(), "interaction %d", e.N)
		_, ok := i.CreatedAt()
		assert.True(t, ok, "interaction %d", e.N)
		if i.Body.ContentType == "text" && !strings.Contains(i.Body.Content, "attachment") {
			assert.Equal(t, i.Body.Content, text, "interaction %d", e.N)
		}
	}
}
