// SPDX-License-Identifier: Apache-2.0

package main

// experience is about what users got.
var experience = board{
	name: "experience", title: "Copilot experience", from: "now-7d",
	description: "What users asked and got: answers without text, agents, and the length of prompts and answers. " +
		"Graph says neither how long the model took nor whether an answer was good.",
	rows: []row{
		{title: "Answers", panels: []panel{
			{
				title: "Answers without text, share", unit: percent, kind: series, width: 6,
				definition: "Answers of the 7 days before each time whose text has no characters, in percent of all answers of the app. " +
					"An answer that is a card counts by the text of its card. " + topAppsShown,
				targets: []target{{promEmptyAnswersShare, "{{app}}"}},
			},
			{
				title: "Answers without text", unit: interactions, kind: bars, width: 3,
				definition: "Answers of the last 7 days whose text has no characters, by app. " + topAppsShown,
				targets:    []target{{promEmptyAnswers, "{{app}}"}},
			},
			{
				title: "All answers", unit: interactions, kind: bars, width: 3,
				definition: "Answers of the last 7 days by app. " + topAppsShown,
				targets:    []target{{promAppAnswers, "{{app}}"}},
			},
		}},
		{title: "Agents", panels: []panel{
			{
				title: "Users by agent", unit: users, kind: bars, width: 6,
				definition: "Users who called an agent with @ in a prompt of the last 28 days, by agent. The 100 agents with the most users.",
				targets:    []target{{promAgentUsers, "{{agent}}"}},
			},
			{
				title: "Prompts by agent", unit: prompts, kind: bars, width: 6,
				definition: "Prompts of the last 28 days that called an agent with @, by agent. The 100 agents with the most prompts.",
				targets:    []target{{promAgentPrompts, "{{agent}}"}},
			},
		}},
		{title: "Length", panels: []panel{
			{
				title: "Length of prompts", unit: characters, kind: table, width: 6,
				definition: "Characters of the prompts of the last 7 days that have text, by app: half of them are no longer than the median, and " +
					"9 of 10 no longer than the 90th percentile. " + topAppsShown,
				targets: []target{{promPromptLengthMedian, "median"}, {promPromptLength90, "90th percentile"}},
			},
			{
				title: "Length of answers", unit: characters, kind: table, width: 6,
				definition: "Characters of the answers of the last 7 days that have text, by app: median and 90th percentile. " + topAppsShown,
				targets:    []target{{promAnswerLengthMedian, "median"}, {promAnswerLength90, "90th percentile"}},
			},
		}},
	},
}
