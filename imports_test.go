package m365copilotreceiver

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/otelcopilot/m365copilotreceiver"

// allowedImports lists the packages of the module that each package may import, directly or not. A package that is not listed
// may import none of them.
var allowedImports = map[string][]string{
	"":                      {"receiver", "internal/graph", "internal/backfill", "internal/dedupe", "internal/interaction", "internal/metadata", "internal/notification", "internal/panics", "internal/subscription", "internal/translate", "internal/webhook"},
	"receiver":              {"internal/graph", "internal/backfill", "internal/dedupe", "internal/interaction", "internal/metadata", "internal/notification", "internal/panics", "internal/subscription", "internal/translate", "internal/webhook"},
	"internal/webhook":      {"internal/notification", "internal/interaction", "internal/panics"},
	"internal/notification": {"internal/interaction"},
	"internal/subscription": {"internal/graph"},
	"internal/backfill":     {"internal/graph", "internal/interaction"},
	"internal/dedupe":       {"internal/interaction"},
	"internal/translate":    {"internal/interaction"},
	"internal/metadatatest": {"internal/metadata"},
	"cmd/m365copilot":       {"internal/graphtest"},
}

func TestImports_FollowAllowedList(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...").Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Greater(t, len(lines), len(allowedImports), "the list covers the module")
	for _, line := range lines {
		deps := strings.Fields(line)
		importer := withoutModule(deps[0])
		for _, dep := range deps[1:] {
			if strings.HasPrefix(dep, module) {
				assert.Contains(t, allowedImports[importer], withoutModule(dep), "%q must not import %q", importer, withoutModule(dep))
			}
		}
	}
}

// withoutModule removes the module path from an import path.
func withoutModule(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

func TestImports_InteractionIsLeaf(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{end}}`, "./internal/interaction").Output()
	require.NoError(t, err)
	for dep := range strings.FieldsSeq(string(out)) {
		if dep != module+"/internal/interaction" {
			assert.True(t, strings.HasPrefix(dep, "golang.org/x/net/html"), "interaction imports %s", dep)
		}
	}
}
