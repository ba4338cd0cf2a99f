// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// recording is a metric that a rule computes from the logs. Its value at a moment depends on the logs before this moment alone, so that
// it can be computed for a moment in the past.
type recording struct {
	metric     string
	definition string            // what the number is, in one or two sentences
	labels     map[string]string // that each series has
	by         string            // the label whose values come from the logs; empty if there is one series
	interval   time.Duration
	victoria   string // LogsQL
	loki       string // LogQL; empty where it can't express the query
}

// How often the rules run: those that read up to two weeks of logs, and those that read more.
const (
	shortInterval = 5 * time.Minute
	longInterval  = time.Hour
)

// Windows are rolling: they end at the moment of the evaluation. A day has 24 hours, and a week seven such days.
const (
	day       = "1d"
	week      = "7d"
	fourWeeks = "28d"
)

// What the rules select. The event name is a stream field, so that braces find its records fast. Each prompt and answer counts once,
// however often its record is repeated: count_uniq_hash counts distinct values with 8 bytes for each.
const (
	logsPrompts = `{event_name="microsoft.copilot.interaction"} user.id:*
microsoft.copilot.change.type:="created" microsoft.copilot.interaction.type:="userPrompt"`

	logsAnswers = `{event_name="microsoft.copilot.interaction"}
microsoft.copilot.change.type:="created" microsoft.copilot.interaction.type:="aiResponse"`

	// The inventory of a day, and an hour for what came late.
	logsInventory = `_time:25h {event_name="microsoft.copilot.user"}`

	countUsers   = `count_uniq(user.id) as users`
	countPrompts = `count_uniq_hash(log.record.uid) as prompts`

	// Graph sends both PowerPoint and Powerpoint.
	appLabel = `
| format "<lc:microsoft.copilot.app.name>" as app
| format if (app:"") "unknown" as app`
)

// Users and prompts of a window.
const (
	logsActiveUsers         = logsPrompts + "\n| stats " + countUsers
	logsActiveLicensedUsers = logsPrompts + ` microsoft.copilot.user.licensed:="true"` + "\n| stats " + countUsers
	logsPromptCount         = logsPrompts + "\n| stats " + countPrompts

	logsAppUsers   = `_time:28d ` + logsPrompts + appLabel + "\n| stats by (app) " + countUsers
	logsAppPrompts = `_time:28d ` + logsPrompts + appLabel + "\n| stats by (app) " + countPrompts

	logsHourPrompts = `_time:28d ` + logsPrompts + `
| extract "T<hour>:" from _time
| stats by (hour) ` + countPrompts
)

// Users over several weeks.
const (
	logsReturningUsers = `_time:14d ` + logsPrompts + `
| stats by (user.id) count() if (_time:7d) as last_week, count() if (_time:7d offset 7d) as week_before
| filter last_week:>0 week_before:>0
| stats count() as users`

	logsPreviousUsers = `_time:7d offset 7d ` + logsPrompts + "\n| stats " + countUsers

	// The later formats take precedence. 180 prompts are 15 a week. The rows without a user make a segment of nobody 0.
	logsSegmentUsers = `_time:84d ` + logsPrompts + `
| stats by (user.id) ` + countPrompts + `,
    count() if (_time:7d) as w1,
    count() if (_time:7d offset 7d) as w2,
    count() if (_time:7d offset 14d) as w3,
    count() if (_time:7d offset 21d) as w4,
    count() if (_time:7d offset 28d) as w5,
    count() if (_time:7d offset 35d) as w6,
    count() if (_time:7d offset 42d) as w7,
    count() if (_time:7d offset 49d) as w8,
    count() if (_time:7d offset 56d) as w9,
    count() if (_time:7d offset 63d) as w10,
    count() if (_time:7d offset 70d) as w11,
    count() if (_time:7d offset 77d) as w12
| math w5 + w6 + w7 + w8 + w9 + w10 + w11 + w12 as earlier,
    min(w1, 1) + min(w2, 1) + min(w3, 1) + min(w4, 1) + min(w5, 1) + min(w6, 1)
    + min(w7, 1) + min(w8, 1) + min(w9, 1) + min(w10, 1) + min(w11, 1) + min(w12, 1) as weeks
| format "low" as segment
| format if (earlier:=0) "novice" as segment
| format if (weeks:>=9) "habitual" as segment
| format if (weeks:>=9 prompts:>180) "power" as segment
| union rows({"segment":"power"}, {"segment":"habitual"}, {"segment":"novice"}, {"segment":"low"})
| stats by (segment) ` + countUsers

	// After the first stats the time of a row is that of the user's first prompt. The rows without a user make a week of nobody 0.
	logsCohorts = `_time:168d ` + logsPrompts + `
| stats by (user.id) min(_time) as _time, count() if (_time:7d) as last_week
| format if (_time:7d offset 7d) "01" as weeks_ago
| format if (_time:7d offset 14d) "02" as weeks_ago
| format if (_time:7d offset 21d) "03" as weeks_ago
| format if (_time:7d offset 28d) "04" as weeks_ago
| format if (_time:7d offset 35d) "05" as weeks_ago
| format if (_time:7d offset 42d) "06" as weeks_ago
| format if (_time:7d offset 49d) "07" as weeks_ago
| format if (_time:7d offset 56d) "08" as weeks_ago
| format if (_time:7d offset 63d) "09" as weeks_ago
| format if (_time:7d offset 70d) "10" as weeks_ago
| format if (_time:7d offset 77d) "11" as weeks_ago
| filter weeks_ago:*
| union rows({"weeks_ago":"01"}, {"weeks_ago":"02"}, {"weeks_ago":"03"}, {"weeks_ago":"04"}, {"weeks_ago":"05"}, {"weeks_ago":"06"},
    {"weeks_ago":"07"}, {"weeks_ago":"08"}, {"weeks_ago":"09"}, {"weeks_ago":"10"}, {"weeks_ago":"11"})
| stats by (weeks_ago) `

	logsCohortUsers    = logsCohorts + countUsers
	logsCohortRetained = logsCohorts + `count_uniq(user.id) if (last_week:>0) as users`
)

// Users by the inventory. Without an inventory there is no result, rather than 0.
const (
	logsLicensedUsers = logsInventory + `
| stats ` + countUsers + `
| filter users:>0`

	logsNeverUsed = logsInventory + `
| stats by (user.id) count() if (microsoft.copilot.user.last_active:*) as used
| stats count() as licensed, count() if (used:=0) as users
| filter licensed:>0
| fields users`
)

// Users by department and by country. A user is in the department that the latest record names.
const (
	groupedInventory = `,
    count() if (microsoft.copilot.user.last_active:*) as used, max(microsoft.copilot.user.days_active) as days`

	inventoryByDepartment = logsInventory + ` microsoft.user.department:*
| stats by (user.id) field_max(_time, microsoft.user.department) as department` + groupedInventory
	inventoryByCountry = logsInventory + ` microsoft.user.country:*
| stats by (user.id) field_max(_time, microsoft.user.country) as country` + groupedInventory

	licensedOfTen = `count() as users
| filter users:>=10`
	activeLicensedOfTen = `count() as licensed, count() if (days:>0) as users
| filter licensed:>=10`
	neverUsedOfTen = `count() as licensed, count() if (used:=0) as users
| filter licensed:>=10`

	logsDepartmentLicensed       = inventoryByDepartment + "\n| stats by (department) " + licensedOfTen
	logsDepartmentActiveLicensed = inventoryByDepartment + "\n| stats by (department) " + activeLicensedOfTen + "\n| fields department, users"
	logsDepartmentNeverUsed      = inventoryByDepartment + "\n| stats by (department) " + neverUsedOfTen + "\n| fields department, users"
	logsCountryLicensed          = inventoryByCountry + "\n| stats by (country) " + licensedOfTen
	logsCountryActiveLicensed    = inventoryByCountry + "\n| stats by (country) " + activeLicensedOfTen + "\n| fields country, users"
	logsCountryNeverUsed         = inventoryByCountry + "\n| stats by (country) " + neverUsedOfTen + "\n| fields country, users"

	// Prompts, and the inventory for those of the group who sent none.
	known = `_time:28d {event_name in ("microsoft.copilot.interaction", "microsoft.copilot.user")} user.id:*
(event_name:="microsoft.copilot.user"
  or (microsoft.copilot.change.type:="created" microsoft.copilot.interaction.type:="userPrompt"))`
	groupedKnown = `, count() if (event_name:="microsoft.copilot.interaction") as prompts`
	activeOfTen  = `count() as known, count() if (prompts:>0) as users
| filter known:>=10`

	logsDepartmentActive = known + ` microsoft.user.department:*
| stats by (user.id) field_max(_time, microsoft.user.department) as department` + groupedKnown + `
| stats by (department) ` + activeOfTen + "\n| fields department, users"
	logsCountryActive = known + ` microsoft.user.country:*
| stats by (user.id) field_max(_time, microsoft.user.country) as country` + groupedKnown + `
| stats by (country) ` + activeOfTen + "\n| fields country, users"
)

// Answers, agents and lengths.
const (
	logsAppAnswers      = `_time:7d ` + logsAnswers + appLabel + "\n| stats by (app) count_uniq_hash(log.record.uid) as answers"
	logsAppEmptyAnswers = `_time:7d ` + logsAnswers + appLabel + `
| stats by (app) count_uniq_hash(log.record.uid) if (microsoft.copilot.content.length:=0) as answers`

	// The agents of a prompt are stored as a JSON array.
	logsAgents = `_time:28d ` + logsPrompts + ` microsoft.copilot.agents:*
| unroll by (microsoft.copilot.agents)
| rename microsoft.copilot.agents as agent
| filter agent:*`
	logsAgentUsers   = logsAgents + "\n| stats by (agent) " + countUsers + "\n| sort by (users desc, agent) limit 100"
	logsAgentPrompts = logsAgents + "\n| stats by (agent) " + countPrompts + "\n| sort by (prompts desc, agent) limit 100"

	promptsWithText = `_time:7d ` + logsPrompts + ` microsoft.copilot.content.length:>0` + appLabel
	answersWithText = `_time:7d ` + logsAnswers + ` microsoft.copilot.content.length:>0` + appLabel
	median          = "\n| stats by (app) quantile(0.5, microsoft.copilot.content.length) as characters"
	ninetieth       = "\n| stats by (app) quantile(0.9, microsoft.copilot.content.length) as characters"

	logsPromptLengthMedian = promptsWithText + median
	logsPromptLength90     = promptsWithText + ninetieth
	logsAnswerLengthMedian = answersWithText + median
	logsAnswerLength90     = answersWithText + ninetieth
)

// recordings are all recorded metrics, those of one interval together.
var recordings = []recording{
	activeUsers(day, lokiActiveUsers1d, shortInterval),
	activeUsers(week, lokiActiveUsers7d, shortInterval),
	activeLicensedUsers(day, lokiActiveLicensed1d, shortInterval),
	activeLicensedUsers(week, lokiActiveLicensed7d, shortInterval),
	promptCount(day, lokiPrompts1d, shortInterval),
	promptCount(week, lokiPrompts7d, shortInterval),
	{
		metric: "copilot:returning_users", interval: shortInterval, victoria: logsReturningUsers, loki: lokiReturningUsers,
		definition: "Users who sent a prompt in the last 7 days and one in the 7 days before.",
	},
	{
		metric: "copilot:previous_week_users", interval: shortInterval, victoria: logsPreviousUsers, loki: lokiPreviousUsers,
		definition: "Users who sent a prompt in the 7 days before the last 7 days, whether they returned or not.",
	},
	{
		metric: "copilot:licensed_users", interval: shortInterval, victoria: logsLicensedUsers, loki: lokiLicensedUsers,
		definition: "Licensed users, by the inventory of the last 25 hours. Absent without an inventory.",
	},
	{
		metric: "copilot:never_used_users", interval: shortInterval, victoria: logsNeverUsed, loki: lokiNeverUsed,
		definition: "Licensed users of whom the receiver has never seen a prompt, by the inventory of the last 25 hours.",
	},
	{
		metric: "copilot:department_licensed_users", by: "department", interval: shortInterval,
		victoria: logsDepartmentLicensed, loki: lokiDepartmentLicensed,
		definition: "Licensed users by department, by the inventory of the last 25 hours. " + hiddenLicensed,
	},
	{
		metric: "copilot:department_active_licensed_users", by: "department", interval: shortInterval, victoria: logsDepartmentActiveLicensed,
		definition: "Licensed users by department who sent a prompt in the last 28 days (UTC), by the inventory of the last 25 hours. " +
			hiddenLicensed,
	},
	{
		metric: "copilot:department_never_used_users", by: "department", interval: shortInterval, victoria: logsDepartmentNeverUsed,
		definition: "Licensed users by department of whom the receiver has never seen a prompt, by the inventory of the last 25 " +
			"hours. " + hiddenLicensed,
	},
	{
		metric: "copilot:country_licensed_users", by: "country", interval: shortInterval,
		victoria: logsCountryLicensed, loki: lokiCountryLicensed,
		definition: "Licensed users by country, by the inventory of the last 25 hours. " + hiddenLicensed,
	},
	{
		metric: "copilot:country_active_licensed_users", by: "country", interval: shortInterval, victoria: logsCountryActiveLicensed,
		definition: "Licensed users by country who sent a prompt in the last 28 days (UTC), by the inventory of the last 25 hours. " +
			hiddenLicensed,
	},
	{
		metric: "copilot:country_never_used_users", by: "country", interval: shortInterval, victoria: logsCountryNeverUsed,
		definition: "Licensed users by country of whom the receiver has never seen a prompt, by the inventory of the last 25 hours. " +
			hiddenLicensed,
	},
	{
		metric: "copilot:app_answers", labels: window(week), by: "app", interval: shortInterval,
		victoria: logsAppAnswers, loki: lokiAppAnswers,
		definition: "Answers of the last 7 days by app.",
	},
	{
		metric: "copilot:app_empty_answers", labels: window(week), by: "app", interval: shortInterval,
		victoria: logsAppEmptyAnswers, loki: lokiAppEmptyAnswers,
		definition: "Answers of the last 7 days by app whose text has no characters.",
	},
	length("copilot:app_prompt_length", "prompts", "0.5", logsPromptLengthMedian, lokiPromptLengthMedian),
	length("copilot:app_prompt_length", "prompts", "0.9", logsPromptLength90, lokiPromptLength90),
	length("copilot:app_answer_length", "answers", "0.5", logsAnswerLengthMedian, lokiAnswerLengthMedian),
	length("copilot:app_answer_length", "answers", "0.9", logsAnswerLength90, lokiAnswerLength90),

	activeUsers(fourWeeks, lokiActiveUsers28d, longInterval),
	activeLicensedUsers(fourWeeks, lokiActiveLicensed28d, longInterval),
	promptCount(fourWeeks, lokiPrompts28d, longInterval),
	{
		metric: "copilot:app_users", labels: window(fourWeeks), by: "app", interval: longInterval,
		victoria: logsAppUsers, loki: lokiAppUsers,
		definition: "Users who sent a prompt in the last 28 days, by app. Who uses two apps counts in both.",
	},
	{
		metric: "copilot:app_prompts", labels: window(fourWeeks), by: "app", interval: longInterval,
		victoria: logsAppPrompts, loki: lokiAppPrompts,
		definition: "Prompts of the last 28 days by app.",
	},
	{
		metric: "copilot:hour_prompts", labels: window(fourWeeks), by: "hour", interval: longInterval, victoria: logsHourPrompts,
		definition: "Prompts of the last 28 days by the hour of the day (UTC) at which they were sent, 00 to 23.",
	},
	{
		metric: "copilot:segment_users", by: "segment", interval: longInterval, victoria: logsSegmentUsers,
		definition: "Users who sent a prompt in the last 12 weeks, each in one segment. `power`: prompts in at least 9 of the 12 " +
			"weeks, and more than 180 in all, which is 15 a week. `habitual`: prompts in at least 9 of the 12 weeks, and no more than " +
			"180. `novice`: prompts in the last 4 weeks, and none in the 8 before. `low`: all others.",
	},
	{
		metric: "copilot:cohort_users", by: "weeks_ago", interval: longInterval, victoria: logsCohortUsers,
		definition: "Users by the number of whole weeks since their first prompt, 01 to 11. A prompt is the first one if there is " +
			"none before it in the last 24 weeks.",
	},
	{
		metric: "copilot:cohort_retained_users", by: "weeks_ago", interval: longInterval, victoria: logsCohortRetained,
		definition: "Those of `copilot:cohort_users` who sent a prompt in the last 7 days.",
	},
	{
		metric: "copilot:department_active_users", labels: window(fourWeeks), by: "department", interval: longInterval,
		victoria:   logsDepartmentActive,
		definition: "Users who sent a prompt in the last 28 days, licensed or not, by department. " + hiddenKnown,
	},
	{
		metric: "copilot:country_active_users", labels: window(fourWeeks), by: "country", interval: longInterval,
		victoria:   logsCountryActive,
		definition: "Users who sent a prompt in the last 28 days, licensed or not, by country. " + hiddenKnown,
	},
	{
		metric: "copilot:agent_users", labels: window(fourWeeks), by: "agent", interval: longInterval, victoria: logsAgentUsers,
		definition: "Users who called an agent with @ in a prompt of the last 28 days, by agent. The 100 agents with the most users.",
	},
	{
		metric: "copilot:agent_prompts", labels: window(fourWeeks), by: "agent", interval: longInterval, victoria: logsAgentPrompts,
		definition: "Prompts of the last 28 days that called an agent with @, by agent. The 100 agents with the most prompts.",
	},
}

// Which groups are hidden, since a small number about few people says something about each of them.
const (
	hiddenLicensed = "A group with fewer than 10 licensed users is hidden."
	hiddenKnown    = "A group is hidden if fewer than 10 of its users are in the prompts and the inventory of the last 28 days."
)

func window(length string) map[string]string { return map[string]string{"window": length} }

// spelled returns a window as in a sentence.
func spelled(window string) string {
	return map[string]string{day: "24 hours", week: "7 days", fourWeeks: "28 days"}[window]
}

func activeUsers(length, loki string, interval time.Duration) recording {
	return recording{
		metric: "copilot:active_users", labels: window(length), interval: interval,
		victoria: "_time:" + length + " " + logsActiveUsers, loki: loki,
		definition: "Users who sent a prompt in the last " + spelled(length) + ", licensed or not.",
	}
}

func activeLicensedUsers(length, loki string, interval time.Duration) recording {
	return recording{
		metric: "copilot:active_licensed_users", labels: window(length), interval: interval,
		victoria: "_time:" + length + " " + logsActiveLicensedUsers, loki: loki,
		definition: "Users who sent a prompt in the last " + spelled(length) + " while they had a license.",
	}
}

func promptCount(length, loki string, interval time.Duration) recording {
	return recording{
		metric: "copilot:prompts", labels: window(length), interval: interval,
		victoria: "_time:" + length + " " + logsPromptCount, loki: loki,
		definition: "Prompts of the last " + spelled(length) + ".",
	}
}

func length(metric, of, quantile, victoria, loki string) recording {
	name := map[string]string{"0.5": "Median", "0.9": "90th percentile"}[quantile]
	return recording{
		metric: metric, labels: map[string]string{"window": week, "quantile": quantile}, by: "app", interval: shortInterval,
		victoria: victoria, loki: loki,
		definition: name + " of the characters of the " + of + " of the last 7 days that have text, by app. " +
			"An estimate beyond 10,000 of them; a repeated record counts again.",
	}
}
