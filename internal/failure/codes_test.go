// SPDX-License-Identifier: Apache-2.0

package failure

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// declaredCodes returns the codes that codes.go declares, by the names of their constants.
func declaredCodes(t *testing.T) map[string]Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	codes := map[string]Code{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		codes[spec.Names[0].Name] = Code(text)
		return true
	})
	require.NotEmpty(t, codes)
	return codes
}

func TestCodes_AreUniqueAndWellFormed(t *testing.T) {
	t.Parallel()
	names := map[Code]string{}
	for name, code := range declaredCodes(t) {
		assert.Regexp(t, `^COP[0-5]\d\d$`, string(code), name)
		assert.Empty(t, names[code], "%s and %s are both %s", names[code], name, code)
		names[code] = name
	}
}

func TestHints_OneSentenceForEachCode(t *testing.T) {
	t.Parallel()
	codes := declaredCodes(t)
	assert.Len(t, hints(), len(codes))
	for name, code := range codes {
		hint := New(code).Hint
		if assert.NotEmpty(t, hint, name) {
			assert.True(t, unicode.IsLower(rune(hint[0])), "%s begins in lower case: %s", name, hint)
			assert.False(t, strings.HasSuffix(hint, "."), "%s has no full stop: %s", name, hint)
			assert.NotContains(t, hint, ". ", "%s is one sentence", name)
		}
	}
}

// A code that nothing reports would be documented for nothing.
func TestCodes_AreUsed(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	root := filepath.Join("..", "..")
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		here := filepath.Base(filepath.Dir(path)) == "failure"
		if err != nil || entry.IsDir() || here || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		sources.Write(content)
		return err
	}))
	used := map[string]bool{}
	for name := range strings.FieldsFuncSeq(sources.String(), func(r rune) bool { return r != '.' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		used[name] = true
	}
	for name, code := range declaredCodes(t) {
		assert.True(t, used["failure."+name], "%s (%s) is not used", name, code)
	}
}
