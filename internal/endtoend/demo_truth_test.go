// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// demoTruth is what is true of the company of the demonstration at a moment, by what its tenant has published.
type demoTruth struct {
	at     time.Time
	people []graphtest.Person
	// all is what was created before that moment.
	all []publishedInteraction
}

// values are numbers by the values of the labels of their series; with the key "" of a series without labels.
type values = map[string]float64

// within returns what was created in a time that ended some time before the moment, and matches.
func (d *demoTruth) within(length, end time.Duration, matches func(*publishedInteraction) bool) (found []*publishedInteraction) {
	for i := range d.all {
		one := &d.all[i]
		if age := d.at.Sub(one.Created); age > end && age <= end+length && matches(one) {
			found = append(found, one)
		}
	}
	return found
}

func isPrompt(one *publishedInteraction) bool { return one.Type == "userPrompt" }
func isAnswer(one *publishedInteraction) bool { return one.Type == "aiResponse" }
func hasText(one *publishedInteraction) bool  { return one.Characters > 0 }

func (d *demoTruth) prompts(length, end time.Duration) []*publishedInteraction {
	return d.within(length, end, isPrompt)
}

// groups returns interactions by the values that key returns for each.
func groups(all []*publishedInteraction, key func(*publishedInteraction) []string) map[string][]*publishedInteraction {
	found := map[string][]*publishedInteraction{}
	for _, one := range all {
		for _, value := range key(one) {
			found[value] = append(found[value], one)
		}
	}
	return found
}

// app returns the app in lower case, since Graph spells some of them in two ways.
func app(one *publishedInteraction) []string {
	if one.App == "" {
		return []string{"unknown"}
	}
	return []string{strings.ToLower(one.App)}
}

func userOf(one *publishedInteraction) []string { return []string{one.User} }
func agentsOf(one *publishedInteraction) []string {
	return slices.Compact(slices.Sorted(slices.Values(one.Agents)))
}
func hourOf(one *publishedInteraction) []string { return []string{one.Created.UTC().Format("15")} }

// counts and usersIn return the number of interactions and of distinct users of each group.
func counts(grouped map[string][]*publishedInteraction) values {
	numbers := values{}
	for key, all := range grouped {
		numbers[key] = float64(len(all))
	}
	return numbers
}

func usersIn(grouped map[string][]*publishedInteraction) values {
	numbers := values{}
	for key, all := range grouped {
		numbers[key] = float64(len(groups(all, userOf)))
	}
	return numbers
}

func single(number int) values { return values{"": float64(number)} }

func (d *demoTruth) activeUsers(length time.Duration) values {
	return single(len(groups(d.prompts(length, 0), userOf)))
}

func (d *demoTruth) promptCount(length time.Duration) values {
	return single(len(d.prompts(length, 0)))
}

func (d *demoTruth) returningUsers() values {
	before, n := groups(d.prompts(week, week), userOf), 0
	for user := range groups(d.prompts(week, 0), userOf) {
		if len(before[user]) > 0 {
			n++
		}
	}
	return single(n)
}

func (d *demoTruth) previousUsers() values { return single(len(groups(d.prompts(week, week), userOf))) }

// segments returns the users of each habit segment, by their prompts of the last 12 weeks.
func (d *demoTruth) segments() values {
	numbers := values{"power": 0, "habitual": 0, "novice": 0, "low": 0}
	for _, prompts := range groups(d.prompts(12*week, 0), userOf) {
		weeks, earlier := map[time.Duration]bool{}, false
		for _, one := range prompts {
			n := (d.at.Sub(one.Created) - 1) / week
			weeks[n], earlier = true, earlier || n >= 4
		}
		switch habitual := len(weeks) >= 9; {
		case habitual && len(prompts) > 12*15:
			numbers["power"]++
		case habitual:
			numbers["habitual"]++
		case !earlier:
			numbers["novice"]++
		default:
			numbers["low"]++
		}
	}
	return numbers
}

// cohorts returns the users by the number of whole weeks since their first prompt, and those of them who prompted in the last week.
func (d *demoTruth) cohorts() (all, retained values) {
	all, retained = values{}, values{}
	for weeks := 1; weeks <= 11; weeks++ {
		all[weekKey(weeks)], retained[weekKey(weeks)] = 0, 0
	}
	for _, prompts := range groups(d.prompts(24*week, 0), userOf) {
		first, last := d.at, time.Time{}
		for _, one := range prompts {
			first, last = earliest(first, one.Created), latest(last, one.Created)
		}
		weeks := int((d.at.Sub(first) - 1) / week)
		if weeks < 1 || weeks > 11 {
			continue
		}
		all[weekKey(weeks)]++
		if d.at.Sub(last) <= week {
			retained[weekKey(weeks)]++
		}
	}
	return all, retained
}

func weekKey(weeks int) string { return strconv.Itoa(100 + weeks)[1:] }

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (d *demoTruth) retained() values    { _, retained := d.cohorts(); return retained }
func (d *demoTruth) cohortUsers() values { all, _ := d.cohorts(); return all }

// quantile returns the value of which the given part of the numbers is smaller.
func quantile(q float64, numbers []float64) float64 {
	sort.Float64s(numbers)
	return numbers[min(int(q*float64(len(numbers))), len(numbers)-1)]
}

// lengths returns a quantile of the lengths of what has text, by app.
func (d *demoTruth) lengths(q float64, matches func(*publishedInteraction) bool) values {
	numbers := values{}
	all := d.within(week, 0, func(one *publishedInteraction) bool { return matches(one) && hasText(one) })
	for key, of := range groups(all, app) {
		var characters []float64
		for _, one := range of {
			characters = append(characters, float64(one.Characters))
		}
		numbers[key] = quantile(q, characters)
	}
	return numbers
}

func (d *demoTruth) answers() map[string][]*publishedInteraction {
	return groups(d.within(week, 0, isAnswer), app)
}

func (d *demoTruth) emptyAnswers() values {
	numbers := values{}
	for key, all := range d.answers() {
		numbers[key] = 0
		for _, one := range all {
			if !hasText(one) {
				numbers[key]++
			}
		}
	}
	return numbers
}

// minGroup is the number of users below which a department or country is hidden.
const minGroup = 10

func department(p *graphtest.Person) string { return p.Department }
func country(p *graphtest.Person) string    { return p.Country }

// licensedBy returns the licensed people who match, by department or country; groups with few licensed people are hidden.
func (d *demoTruth) licensedBy(group func(*graphtest.Person) string, matches func(id string) bool) values {
	licensed, matching := values{}, values{}
	for i := range d.people {
		if p := &d.people[i]; p.Licensed && group(p) != "" {
			licensed[group(p)]++
			matching[group(p)] += 0
			if matches(p.ID) {
				matching[group(p)]++
			}
		}
	}
	for name, n := range licensed {
		if n < minGroup {
			delete(matching, name)
		}
	}
	return matching
}

func everybody(string) bool { return true }

// neverPrompted returns whether there is no prompt of a user.
func (d *demoTruth) neverPrompted() func(id string) bool {
	prompts := groups(d.prompts(year, 0), userOf)
	return func(id string) bool { return len(prompts[id]) == 0 }
}

// activeDays returns whether a user prompted on one of the last 28 days in UTC, today included.
func (d *demoTruth) activeDays() func(id string) bool {
	today := d.at.UTC().Truncate(day)
	prompts := groups(d.within(year, 0, func(one *publishedInteraction) bool {
		return isPrompt(one) && !one.Created.Before(today.Add(-27*day))
	}), userOf)
	return func(id string) bool { return len(prompts[id]) > 0 }
}

// active28 returns whether a user prompted in the last 28 days.
func (d *demoTruth) active28() func(id string) bool {
	prompts := groups(d.prompts(4*week, 0), userOf)
	return func(id string) bool { return len(prompts[id]) > 0 }
}

// licensed returns how many people have a license.
func (d *demoTruth) licensed() (n int) {
	for _, p := range d.people {
		if p.Licensed {
			n++
		}
	}
	return n
}

func (d *demoTruth) neverUsed() values {
	n, never := 0, d.neverPrompted()
	for _, p := range d.people {
		if p.Licensed && never(p.ID) {
			n++
		}
	}
	return single(n)
}

const (
	week = 7 * day
	year = 365 * day
)

// recordedTruth returns the values of each recorded metric, by its name and its own labels.
func (d *demoTruth) recordedTruth() map[string]values {
	truth := map[string]values{
		"copilot:returning_users":                  d.returningUsers(),
		"copilot:previous_week_users":              d.previousUsers(),
		"copilot:licensed_users":                   single(d.licensed()),
		"copilot:never_used_users":                 d.neverUsed(),
		"copilot:department_licensed_users":        d.licensedBy(department, everybody),
		"copilot:department_active_licensed_users": d.licensedBy(department, d.activeDays()),
		"copilot:department_never_used_users":      d.licensedBy(department, d.neverPrompted()),
		"copilot:country_licensed_users":           d.licensedBy(country, everybody),
		"copilot:country_active_licensed_users":    d.licensedBy(country, d.activeDays()),
		"copilot:country_never_used_users":         d.licensedBy(country, d.neverPrompted()),
		"copilot:segment_users":                    d.segments(),
		"copilot:cohort_users":                     d.cohortUsers(),
		"copilot:cohort_retained_users":            d.retained(),
		`copilot:app_answers{window="7d"}`:         counts(d.answers()),
		`copilot:app_empty_answers{window="7d"}`:   d.emptyAnswers(),
		`copilot:app_users{window="28d"}`:          usersIn(groups(d.prompts(4*week, 0), app)),
		`copilot:app_prompts{window="28d"}`:        counts(groups(d.prompts(4*week, 0), app)),
		`copilot:hour_prompts{window="28d"}`:       counts(groups(d.prompts(4*week, 0), hourOf)),
		`copilot:agent_users{window="28d"}`:        usersIn(groups(d.prompts(4*week, 0), agentsOf)),
		`copilot:agent_prompts{window="28d"}`:      counts(groups(d.prompts(4*week, 0), agentsOf)),
		// All who prompt have a license.
		`copilot:department_active_users{window="28d"}`: d.licensedBy(department, d.active28()),
		`copilot:country_active_users{window="28d"}`:    d.licensedBy(country, d.active28()),

		`copilot:app_prompt_length{quantile="0.5",window="7d"}`: d.lengths(0.5, isPrompt),
		`copilot:app_prompt_length{quantile="0.9",window="7d"}`: d.lengths(0.9, isPrompt),
		`copilot:app_answer_length{quantile="0.5",window="7d"}`: d.lengths(0.5, isAnswer),
		`copilot:app_answer_length{quantile="0.9",window="7d"}`: d.lengths(0.9, isAnswer),
	}
	for window, length := range map[string]time.Duration{"1d": day, "7d": week, "28d": 4 * week} {
		label := `{window="` + window + `"}`
		truth["copilot:active_users"+label] = d.activeUsers(length)
		truth["copilot:active_licensed_users"+label] = d.activeUsers(length)
		truth["copilot:prompts"+label] = d.promptCount(length)
	}
	return truth
}
