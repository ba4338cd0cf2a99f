// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"path"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The index has each page of docs once, and no other.
func TestDocsIndex_ListsEveryPage(t *testing.T) {
	t.Parallel()
	const index = "docs/README.md"
	paths, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	var want, got []string
	for _, page := range paths {
		if page = filepath.ToSlash(page); page != index {
			want = append(want, page)
		}
	}
	for _, link := range regexp.MustCompile(`(?m)^\| \[[^]]+\]\(([^)]+)\) \|`).FindAllStringSubmatch(readFile(t, index), -1) {
		if page := path.Join("docs", link[1]); path.Dir(page) == "docs" {
			got = append(got, page)
		}
	}
	assert.ElementsMatch(t, want, got)
}
