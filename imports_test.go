// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/otelcopilot/m365copilotreceiver"

// leaves import nothing of the module but leaves.
var leaves = []string{
	"interaction", "interaction/plaintext", "record", "gap", "gap/gapstore", "statestore", "failure", "health", "panics", "graph",
}

// middle are the packages in the middle. They import leaves, and nothing else of the module but what is listed here.
var middle = map[string][]string{
	"jwks": nil, "notification": nil, "subscription": nil, "dedupe": nil, "backfill": nil, "directory": nil, "turn": nil, "privacy": nil,
	"translate": nil,
	"webhook":   {"notification"}, // whose types it carries
}

// only lists packages that import fewer packages of the module than their layer may.
var only = map[string][]string{
	"record":      nil,
	"translate":   {"record"}, // so that what is not in a record can't leave
	"interaction": {"interaction/plaintext"},
}

// top are the packages that may import all others, with tests, the emulator and generated code.
var top = []string{"", "receiver", "doctor", "cmd/m365copilot", "demo", "endtoend", "endtoend/testdata", "graphtest", "metadata", "metadatatest", "tools"}

func mayImport(importer, imported string) bool {
	if allowed, restricted := only[importer]; restricted {
		return slices.Contains(allowed, imported)
	}
	if slices.Contains(leaves, importer) {
		return slices.Contains(leaves, imported)
	}
	if more, ok := middle[importer]; ok {
		return slices.Contains(leaves, imported) || slices.Contains(more, imported)
	}
	return slices.Contains(top, importer)
}

func TestImports_FollowLayers(t *testing.T) {
	t.Parallel()
	for importer, imports := range packages(t) {
		for _, imported := range imports {
			if rest, ours := strings.CutPrefix(imported, module); ours {
				assert.True(t, mayImport(importer, short(rest)), "%q must not import %q", importer, short(rest))
			}
		}
	}
}

// The model of an interaction needs nothing of transport, encryption and OpenTelemetry, and a record nothing at all.
func TestImports_ModelsNeedNoOtherModule(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for pkg, allowed := range map[string]string{"record": "", "interaction": "", "interaction/plaintext": "golang.org/x/net/html"} {
		require.Contains(t, all, pkg)
		for _, imported := range all[pkg] {
			host, _, _ := strings.Cut(imported, "/")
			external := strings.Contains(host, ".") && !strings.HasPrefix(imported, module)
			assert.False(t, external && (allowed == "" || !strings.HasPrefix(imported, allowed)), "%s must not import %s", pkg, imported)
		}
	}
}

func TestImports_ArchitectureListsEachPackage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/architecture.md")
	require.NoError(t, err)
	for pkg := range packages(t) {
		path := pkg
		if pkg == "" {
			path = "/"
		} else if pkg != "receiver" && !strings.HasPrefix(pkg, "cmd/") {
			path = "internal/" + pkg
		}
		if !strings.HasSuffix(path, "/testdata") {
			assert.Contains(t, string(page), "`"+path+"`")
		}
	}
}

// packages returns the imports of each package of the module, by its path below internal/.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	require.NoError(t, err)
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		all[short(strings.TrimPrefix(paths[0], module))] = paths[1:]
	}
	require.Greater(t, len(all), len(middle)+len(leaves))
	return all
}

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "/"), "internal/")
}
