// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func writeRules(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestReadRules_TakesLabelsOfGroup(t *testing.T) {
	t.Parallel()
	rules, err := readRules(writeRules(t, `
groups:
  - name: adoption
    type: vlogs
    interval: 5m
    labels: {source: logs, window: none}
    rules:
      - record: copilot:users
        expr: _time:7d | stats count_uniq(user.id) as users
        labels: {window: 7d}
  - name: more
    rules:
      - {record: 'copilot:prompts', expr: '_time:1h | stats count() as prompts'}
`))
	require.NoError(t, err)
	assert.Equal(t, []rule{
		{"copilot:users", "_time:7d | stats count_uniq(user.id) as users", map[string]string{"source": "logs", "window": "7d"}},
		{"copilot:prompts", "_time:1h | stats count() as prompts", map[string]string{}},
	}, rules)
}

func TestReadRules_RefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"no YAML":            {"{", "did not find expected"},
		"no rules":           {"groups: []", "has no recording rules"},
		"an alert":           {"groups: [{rules: [{alert: Down, expr: up == 0}]}]", "lacks record or expr"},
		"a rule of no query": {"groups: [{rules: [{record: 'copilot:users'}]}]", "lacks record or expr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := readRules(writeRules(t, c.text))
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := readRules("nowhere.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestPastEvaluations_BeginWhenHistoryIsLongEnough(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.November, 26, 15, 30, 0, 0, time.UTC)
	midnight := now.Truncate(day)
	for name, c := range map[string]struct {
		query string
		first time.Time
	}{
		"a day: since the history is a day long":   {"_time:1d | stats count() as n", midnight.Add(-82 * day)},
		"24 hours: the same":                       {"{a=b} _time:24h | stats count() as n", midnight.Add(-82 * day)},
		"a week: four weeks":                       {"_time:7d | stats count() as n", midnight.Add(-27 * day)},
		"the longer of two":                        {"_time:2w a:in(_time:1d | fields a) | stats count() as n", midnight.Add(-27 * day)},
		"nine weeks: since the history is as long": {"_time:63d | stats count() as n", midnight.Add(-20 * day)},
		"more than the history: two weeks":         {"_time:168d | stats count() as n", midnight.Add(-13 * day)},
		"a filter of another field":                {"end_time:28d | stats count() as n", midnight.Add(-83 * day)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			evaluations := pastEvaluations([]rule{{query: c.query}}, now)
			require.Len(t, evaluations, int(midnight.Sub(c.first)/day)+1)
			for i, e := range evaluations {
				assert.Equal(t, c.first.Add(time.Duration(i)*day), e.at)
			}
		})
	}
}
