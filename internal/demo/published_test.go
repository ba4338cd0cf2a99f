// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadPublished_CountsHistoryAlone(t *testing.T) {
	t.Parallel()
	const past = `{"id":"1","created":"2026-11-02T08:00:00.5Z","history":true}` + "\n" +
		`{"id":"2","created":"2026-11-01T08:00:00Z","history":true}` + "\n"
	for name, c := range map[string]struct {
		text string
		fail string
	}{
		"nothing but history":             {text: past},
		"a live prompt after it":          {text: past + `{"id":"3","created":"2026-11-26T08:00:00Z","history":false}` + "\n"},
		"a line that is being written":    {text: past + `{"id":"3","crea`},
		"no history":                      {text: `{"id":"3","history":false}`, fail: "has no interactions of the history"},
		"a damaged line within the lines": {text: past + "{\n" + past, fail: "unexpected end of JSON input"},
		"a damaged line alone":            {text: "{", fail: "unexpected end of JSON input"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), publishedFile)
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			got, err := readPublished(path)
			if c.fail != "" {
				require.ErrorContains(t, err, c.fail)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, published{2, time.Date(2026, time.November, 2, 8, 0, 0, 500_000_000, time.UTC)}, got)
			assert.Contains(t, got.query("count()"), " _time:<=2026-11-02T08:00:00.5Z ")
		})
	}
	_, err := readPublished(filepath.Join(t.TempDir(), publishedFile))
	require.ErrorIs(t, err, os.ErrNotExist)
}
