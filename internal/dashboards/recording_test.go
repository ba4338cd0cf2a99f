// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// moment is when the rules are evaluated, at noon.
var moment = time.Date(2025, 12, 1, 12, 0, 0, 0, time.UTC)

const (
	aDay  = 24 * time.Hour
	aWeek = 7 * aDay
)

// recordingCase is the content of a log store with the value of a recorded metric, by the value of its label.
type recordingCase struct {
	name    string
	metric  string
	labels  map[string]string
	records [][]record
	want    map[string]float64
}

// Each recorded metric has the value that its definition says, at a moment in the past.
func TestRecordings_HaveDefinedValues(t *testing.T) {
	t.Parallel()
	store := startVictoriaLogs(t)
	for i, c := range slices.Concat(useCases, weeksCases, inventoryCases, groupCases, experienceCases) {
		t.Run(c.metric+" "+c.name, func(t *testing.T) {
			t.Parallel()
			rule := findRecording(t, c.metric, c.labels)
			tenant := strconv.Itoa(i + 1)
			store.insert(t, tenant, slices.Concat(c.records...))
			assert.Equal(t, c.want, store.evaluate(t, tenant, rule))
		})
	}
}

// Each recording has a test case.
func TestRecordings_AllAreTested(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, c := range slices.Concat(useCases, weeksCases, inventoryCases, groupCases, experienceCases) {
		tested[seriesName(c.metric, c.labels)] = true
	}
	for _, r := range recordings {
		assert.True(t, tested[seriesName(r.metric, r.labels)], "%s %v", r.metric, r.labels)
	}
}

// One series name belongs to one recording, so that none overwrites another, and those of one interval are together.
func TestRecordings_AreDistinctAndOrdered(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i, r := range recordings {
		name := seriesName(r.metric, r.labels)
		assert.False(t, seen[name], name)
		seen[name] = true
		assert.NotEmpty(t, r.definition, name)
		if i > 0 {
			assert.GreaterOrEqual(t, r.interval, recordings[i-1].interval, name)
		}
	}
}

func seriesName(metric string, labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return metric + "{" + strings.Join(pairs, ",") + "}"
}

func findRecording(t *testing.T, metric string, labels map[string]string) recording {
	t.Helper()
	for _, r := range recordings {
		if seriesName(r.metric, r.labels) == seriesName(metric, labels) {
			return r
		}
	}
	require.Fail(t, "no such recording", seriesName(metric, labels))
	return recording{}
}

// record has the fields of a log record in VictoriaLogs. Its time is given by its age at the moment of the evaluation.
type record map[string]any

var uids atomic.Int64 // the last one that was given out

func newRecord(event string, age time.Duration, fields record) record {
	made := record{
		"_time": moment.Add(-age).Format(time.RFC3339Nano), "_msg": "invented", "event_name": event,
		"service.name": "microsoft-365-copilot", "log.record.uid": fmt.Sprintf("uid-%d", uids.Add(1)),
	}
	maps.Copy(made, fields)
	return made
}

func prompt(user string, age time.Duration, more ...record) []record {
	fields := record{
		"microsoft.copilot.interaction.type": "userPrompt", "microsoft.copilot.change.type": "created",
		"microsoft.copilot.app.name": "Word", "microsoft.copilot.content.length": 37, "user.id": user,
	}
	for _, m := range more {
		maps.Copy(fields, m)
	}
	return []record{newRecord("microsoft.copilot.interaction", age, fields)}
}

func answer(user string, age time.Duration, more ...record) []record {
	return prompt(user, age, append([]record{{"microsoft.copilot.interaction.type": "aiResponse"}}, more...)...)
}

func listed(user string, age time.Duration, more ...record) []record {
	fields := record{"user.id": user, "microsoft.copilot.user.licensed": true, "microsoft.copilot.user.days_active": 0}
	for _, m := range more {
		maps.Copy(fields, m)
	}
	return []record{newRecord("microsoft.copilot.user", age, fields)}
}

// each makes records for several users, user-1 and so on.
func each(count int, create func(user string) []record) []record {
	var made []record
	for i := range count {
		made = append(made, create(fmt.Sprintf("user-%d", i+1))...)
	}
	return made
}

// times makes n prompts of a user, a minute apart.
func times(n int, user string, age time.Duration) []record {
	var made []record
	for i := range n {
		made = append(made, prompt(user, age-time.Duration(i)*time.Minute)...)
	}
	return made
}

func repeated(records []record) []record { return slices.Concat(records, records) }

// noUse is what counts as no use: answers, changes and deletions, prompts without a user, and the inventory.
func noUse() []record {
	return slices.Concat(
		answer("answered", time.Hour),
		prompt("changed", time.Hour, record{"microsoft.copilot.change.type": "updated"}),
		prompt("deleted", time.Hour, record{"microsoft.copilot.change.type": "deleted"}),
		prompt("", time.Hour),
		listed("idle", time.Hour),
	)
}

func only(value float64) map[string]float64 { return map[string]float64{"": value} }

func none() map[string]float64 { return map[string]float64{} }

var (
	isLicensed  = record{"microsoft.copilot.user.licensed": true}
	notLicensed = record{"microsoft.copilot.user.licensed": false}
	wasActive   = record{"microsoft.copilot.user.last_active": "2025-11-20T08:00:00Z"}
)

func inApp(name string) record          { return record{"microsoft.copilot.app.name": name} }
func inDepartment(name string) record   { return record{"microsoft.user.department": name} }
func inCountry(name string) record      { return record{"microsoft.user.country": name} }
func daysActive(n int) record           { return record{"microsoft.copilot.user.days_active": n} }
func ofLength(characters int) record    { return record{"microsoft.copilot.content.length": characters} }
func withAgents(asStored string) record { return record{"microsoft.copilot.agents": asStored} }
