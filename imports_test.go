package m365copilotreceiver

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/otelcopilot/m365copilotreceiver"

// allowedImports lists the packages of the module that each package may import, directly or not. A package that is not listed
// may import none of them.
var allowedImports = map[string][]string{
	"":                      {"receiver", "internal/graph", "internal/backfill", "internal/dedupe", "internal/directory", "internal/gap", "internal/gap/gapstore", "internal/failure", "internal/health", "internal/interaction", "internal/jwks", "internal/metadata", "internal/notification", "internal/panics", "internal/statestore", "internal/subscription", "internal/translate", "internal/turn", "internal/webhook"},
	"receiver":              {"internal/graph", "internal/backfill", "internal/dedupe", "internal/directory", "internal/gap", "internal/gap/gapstore", "internal/failure", "internal/health", "internal/interaction", "internal/jwks", "internal/metadata", "internal/notification", "internal/panics", "internal/statestore", "internal/subscription", "internal/translate", "internal/turn", "internal/webhook"},
	"internal/webhook":      {"internal/failure", "internal/notification", "internal/interaction", "internal/panics"},
	"internal/notification": {"internal/failure", "internal/interaction", "internal/panics"},
	"internal/subscription": {"internal/graph", "internal/failure", "internal/health"},
	"internal/backfill":     {"internal/gap", "internal/gap/gapstore", "internal/graph", "internal/failure", "internal/health", "internal/interaction", "internal/statestore"},
	"internal/health":       {"internal/failure"},
	"internal/statestore":   {"internal/failure", "internal/health"},
	"internal/graph":        {"internal/failure", "internal/health"},
	"internal/directory":    {"internal/gap", "internal/graph", "internal/failure", "internal/health", "internal/interaction", "internal/statestore"},
	"internal/dedupe":       {"internal/failure", "internal/gap", "internal/health", "internal/interaction", "internal/statestore"},
	"internal/gap":          {"internal/interaction"},
	"internal/gap/gapstore": {"internal/gap", "internal/failure", "internal/health", "internal/interaction", "internal/statestore"},
	"internal/translate":    {"internal/interaction"},
	"internal/turn":         {"internal/interaction"},
	"internal/metadatatest": {"internal/metadata"},
	"cmd/m365copilot":       {"internal/graphtest"},

	// For all others these are part of internal/interaction.
	"internal/interaction":           {"internal/interaction/lenientjson", "internal/interaction/plaintext"},
	"internal/interaction/plaintext": {"internal/interaction/lenientjson"},
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
			if !strings.HasPrefix(dep, module) {
				continue
			}
			imported := withoutModule(dep)
			if !strings.HasPrefix(importer, "internal/interaction") && strings.HasPrefix(imported, "internal/interaction/") {
				imported = "internal/interaction"
			}
			assert.Contains(t, allowedImports[importer], imported, "%q must not import %q", importer, imported)
		}
	}
}

// withoutModule cuts the module off an import path.
func withoutModule(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

func TestImports_InteractionIsLeaf(t *testing.T) {
	t.Parallel()
	for pkg, allowed := range map[string][]string{
		"internal/interaction/lenientjson": nil,
		"internal/interaction/plaintext":   {module + "/internal/interaction/lenientjson", "golang.org/x/net/html"},
		"internal/interaction": {
			module + "/internal/interaction/lenientjson", module + "/internal/interaction/plaintext", "golang.org/x/net/html",
		},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{end}}`, "./"+pkg).Output()
		require.NoError(t, err)
		for dep := range strings.FieldsSeq(string(out)) {
			if dep != module+"/"+pkg {
				assert.True(t, slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }),
					"%s must not import %s", pkg, dep)
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports " "}}`, "./internal/interaction").Output()
	require.NoError(t, err)
	assert.NotContains(t, string(out), "golang.org/x/net/html", "only plaintext reads HTML")
}
