// SPDX-License-Identifier: Apache-2.0

package failure

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// section is the part of docs/doctor.md about a code.
type section struct{ code, heading, text string }

// readDoctorPage returns docs/doctor.md and its sections about codes.
func readDoctorPage(t *testing.T) (page string, sections []section) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "doctor.md"))
	require.NoError(t, err)
	page = string(content)
	for part := range strings.SplitSeq(page, "\n### ") {
		heading, text, _ := strings.Cut(part, "\n")
		code, _, found := strings.Cut(heading, ": ")
		if found && strings.HasPrefix(code, "COP") {
			text, _, _ = strings.Cut(text, "\n## ")
			sections = append(sections, section{code, heading, text})
		}
	}
	return page, sections
}

func TestDoctorPage_ExplainsEachCodeOnceInOrder(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, code := range slices.Sorted(maps.Values(declaredCodes(t))) {
		want = append(want, string(code))
	}
	page, sections := readDoctorPage(t)
	for _, s := range sections {
		got = append(got, s.code)
		entry := "[" + s.code + "](#" + anchor(s.heading) + ") " + strings.TrimPrefix(s.heading, s.code+": ")
		assert.Equal(t, 1, strings.Count(page, entry), "the contents have %s once", entry)
	}
	assert.Equal(t, want, got)
}

// A section says what its code means and why it matters, has an example with the code, and says how to fix it.
func TestDoctorPage_SectionsAreComplete(t *testing.T) {
	t.Parallel()
	_, sections := readDoctorPage(t)
	require.NotEmpty(t, sections)
	for _, s := range sections {
		parts := strings.SplitN(s.text, "\n```\n", 3)
		if assert.Len(t, parts, 3, "%s: meaning, example, fix", s.heading) {
			assert.Greater(t, len(strings.Fields(parts[0])), 10, "%s: what it means and why it matters", s.heading)
			assert.Contains(t, parts[1], s.code, "%s: the example has the code", s.heading)
			assert.True(t, strings.HasPrefix(strings.TrimSpace(parts[2]), "**Fix:**"), "%s: how to fix it", s.heading)
			assert.Greater(t, len(strings.Fields(parts[2])), 10, "%s: how to fix it", s.heading)
		}
	}
}

func TestDoctorPage_LinksToItResolve(t *testing.T) {
	t.Parallel()
	page, sections := readDoctorPage(t)
	anchors := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		anchors[anchor(heading[1])] = true
	}
	own := regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(page, -1)
	assert.GreaterOrEqual(t, len(own), len(sections))
	for _, link := range own {
		assert.True(t, anchors[link[1]], "docs/doctor.md has no heading for %s", link[1])
	}
	other := regexp.MustCompile(`doctor\.md#([a-z0-9-]+)`)
	root := filepath.Join("..", "..")
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		switch name := entry.Name(); {
		case entry.IsDir() && path != root && strings.ContainsAny(name[:1], "._"):
			return filepath.SkipDir
		case entry.IsDir(), !slices.Contains([]string{".md", ".go", ".yaml"}, filepath.Ext(name)):
			return nil
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, link := range other.FindAllSubmatch(content, -1) {
			assert.True(t, anchors[string(link[1])], "%s links to docs/doctor.md#%s", path, link[1])
		}
		return nil
	}))
}

// anchor returns the anchor that GitHub gives to a heading: https://github.com/gjtorikian/html-pipeline (toc filter).
func anchor(heading string) string {
	kept := regexp.MustCompile(`[^\p{L}\p{N}_\- ]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(kept, " ", "-")
}
