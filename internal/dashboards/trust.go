// SPDX-License-Identifier: Apache-2.0

package main

// firstValue is what increase misses of a counter that has no value until it first counts.
const firstValue = "Prometheus does not count the first value of a series; VictoriaMetrics does, unless it is large."

// trust is about whether the data is complete and in time.
var trust = board{
	name: "trust", title: "Copilot data: complete and in time", from: "now-6h",
	description: "Whether what the other dashboards show is complete and in time: delay, gaps, reconciliation, rejected notifications, " +
		"the subscription and the certificates.",
	rows: []row{
		{title: "Now", panels: current},
		{title: "In time", panels: timeliness},
		{title: "Complete", panels: completeness},
		{title: "Notifications", panels: notifications},
	},
}

const (
	minute      = 60
	hour        = 60 * minute
	hoursOfADay = 24 * hour
)

var current = []panel{
	{
		title: "Open gap", unit: seconds, kind: stat, width: 3,
		definition: "Time of which interactions are known to be missing and not yet read from the history, a current outage included.",
		targets:    []target{{promOpenGap, "missing"}},
		marks:      []mark{{1, "a gap is open", "orange"}, {hoursOfADay, "1 day", "red"}},
	},
	{
		title: "Age of the last notification", unit: seconds, kind: stat, width: 3,
		definition: "Time since the last authentic notification. Nights and weekends are quiet. Absent before the first one since the start.",
		targets:    []target{{promNotificationAge, "age"}},
	},
	{
		title: "Subscription time left", unit: seconds, kind: stat, width: 3,
		definition: "Time until the Graph subscription expires unless it is renewed; of several the first. It is renewed when a third " +
			"of its lifetime is left.",
		targets: []target{{promSubscriptionTimeLeft, "left"}},
	},
	{
		title: "Credential expiry", unit: seconds, kind: stat, width: 3,
		definition: "Time until a certificate expires, negative once it has. Absent for a client secret, whose date can't be read.",
		targets:    []target{{promCertificateTimeLeft, "{{credential}}"}},
	},
}

var timeliness = []panel{
	{
		title: "Ingestion delay", unit: seconds, kind: series, width: 6,
		definition: "Time from the creation of an interaction to its receipt, of those received in the 5 minutes before each time, by " +
			"source: median, 95th and 99th percentile. `notification`: Graph's delay. `history`: how long ago what was missing was " +
			"created. Percentiles are estimated within the buckets of the histogram, the last of which ends at 2 hours.",
		targets: []target{
			{promDelay50, "p50 {{microsoft_copilot_source}}"},
			{promDelay95, "p95 {{microsoft_copilot_source}}"},
			{promDelay99, "p99 {{microsoft_copilot_source}}"},
		},
		marks: []mark{{minute, "1 minute", "orange"}, {hour, "60 minutes", "red"}},
	},
	{
		title: "Received interactions", unit: interactions, kind: series, width: 6,
		definition: "Prompts and answers received in the 5 minutes before each time, by source and type. Prometheus extrapolates " +
			"increases, so that they need not be whole numbers.",
		targets: []target{{promReceived, "{{microsoft_copilot_source}} {{microsoft_copilot_interaction_type}}"}},
	},
	{
		title: "Age of the last notification over time", unit: seconds, kind: series, width: 6,
		definition: "Time since the last authentic notification.",
		targets:    []target{{promNotificationAge, "age"}},
	},
	{
		title: "Subscription time left over time", unit: seconds, kind: series, width: 6,
		definition: "Time until the Graph subscription expires unless it is renewed; of several the first.",
		targets:    []target{{promSubscriptionTimeLeft, "left"}},
	},
}

var completeness = []panel{
	{
		title: "Gaps by reason", unit: seconds, kind: series, width: 6,
		definition: "Time of which interactions are known to be missing and not yet read from the history, by the reason for which " +
			"they are missing.",
		targets: []target{{promGaps, "{{microsoft_copilot_reason}}"}},
		marks:   []mark{{hoursOfADay, "1 day", "red"}},
	},
	{
		title: "Reconciliation", unit: seconds, kind: series, width: 6,
		definition: "Age of the newest time that reconciliation has compared, by its result. `complete`: every interaction of that time was " +
			"delivered, or is now. `incomplete` and `inconclusive`: nothing proves that. Absent before the first reconciliation.",
		targets: []target{{promReconciled, "{{microsoft_copilot_result}}"}},
		marks:   []mark{{2 * hoursOfADay, "2 days", "red"}},
	},
	{
		title: "Recovered by reason", unit: interactions, kind: series, width: 6,
		definition: "Interactions of the 24 hours before each time that no notification had brought and the history did, by the " +
			"reason for which it was read. `reconcile` means that nothing else had noticed the loss.",
		targets: []target{{promRecovered, "{{microsoft_copilot_reason}}"}},
	},
	{
		title: "Given up", unit: seconds, kind: series, width: 6,
		definition: "Time of gaps given up in the 24 hours before each time, because it is older than `history.max_gap`. Its " +
			"interactions are lost unless `history.replay` reads them.",
		targets: []target{{promGivenUp, "{{reason}}"}},
	},
}

var notifications = []panel{
	{
		title: "Rejected by reason", unit: count, kind: series, width: 6,
		definition: "Notifications rejected in the hour before each time, because they are forged or can't be used. `client_state` is " +
			"noise or an attack, or what Graph still sends for a key that is gone. After other reasons the interactions are read from " +
			"the history. " + firstValue,
		targets: []target{{promRejected, "{{reason}}"}},
	},
	{
		title: "Outcomes", unit: count, kind: series, width: 6,
		definition: "Notifications of the hour before each time by what became of them. `overloaded`, `stopping`, `too_large`, " +
			"`malformed` and `interrupted` count whole requests. " + firstValue,
		targets: []target{{promOutcomes, "{{outcome}}"}},
	},
	{
		title: "Acknowledgements by status", unit: count, kind: series, width: 4,
		definition: "Answers to Graph in the hour before each time, by HTTP status. 202: done. 503: Graph sends again. " + firstValue,
		targets:    []target{{promAcknowledgements, "{{status}}"}},
	},
	{
		title: "Acknowledgement time", unit: seconds, kind: series, width: 4,
		definition: "Time until Graph had its answer, 99th percentile of the 5 minutes before each time.",
		targets:    []target{{promAcknowledged99, "p99"}},
	},
	{
		title: "Duplicates", unit: interactions, kind: series, width: 4,
		definition: "Interactions dropped in the hour before each time because they were delivered before, by where they came " +
			"from. " + firstValue,
		targets: []target{{promDuplicates, "{{source}}"}},
	},
}
