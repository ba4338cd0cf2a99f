// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// incidentTimeout is far longer than an outage of a minute and what follows it.
	incidentTimeout = 4 * time.Minute
	// subscriptionGap is the time that is missing since the subscription was removed.
	subscriptionGap = `microsoft_copilot_history_gap_seconds{microsoft_copilot_reason="subscription"}`
)

// The metrics show the outage, and nothing is lost or repeated.
// It is not parallel, because a demonstration that starts takes all processors for some seconds.
func TestDemo_IncidentIsSeenAndRepaired(t *testing.T) {
	skipIfShort(t, "it is a test of an outage")
	d := startDemo(t, "-incident", "1m")
	begun := d.awaitTenant(t, "the ingress is broken")
	gap := func(query string) bool { return d.queryMetrics(t, "", query)[""] > 0 }
	awaitEqual(t, true, func() bool { return gap("max_over_time(" + subscriptionGap + "[10m])") }, incidentTimeout)
	ended := d.awaitTenant(t, "the ingress works again")
	awaitEqual(t, false, func() bool { return gap(subscriptionGap) }, incidentTimeout)

	// What is sent after the outage arrives by notifications again.
	later := ended.Add(15 * time.Second)
	awaitEqual(t, true, func() bool { return time.Now().After(later.Add(10 * time.Second)) }, incidentTimeout)
	once := map[string]int{}
	during := 0
	for _, one := range d.published(t) {
		if one.History || one.Created.After(later) {
			continue
		}
		once[one.Session+" "+one.ID] = 1
		if one.Created.After(begun) && one.Created.Before(ended) {
			during++
		}
	}
	require.Greater(t, during, 10)
	awaitEqual(t, once, func() map[string]int { return d.records(t, once, begun.Add(-demoTimeout)) }, incidentTimeout)

	assert.Greater(t, d.meanHistoryDelay(t, begun), 15., "seconds, of interactions of a minute")
	for name, rule := range d.alertStates(t) {
		assert.Equal(t, "ok", rule.Health, name)
	}
}

// awaitTenant waits for a line in the log of the emulated tenant, and returns its time.
func (d *demoHarness) awaitTenant(t *testing.T, message string) (at time.Time) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^time=(\S+) .*` + message)
	var found []string
	awaitEqual(t, true, func() bool {
		found = line.FindStringSubmatch(string(d.file(t, "tenant.log")))
		return found != nil
	}, incidentTimeout)
	at, err := time.Parse(time.RFC3339Nano, found[1])
	require.NoError(t, err)
	return at
}

// records returns how many records there are of each wanted interaction since a time, however often their uids are the same.
func (d *demoHarness) records(t *testing.T, wanted map[string]int, since time.Time) map[string]int {
	t.Helper()
	query := fmt.Sprintf(`{event_name="microsoft.copilot.interaction"} microsoft.copilot.change.type:="created" _time:>=%s
		| fields gen_ai.conversation.id, microsoft.copilot.interaction.id`, since.UTC().Format(time.RFC3339Nano))
	records := map[string]int{}
	for _, fields := range d.queryLogs(t, query) {
		key := fields["gen_ai.conversation.id"] + " " + fields["microsoft.copilot.interaction.id"]
		if wanted[key] > 0 {
			records[key]++
		}
	}
	return records
}

// meanHistoryDelay returns how old, in seconds, the interactions created since a time were when they were read from the history.
func (d *demoHarness) meanHistoryDelay(t *testing.T, since time.Time) float64 {
	t.Helper()
	query := `{event_name="microsoft.copilot.interaction"} _time:>=` + since.UTC().Format(time.RFC3339Nano) + `
		microsoft.copilot.change.type:="created" microsoft.copilot.source:="history"
		| stats avg(microsoft.copilot.ingestion.delay) as seconds`
	return number(t, d.queryLogs(t, query)[0]["seconds"])
}

// ruleState is what vmalert says of a rule.
type ruleState struct{ Health string }

// alertStates returns the alerts by name, as VictoriaMetrics gets them from vmalert:
// https://prometheus.io/docs/prometheus/latest/querying/api/#rules
func (d *demoHarness) alertStates(t *testing.T) map[string]ruleState {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.metrics+"/api/v1/rules", http.NoBody)
	require.NoError(t, err)
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name string
					ruleState
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(send(t, request), &answer))
	rules := map[string]ruleState{}
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			rules[rule.Name] = rule.ruleState
		}
	}
	require.NotEmpty(t, rules)
	return rules
}
