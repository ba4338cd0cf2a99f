// SPDX-License-Identifier: Apache-2.0

package main

// adoption is about who uses Copilot, how much, and who does not.
var adoption = board{
	name: "adoption", title: "Copilot adoption", from: "now-28d",
	description: "Who uses Microsoft 365 Copilot, how much, where, and who has a license and does not use it. A prompt counts as use, " +
		"an answer does not. Users whose id is unknown do not count.",
	rows: []row{
		{title: "Active users", panels: activity},
		{title: "Apps", panels: apps},
		{title: "Habits", panels: habits},
		{title: "Licensed and never used", panels: unused},
		{title: "Departments and countries", panels: groups},
	},
}

var activity = []panel{
	{
		title: "Active users, 24 hours", unit: users, kind: stat, width: 3,
		definition: "Users who sent a prompt in the last 24 hours, licensed or not.",
		targets:    []target{{promActiveUsers1d, "24 hours"}},
	},
	{
		title: "Active users, 7 days", unit: users, kind: stat, width: 3,
		definition: "Users who sent a prompt in the last 7 days, licensed or not.",
		targets:    []target{{promActiveUsers7d, "7 days"}},
	},
	{
		title: "Active users, 28 days", unit: users, kind: stat, width: 3,
		definition: "Users who sent a prompt in the last 28 days, licensed or not.",
		targets:    []target{{promActiveUsers28d, "28 days"}},
	},
	{
		title: "Licensed users", unit: users, kind: stat, width: 3,
		definition: "Users with a Copilot license, as the receiver read them from the directory.",
		targets:    []target{{promLicensed, "licensed"}},
	},
	{
		title: "Active users over time", unit: users, kind: series, width: 6,
		definition: "At each time, the users who sent a prompt in the 24 hours, 7 days and 28 days before it.",
		targets:    []target{{promActiveUsers1d, "24 hours"}, {promActiveUsers7d, "7 days"}, {promActiveUsers28d, "28 days"}},
	},
	{
		title: "Active rate", unit: percent, kind: series, width: 6,
		definition: "Users who sent a prompt in the 24 hours, 7 days and 28 days before each time while they had a license, in percent of " +
			"the licensed users at that time.",
		targets: []target{{promActiveRate1d, "24 hours"}, {promActiveRate7d, "7 days"}, {promActiveRate28d, "28 days"}},
	},
	{
		title: "Prompts", unit: prompts, kind: series, width: 6,
		definition: "Prompts of the 24 hours, 7 days and 28 days before each time, by the time at which they were sent.",
		targets:    []target{{promPrompts1d, "24 hours"}, {promPrompts7d, "7 days"}, {promPrompts28d, "28 days"}},
	},
	{
		title: "Prompts per active user", unit: prompts, kind: series, width: 6,
		definition: "Prompts of the 7 days and 28 days before each time, divided by the users who sent them.",
		targets:    []target{{promPromptsPerUser7d, "7 days"}, {promPromptsPerUser28d, "28 days"}},
	},
	{
		title: "Use by hour of the day", unit: prompts, kind: bars, width: 12,
		definition: "Prompts by the hour (UTC) at which they were sent: those of the last 28 days, divided by 28, so that it is the " +
			"mean of a day.",
		targets: []target{{promHourPrompts, "{{hour}}"}},
	},
}

const topAppsShown = "Only the ten apps with the most prompts in the last 28 days are shown."

var apps = []panel{
	{
		title: "Users by app", unit: users, kind: bars, width: 6,
		definition: "Users who sent a prompt in the last 28 days, by app. Who uses two apps counts in both. Names are in lower case, " +
			"since Graph spells some of them in two ways. " + topAppsShown,
		targets: []target{{promAppUsers, "{{app}}"}},
	},
	{
		title: "Intensity by app", unit: prompts, kind: bars, width: 6,
		definition: "Prompts of the last 28 days in an app, divided by the users who sent them. " + topAppsShown,
		targets:    []target{{promAppPromptsPerUser, "{{app}}"}},
	},
}

var habits = []panel{
	{
		title: "Returning users", unit: users, kind: series, width: 4,
		definition: "Users who sent a prompt in the last 7 days and one in the 7 days before.",
		targets:    []target{{promReturningUsers, "returning"}},
	},
	{
		title: "Returning share", unit: percent, kind: series, width: 4,
		definition: "Returning users in percent of all users who sent a prompt in the 7 days before the last 7 days.",
		targets:    []target{{promReturningShare, "returned"}},
	},
	{
		title: "Habit segments", unit: users, kind: series, width: 4,
		definition: "Users who sent a prompt in the last 12 weeks, each in one segment, so that the segments add up to all of them. " +
			"*power*: prompts in at least 9 of the 12 weeks, and more than 15 a week on average over the 12 weeks. *habitual*: prompts " +
			"in at least 9 of the 12 weeks, and no more than 15 a week. *novice*: prompts in the last 4 weeks, and none in the 8 before. " +
			"*low*: all others.",
		targets: []target{{promSegmentUsers, "{{segment}}"}},
	},
	{
		title: "Retention by week of first use", unit: percent, kind: bars, width: 6,
		definition: "Of the users whose first prompt was 1 to 11 whole weeks ago, those who sent a prompt in the last 7 days, in percent. " +
			"A prompt is the first one if there is none before it in the last 24 weeks. Where the logs begin later than that, whoever was " +
			"active then counts as new in the first week of the logs.",
		targets: []target{{promCohortRetained, "{{weeks_ago}} weeks ago"}},
	},
	{
		title: "New users by week of first use", unit: users, kind: bars, width: 6,
		definition: "Users whose first prompt was 1 to 11 whole weeks ago. A prompt is the first one if there is none before it in " +
			"the last 24 weeks.",
		targets: []target{{promCohortUsers, "{{weeks_ago}} weeks ago"}},
	},
}

var unused = []panel{
	{
		title: "Never used", unit: users, kind: stat, width: 3,
		definition: "Licensed users of whom the receiver has never seen a prompt, by the inventory of the last 25 hours. " +
			"The first inventory is complete a day after it was turned on.",
		targets: []target{{promNeverUsed, "never used"}},
	},
	{
		title: "Never used, share", unit: percent, kind: stat, width: 3,
		definition: "The same in percent of the licensed users of the inventory.",
		targets:    []target{{promNeverUsedShare, "of licensed"}},
	},
	{
		title: "Never used over time", unit: users, kind: series, width: 6,
		definition: "Licensed users of whom the receiver had never seen a prompt, by the inventory of the 25 hours before each time.",
		targets:    []target{{promNeverUsed, "never used"}},
	},
	{
		title: "Licenses by department", unit: users, kind: table, width: 6,
		definition: "Licensed users, those of them who sent a prompt in the last 28 days (UTC), and those who never did, by the " +
			"inventory of the last 25 hours. " + hiddenLicensed,
		targets: []target{
			{promDepartmentLicensed, "licensed"}, {promDepartmentActiveLicensed, "active in 28 days"}, {promDepartmentNeverUsed, "never used"},
		},
	},
	{
		title: "Licenses by country", unit: users, kind: table, width: 6,
		definition: "The same by country. " + hiddenLicensed,
		targets: []target{
			{promCountryLicensed, "licensed"}, {promCountryActiveLicensed, "active in 28 days"}, {promCountryNeverUsed, "never used"},
		},
	},
}

var groups = []panel{
	{
		title: "Active users by department", unit: users, kind: bars, width: 6,
		definition: "Users who sent a prompt in the last 28 days, licensed or not, by the department that their latest record names. " +
			hiddenKnown,
		targets: []target{{promDepartmentActive, "{{department}}"}},
	},
	{
		title: "Active users by country", unit: users, kind: bars, width: 6,
		definition: "Users who sent a prompt in the last 28 days, licensed or not, by the country that their latest record names. " +
			hiddenKnown,
		targets: []target{{promCountryActive, "{{country}}"}},
	},
	{
		title: "Active rate by department", unit: percent, kind: bars, width: 6,
		definition: "Licensed users who sent a prompt in the last 28 days (UTC), in percent of the licensed users of the department, by the " +
			"inventory of the last 25 hours. " + hiddenLicensed,
		targets: []target{{promDepartmentActiveRate, "{{department}}"}},
	},
	{
		title: "Active rate by country", unit: percent, kind: bars, width: 6,
		definition: "Licensed users who sent a prompt in the last 28 days (UTC), in percent of the licensed users of the country, by the " +
			"inventory of the last 25 hours. " + hiddenLicensed,
		targets: []target{{promCountryActiveRate, "{{country}}"}},
	},
}
