// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"time"
)

// edges are prompts on both sides of both ends of a window: those of inside, and inside again, count.
func edges(length time.Duration, more ...record) []record {
	return slices.Concat(
		prompt("inside", length, more...), prompt("inside", length-time.Hour, more...), prompt("last", time.Millisecond, more...),
		prompt("too early", length+time.Millisecond, more...), prompt("too late", 0, more...),
	)
}

func windowCases(length string, duration time.Duration) []recordingCase {
	return []recordingCase{
		{
			name: "counts users once, and each window from its first moment on", metric: "copilot:active_users", labels: window(length),
			records: [][]record{edges(duration), noUse()}, want: only(2),
		},
		{
			name: "is 0 without prompts", metric: "copilot:active_users", labels: window(length),
			records: [][]record{noUse()}, want: only(0),
		},
		{
			name: "counts those who had a license", metric: "copilot:active_licensed_users", labels: window(length),
			records: [][]record{
				edges(duration, isLicensed), prompt("without", time.Hour, notLicensed), prompt("not known", time.Hour), noUse(),
			},
			want: only(2),
		},
		{
			name: "counts a repeated record once", metric: "copilot:prompts", labels: window(length),
			records: [][]record{edges(duration), repeated(prompt("inside", time.Minute)), noUse()}, want: only(4),
		},
	}
}

var useCases = slices.Concat(
	windowCases(day, aDay), windowCases(week, aWeek), windowCases(fourWeeks, 4*aWeek),
	[]recordingCase{
		{
			name: "takes both spellings together, and who uses two apps in both", metric: "copilot:app_users", labels: window(fourWeeks),
			records: [][]record{
				prompt("a", time.Hour, inApp("PowerPoint")), prompt("b", aWeek, inApp("Powerpoint")), prompt("a", aWeek, inApp("Powerpoint")),
				prompt("a", aWeek, inApp("Word")), prompt("c", aDay, inApp("")), prompt("d", 29*aDay, inApp("Word")), noUse(),
			},
			want: map[string]float64{"powerpoint": 2, "word": 1, "unknown": 1},
		},
		{
			name: "counts a repeated record once", metric: "copilot:app_prompts", labels: window(fourWeeks),
			records: [][]record{
				repeated(prompt("a", time.Hour, inApp("PowerPoint"))), prompt("b", aWeek, inApp("Powerpoint")),
				prompt("a", aWeek, inApp("Word")), prompt("d", 29*aDay, inApp("Word")), noUse(),
			},
			want: map[string]float64{"powerpoint": 2, "word": 1},
		},
		{
			name: "is by the hour in UTC", metric: "copilot:hour_prompts", labels: window(fourWeeks),
			records: [][]record{
				repeated(prompt("a", 3*time.Hour)), prompt("a", 3*time.Hour+time.Millisecond), prompt("b", aDay+3*time.Hour),
				prompt("b", 29*aDay), noUse(),
			},
			want: map[string]float64{"09": 2, "08": 1},
		},
	},
)

var weeksCases = []recordingCase{
	{
		name: "needs a prompt in both weeks", metric: "copilot:returning_users",
		records: [][]record{
			prompt("both", time.Hour), prompt("both", 8*aDay), prompt("first and last moment", aWeek), prompt("first and last moment", 2*aWeek),
			prompt("last week", time.Hour), prompt("week before", 8*aDay), prompt("a week between", time.Hour), prompt("a week between", 15*aDay),
			answer("week before", time.Hour), noUse(),
		},
		want: only(2),
	},
	{
		name: "is 0 if nobody returned", metric: "copilot:returning_users",
		records: [][]record{prompt("a", time.Hour), noUse()}, want: only(0),
	},
	{
		name: "counts the week before alone", metric: "copilot:previous_week_users",
		records: [][]record{
			prompt("a", 2*aWeek), prompt("a", 8*aDay), prompt("b", aWeek+time.Millisecond), prompt("c", aWeek),
			prompt("d", 2*aWeek+time.Millisecond),
		},
		want: only(2),
	},
	{
		name: "puts each user into one segment", metric: "copilot:segment_users",
		records: [][]record{
			weekly("power", 21, 1, 2, 3, 4, 5, 6, 7, 8, 9),
			weekly("power too", 50, 4, 5, 6, 7, 8, 9, 10, 11, 12),
			weekly("power by one", 20, 1, 2, 4, 5, 6, 8, 9, 10, 12), repeated(prompt("power by one", 3*aWeek)), // 181 prompts
			weekly("regular", 20, 1, 2, 3, 4, 5, 6, 7, 8, 9),
			weekly("regular too", 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
			weekly("much in few weeks", 50, 1, 2, 3, 4, 5, 6, 7, 8),
			weekly("novice", 100, 1, 2, 3, 4), prompt("novice since 4 weeks", 4*aWeek),
			prompt("low", 4*aWeek+time.Millisecond), prompt("low too", 12*aWeek),
			prompt("too early", 12*aWeek+time.Millisecond), noUse(),
		},
		want: map[string]float64{"power": 3, "habitual": 2, "novice": 2, "low": 3},
	},
	{
		name: "counts a repeated record once", metric: "copilot:segment_users",
		records: [][]record{repeated(weekly("regular", 20, 1, 2, 3, 4, 5, 6, 7, 8, 9))},
		want:    map[string]float64{"power": 0, "habitual": 1, "novice": 0, "low": 0},
	},
	{
		name: "is 0 for segments of nobody", metric: "copilot:segment_users", records: [][]record{noUse()},
		want: map[string]float64{"power": 0, "habitual": 0, "novice": 0, "low": 0},
	},
	{
		name: "counts by whole weeks since the first prompt", metric: "copilot:cohort_users", records: [][]record{cohorts, noUse()},
		want: byWeek(map[string]float64{"01": 3, "02": 1, "11": 1}),
	},
	{
		name: "counts those with a prompt in the last week", metric: "copilot:cohort_retained_users", records: [][]record{cohorts, noUse()},
		want: byWeek(map[string]float64{"01": 2, "11": 1}),
	},
}

// byWeek returns the values of all cohorts, 0 for those that are not given.
func byWeek(given map[string]float64) map[string]float64 {
	all := map[string]float64{}
	for week := 1; week <= 11; week++ {
		name := fmt.Sprintf("%02d", week)
		all[name] = given[name]
	}
	return all
}

// weekly makes n prompts of a user in each of some weeks, of which 1 is the last.
func weekly(user string, n int, weeks ...int) []record {
	var made []record
	for _, w := range weeks {
		made = append(made, times(n, user, time.Duration(w)*aWeek-time.Hour)...)
	}
	return made
}

var cohorts = slices.Concat(
	prompt("retained", 8*aDay), prompt("retained", time.Hour),
	prompt("gone", aWeek+time.Millisecond),
	prompt("first of 01", 2*aWeek), prompt("first of 01", 8*aDay), prompt("first of 01", aWeek), // a prompt of the last week begins with it
	prompt("last of 02", 2*aWeek+time.Millisecond),
	prompt("eleven", 12*aWeek), prompt("eleven", aDay),
	prompt("twelve", 12*aWeek+time.Millisecond), prompt("twelve", aDay),
	prompt("new", 2*aDay),
	prompt("old", 24*aWeek), prompt("old", 8*aDay), prompt("old", aDay),
	// What is more than 24 weeks ago is not read: retained by its prompts since.
	prompt("retained", 24*aWeek+time.Millisecond),
)

var inventoryCases = []recordingCase{
	{
		name: "counts users of the last 25 hours once", metric: "copilot:licensed_users",
		records: [][]record{
			repeated(listed("a", time.Hour)), listed("a", 25*time.Hour), listed("b", 25*time.Hour), listed("c", 26*time.Hour), prompt("d", aDay),
		},
		want: only(2),
	},
	{name: "is absent without an inventory", metric: "copilot:licensed_users", records: [][]record{prompt("a", time.Hour)}, want: none()},
	{
		name: "counts users without a last prompt", metric: "copilot:never_used_users",
		records: [][]record{
			repeated(listed("never", time.Hour)), listed("used", time.Hour, wasActive), listed("by another replica", time.Hour, wasActive),
			listed("by another replica", time.Minute), prompt("no license", time.Hour), listed("not listed any more", 26*time.Hour),
		},
		want: only(1),
	},
	{name: "is 0 if all used it", metric: "copilot:never_used_users", records: [][]record{listed("a", time.Hour, wasActive)}, want: only(0)},
	{name: "is absent without an inventory", metric: "copilot:never_used_users", records: [][]record{prompt("a", time.Hour)}, want: none()},
}

// groupCases are the same for departments and countries.
var groupCases = slices.Concat(
	casesOf("department", inDepartment), casesOf("country", inCountry),
)

func casesOf(label string, in func(name string) record) []recordingCase {
	big := each(10, func(user string) []record { return listed("big "+user, time.Hour, in("big")) })
	small := each(9, func(user string) []record { return listed("small "+user, time.Hour, in("small")) })
	return []recordingCase{
		{
			name: "hides less than 10, and takes the latest " + label, metric: "copilot:" + label + "_licensed_users",
			records: [][]record{
				repeated(big), small, listed("moved", 2*time.Hour, in("small")), listed("moved", time.Hour, in("big")),
				listed("not known", time.Hour), prompt("no license", time.Hour, in("small")), listed("listed earlier", 26*time.Hour, in("small")),
			},
			want: map[string]float64{"big": 11},
		},
		{
			name: "counts those with days of use", metric: "copilot:" + label + "_active_licensed_users",
			records: [][]record{
				big, each(9, func(user string) []record { return listed("small "+user, time.Hour, in("small"), daysActive(3)) }),
				listed("big user-1", time.Minute, in("big"), daysActive(1)), listed("more", time.Hour, in("big"), daysActive(28)),
				each(10, func(user string) []record { return listed("idle "+user, time.Hour, in("idle")) }),
			},
			want: map[string]float64{"big": 2, "idle": 0},
		},
		{
			name: "counts those without a last prompt", metric: "copilot:" + label + "_never_used_users",
			records: [][]record{
				big, small, listed("big user-1", time.Minute, in("big"), wasActive), listed("more", time.Hour, in("big"), wasActive),
				each(10, func(user string) []record { return listed("busy "+user, time.Hour, in("busy"), wasActive) }),
			},
			want: map[string]float64{"big": 9, "busy": 0},
		},
		{
			name: "hides groups of which less than 10 are known", metric: "copilot:" + label + "_active_users", labels: window(fourWeeks),
			records: [][]record{
				big, prompt("big user-1", aDay, in("big")), prompt("big user-1", 2*aDay, in("big")), prompt("no license", 4*aWeek, in("big")),
				answer("big user-2", time.Hour, in("big")), prompt("big user-3", 4*aWeek+time.Millisecond, in("big")),
				prompt("moved", 2*aDay, in("small")), prompt("moved", aDay, in("big")),
				each(9, func(user string) []record { return prompt("small "+user, time.Hour, in("small")) }),
				each(10, func(user string) []record { return prompt("unlisted "+user, time.Hour, in("unlisted")) }), prompt("unknown", time.Hour),
			},
			want: map[string]float64{"big": 3, "unlisted": 10},
		},
	}
}

var experienceCases = []recordingCase{
	{
		name: "counts answers by app, with and without a user", metric: "copilot:app_answers", labels: window(week),
		records: [][]record{answers, prompt("a", time.Hour)}, want: map[string]float64{"word": 3, "teams": 1},
	},
	{
		name: "is 0 for apps whose answers all have text", metric: "copilot:app_empty_answers", labels: window(week),
		records: [][]record{answers, prompt("a", time.Hour, ofLength(0))}, want: map[string]float64{"word": 1, "teams": 0},
	},
	{
		name: "is the median of those with text", metric: "copilot:app_prompt_length", labels: lengthLabels("0.5"),
		records: [][]record{lengths(prompt), answer("a", time.Hour, ofLength(1000))}, want: map[string]float64{"word": 600, "teams": 7},
	},
	{
		name: "is the 90th percentile of those with text", metric: "copilot:app_prompt_length", labels: lengthLabels("0.9"),
		records: [][]record{lengths(prompt), answer("a", time.Hour, ofLength(1000))}, want: map[string]float64{"word": 1000, "teams": 7},
	},
	{
		name: "is the median of those with text", metric: "copilot:app_answer_length", labels: lengthLabels("0.5"),
		records: [][]record{lengths(answer), prompt("a", time.Hour, ofLength(1000))}, want: map[string]float64{"word": 600, "teams": 7},
	},
	{
		name: "is the 90th percentile of those with text", metric: "copilot:app_answer_length", labels: lengthLabels("0.9"),
		records: [][]record{lengths(answer), prompt("a", time.Hour, ofLength(1000))}, want: map[string]float64{"word": 1000, "teams": 7},
	},
	{
		name: "counts a user of two agents for both", metric: "copilot:agent_users", labels: window(fourWeeks),
		records: [][]record{agents, noUse()}, want: map[string]float64{"Researcher": 2, "Analyst": 1},
	},
	{
		name: "counts a prompt to two agents for both", metric: "copilot:agent_prompts", labels: window(fourWeeks),
		records: [][]record{agents, noUse()}, want: map[string]float64{"Researcher": 3, "Analyst": 1},
	},
}

func lengthLabels(quantile string) map[string]string {
	return map[string]string{"window": week, "quantile": quantile}
}

var answers = slices.Concat(
	answer("a", time.Hour), repeated(answer("", aDay, ofLength(0))), answer("b", aWeek, inApp("word")), answer("a", time.Hour, inApp("Teams")),
	answer("a", aWeek+time.Millisecond, ofLength(0)), answer("a", time.Hour, ofLength(0), record{"microsoft.copilot.change.type": "updated"}),
)

// lengths are 100, 200 up to 1100 characters in Word, as many without text, and 7 in Teams.
func lengths(create func(user string, age time.Duration, more ...record) []record) []record {
	made := slices.Concat(
		create("a", time.Hour, inApp("Teams"), ofLength(7)), create("a", 8*aDay, ofLength(1)),
		create("a", time.Hour, ofLength(2), record{"microsoft.copilot.change.type": "updated"}),
	)
	for i := range 11 {
		made = append(made, create("a", time.Hour, ofLength(100*(i+1)))...)
		made = append(made, create("a", time.Hour, ofLength(0))...)
	}
	return made
}

var agents = slices.Concat(
	repeated(prompt("a", time.Hour, withAgents(`["Researcher","Analyst"]`))), prompt("a", aDay, withAgents(`["Researcher"]`)),
	prompt("b", 4*aWeek, withAgents(`["Researcher"]`)), prompt("c", aDay), answer("d", aDay, withAgents(`["Researcher"]`)),
	prompt("e", 4*aWeek+time.Millisecond, withAgents(`["Researcher"]`)),
)
