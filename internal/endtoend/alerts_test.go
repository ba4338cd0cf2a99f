// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// alertRules and alertTests are the paths of the alerts and of their unit tests.
var (
	alertRules = filepath.Join(root, "examples", "dashboards", "rules", "alerts.yaml")
	alertTests = filepath.Join(root, "examples", "dashboards", "rules", "alerts_test.yaml")
)

// decodeYAML decodes a file into fields with the tag mapstructure.
func decodeYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	retrieved, err := confmap.NewRetrievedFromYAML(text)
	require.NoError(t, err)
	conf, err := retrieved.AsConf()
	require.NoError(t, err)
	require.NoError(t, conf.Unmarshal(into, confmap.WithIgnoreUnused()))
}

// Prometheus evaluates the rules over the series of the unit tests, and vmalert can read them.
func TestAlerts_FireAsDescribed(t *testing.T) {
	skipIfShort(t, "it needs promtool and vmalert")
	t.Parallel()
	for name, command := range map[string][]string{
		"Prometheus accepts the rules":               {"promtool", "check", "rules", "--lint-fatal", alertRules},
		"Prometheus evaluates them as the tests say": {"promtool", "test", "rules", alertTests},
		"vmalert accepts the rules":                  {"vmalert", "-dryRun", "-rule=" + alertRules},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tool := exec.CommandContext(t.Context(), built(t, "_tools/"+command[0]), command[1:]...)
			out, err := tool.CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// Each alert has a case in which it fires, and one in which it does not.
func TestAlerts_AreTestedBothWays(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert string `mapstructure:"alert"`
			} `mapstructure:"rules"`
		} `mapstructure:"groups"`
	}
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alert    string `mapstructure:"alertname"`
				Expected []any  `mapstructure:"exp_alerts"`
			} `mapstructure:"alert_rule_test"`
		} `mapstructure:"tests"`
	}
	decodeYAML(t, alertRules, &rules)
	decodeYAML(t, alertTests, &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Cases {
			if len(c.Expected) > 0 {
				fires[c.Alert] = true
			} else {
				silent[c.Alert] = true
			}
		}
	}
	want := map[string]bool{}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			want[rule.Alert] = true
		}
	}
	require.NotEmpty(t, want)
	assert.Equal(t, want, fires)
	assert.Equal(t, want, silent)
}
