// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// storedValues returns the values that security.md lists.
func storedValues(t *testing.T) (values []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/security.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "\n## What is on disk\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z/.]+)` \\|").FindAllStringSubmatch(section, -1) {
		values = append(values, row[1])
	}
	return values
}

// TestSecurityPage_ListsEveryStoredValue observes the keys of a receiver that starts, delivers and stops: at the start it reads all of
// them. A number at the end of a key stands for several values.
func TestSecurityPage_ListsEveryStoredValue(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.set(t, "identity: {inventory: 24h}")
	var mu sync.Mutex
	used := map[string]bool{}
	h.withMemoryStorage().intercept(func(_ context.Context, operation *storage.Operation) error {
		mu.Lock()
		defer mu.Unlock()
		used[regexp.MustCompile(`/\d+$`).ReplaceAllString(operation.Key, "/...")] = true
		return nil
	})
	h.run(t)
	h.deliver(t, newTurns(2)...)
	h.stop(t)
	assert.ElementsMatch(t, storedValues(t), slices.Collect(maps.Keys(used)))
}
