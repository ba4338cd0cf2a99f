// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

const day = 24 * time.Hour

// rule is a recording rule: the results of a LogsQL query become samples of a metric.
type rule struct {
	metric, query string
	labels        map[string]string // of each sample, beside those of the results
}

// evaluation is a rule at a time.
type evaluation struct {
	rule rule
	at   time.Time
}

// readRules reads the recording rules of a file: https://docs.victoriametrics.com/victoriametrics/vmalert/#groups
func readRules(path string) (rules []rule, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // whoever runs it names the directory
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []struct {
			Labels map[string]string `yaml:"labels"`
			Rules  []struct {
				Record string            `yaml:"record"`
				Expr   string            `yaml:"expr"`
				Labels map[string]string `yaml:"labels"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Record == "" || r.Expr == "" {
				return nil, fmt.Errorf("%s: a rule of %v lacks record or expr", path, r)
			}
			labels := map[string]string{}
			maps.Copy(labels, group.Labels)
			maps.Copy(labels, r.Labels)
			rules = append(rules, rule{metric: r.Record, query: r.Expr, labels: labels})
		}
	}
	if len(rules) == 0 {
		return nil, errors.New(path + " has no recording rules")
	}
	return rules, nil
}

// timeFilter matches a filter such as _time:28d.
var timeFilter = regexp.MustCompile(`\b_time:(\d+)([hdw])\b`)

// window returns the longest time that a rule looks back, in the filters that its query has.
func (r *rule) window() (longest time.Duration) {
	units := map[string]time.Duration{"h": time.Hour, "d": day, "w": 7 * day}
	for _, found := range timeFilter.FindAllStringSubmatch(r.query, -1) {
		n, _ := strconv.Atoi(found[1]) // digits
		longest = max(longest, time.Duration(n)*units[found[2]])
	}
	return longest
}

// pastEvaluations returns when to evaluate the rules in the time before now: at each midnight (UTC) of the history if they look back a day,
// and of the last four weeks if they look back longer, because each of these takes more processor time. What looks back farther than the
// history went at a midnight would have results that are too small, so it begins later, but two weeks ago at the latest.
func pastEvaluations(rules []rule, now time.Time) (evaluations []evaluation) {
	for _, r := range rules {
		past := history - r.window()
		if r.window() > day {
			past = max(min(past, 28*day), 14*day)
		}
		for at := now.Add(-past).Truncate(day).Add(day); at.Before(now); at = at.Add(day) {
			evaluations = append(evaluations, evaluation{r, at})
		}
	}
	return evaluations
}

// evaluationsAt returns one evaluation of each rule.
func evaluationsAt(rules []rule, at time.Time) (evaluations []evaluation) {
	for _, r := range rules {
		evaluations = append(evaluations, evaluation{r, at})
	}
	return evaluations
}
