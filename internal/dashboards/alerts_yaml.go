// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// alertRunbooks is the page with a section for each alert, whose heading is the alert's name.
const alertRunbooks = "https://github.com/otelcopilot/m365copilotreceiver/blob/main/docs/troubleshooting.md"

const alertsHeader = `# Generated from internal/dashboards by ` + "`make generate`" + `: changes made here are lost.
# For Prometheus, and for vmalert with VictoriaMetrics. The metrics that begin with microsoft_ come from a metrics pipeline, with their
# names in Prometheus: VictoriaMetrics needs -opentelemetry.usePrometheusNaming. Those that begin with otelcol_ are scraped from the
# collector, localhost:8888/metrics; without them the alerts that use them never fire. alerts_test.yaml tests the rules.
groups:
  - name: m365-copilot
    rules:
`

// writeAlerts writes all rules to rules/alerts.yaml in a directory.
func writeAlerts(dir string) error {
	var b strings.Builder
	b.WriteString(alertsHeader)
	for _, a := range alerts() {
		b.WriteString(a.yaml())
	}
	return writeFile(dir, "rules/alerts.yaml", b.String())
}

// yaml returns the rule as an item of the list of rules. Quoted as Go does it, text in ASCII is a string of YAML.
func (a alert) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "      - alert: %s\n        expr: |\n", a.name)
	for line := range strings.SplitSeq(a.expression, "\n") {
		fmt.Fprintf(&b, "          %s\n", line)
	}
	if a.lasting > 0 {
		fmt.Fprintf(&b, "        for: %s\n", alertDuration(a.lasting))
	}
	fmt.Fprintf(&b, "        labels:\n          severity: %s\n        annotations:\n", a.severity)
	fmt.Fprintf(&b, "          summary: %s\n", strconv.Quote(a.summary))
	fmt.Fprintf(&b, "          description: %s\n", strconv.Quote(a.description))
	fmt.Fprintf(&b, "          runbook_url: %s#%s\n", alertRunbooks, strings.ToLower(a.name))
	return b.String()
}

// alertDuration writes a duration of whole minutes as Prometheus does, such as 26h.
func alertDuration(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
