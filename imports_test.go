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

// arrows says what of the module each room may import, directly or not. Whatever is not listed may import nothing of it.
var arrows = map[string][]string{
	"":                      {"receiver", "internal/graph", "internal/backfill", "internal/dedupe", "internal/interaction", "internal/jwks", "internal/metadata", "internal/notification", "internal/panics", "internal/subscription", "internal/translate", "internal/webhook"},
	"receiver":              {"internal/graph", "internal/backfill", "internal/dedupe", "internal/interaction", "internal/jwks", "internal/metadata", "internal/notification", "internal/panics", "internal/subscription", "internal/translate", "internal/webhook"},
	"internal/webhook":      {"internal/notification", "internal/interaction", "internal/panics"},
	"internal/notification": {"internal/interaction"},
	"internal/subscription": {"internal/graph"},
	"internal/backfill":     {"internal/graph", "internal/interaction"},
	"internal/dedupe":       {"internal/interaction"},
	"internal/translate":    {"internal/interaction"},
	"internal/metadatatest": {"internal/metadata"},
	"cmd/m365copilot":       {"internal/graphtest"},

	// For all others these are part of internal/interaction.
	"internal/interaction":           {"internal/interaction/lenientjson", "internal/interaction/plaintext"},
	"internal/interaction/plaintext": {"internal/interaction/lenientjson"},
}

func TestArrowsPointOneWay(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...").Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Greater(t, len(lines), len(arrows), "every room is listed")
	for _, line := range lines {
		deps := strings.Fields(line)
		room := inside(deps[0])
		for _, dep := range deps[1:] {
			if !strings.HasPrefix(dep, module) {
				continue
			}
			imported := inside(dep)
			if !strings.HasPrefix(room, "internal/interaction") && strings.HasPrefix(imported, "internal/interaction/") {
				imported = "internal/interaction"
			}
			assert.Contains(t, arrows[room], imported, "%q must not import %q", room, imported)
		}
	}
}

// inside cuts the module off an import path.
func inside(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

func TestTheDomainKnowsNothingOfItsSurroundings(t *testing.T) {
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
