// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// An alert is a rule of Prometheus, which vmalert evaluates too.
type alert struct {
	name, expression, severity string
	// lasting is how long the expression must have results before the alert fires.
	lasting time.Duration
	// summary and description are templates: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/#templating
	summary, description string
}

// The severities. What is critical loses interactions, or is about to.
const (
	severityCritical = "critical"
	severityWarning  = "warning"
)

// alerts returns all rules, in the order of docs/troubleshooting.md.
func alerts() []alert {
	all := append(alertsOfArrival(), alertsOfCompleteness()...)
	return append(all, alertsOfTrust()...)
}

func alertsOfArrival() []alert {
	return []alert{
		{
			name: "M365CopilotCollectorGone", expression: alertCollectorGone, severity: severityCritical, lasting: 5 * time.Minute,
			summary:     "The collector of tenant {{ $labels.microsoft_tenant_id }} reports no metrics",
			description: "It does not run, or its metrics don't arrive. Graph sends again for 4 hours.",
		},
		{
			name: "M365CopilotNothingArrives", expression: alertNothingArrives, severity: severityCritical, lasting: 15 * time.Minute,
			summary: "No notification for two hours in tenant {{ $labels.microsoft_tenant_id }}",
			description: `The collector runs, and in the same hour a week ago {{ printf "%.0f" $value }} interactions arrived. ` +
				"On a public holiday that is normal.",
		},
		{
			name: "M365CopilotSubscriptionLost", expression: alertSubscriptionLost, severity: severityCritical, lasting: 10 * time.Minute,
			summary:     "No Graph subscription in tenant {{ $labels.microsoft_tenant_id }}",
			description: "It can't be created again, so nothing arrives. The log and the collector's status say why.",
		},
		{
			name: "M365CopilotSubscriptionNotRenewed", expression: alertSubscriptionNotRenewed, severity: severityWarning, lasting: 10 * time.Minute,
			summary:     "The Graph subscription of tenant {{ $labels.microsoft_tenant_id }} ends in {{ $value | humanizeDuration }}",
			description: "It should have been renewed hours ago. The log and the collector's status say why it was not.",
		},
		{
			name: "M365CopilotDelayOverAnHour", expression: alertDelayOverAnHour, severity: severityWarning,
			summary: "Interactions of tenant {{ $labels.microsoft_tenant_id }} arrive more than an hour late",
			description: "Of those that Graph pushed within the last hour, more than 1 % were older than an hour. " +
				"The 99th percentile is {{ $value | humanizeDuration }}.",
		},
	}
}

func alertsOfCompleteness() []alert {
	return []alert{
		{
			name: "M365CopilotGapOpen", expression: alertGapOpen, severity: severityWarning, lasting: 24 * time.Hour,
			summary: "A gap of tenant {{ $labels.microsoft_tenant_id }} has been open for a day: {{ $labels.microsoft_copilot_reason }}",
			description: "The interactions of {{ $value | humanizeDuration }} are missing, and were not read from the history. " +
				"What is older than history.max_gap is given up.",
		},
		{
			name: "M365CopilotInteractionsLost", expression: alertIncreased(alertGapsLost), severity: severityCritical,
			summary:     "A gap of {{ $labels.receiver }} on {{ $labels.instance }} was given up: {{ $labels.reason }}",
			description: "The interactions of that time will not be read from the history. The log says from when to when (COP515).",
		},
		{
			name: "M365CopilotRefusedByPipeline", expression: alertIncreased(alertRefused), severity: severityCritical,
			summary: "The pipeline of {{ $labels.receiver }} on {{ $labels.instance }} refuses interactions for good",
			description: `It refused {{ printf "%.0f" $value }} within the last hour, and nobody sends them again. ` +
				"The log has the reason (COP006).",
		},
		{
			name: "M365CopilotReconciliationIncomplete", expression: alertReconciliationIncomplete,
			severity: severityWarning, lasting: 26 * time.Hour,
			summary:     "Two reconciliations of tenant {{ $labels.microsoft_tenant_id }} in a row did not prove that everything arrived",
			description: "They were incomplete or inconclusive. The log line `history reconciled` says why.",
		},
		{
			name: "M365CopilotReconciliationOverdue", expression: alertReconciliationOverdue, severity: severityWarning,
			summary:     "Nothing of tenant {{ $labels.microsoft_tenant_id }} was reconciled for {{ $value | humanizeDuration }}",
			description: "Nothing proves that what was created since then has arrived.",
		},
		{
			name: "M365CopilotNotificationsLost", expression: alertNotificationsLost, severity: severityWarning,
			summary: "Notifications of tenant {{ $labels.microsoft_tenant_id }} were lost",
			description: `Reconciliation found {{ printf "%.0f" $value }} interactions within the last day that no notification had brought. ` +
				"They are delivered now.",
		},
	}
}

func alertsOfTrust() []alert {
	return []alert{
		{
			name: "M365CopilotForgedNotifications", expression: alertIncreased(alertForged), severity: severityCritical,
			summary: "Notifications to {{ $labels.receiver }} on {{ $labels.instance }} were forged or altered: {{ $labels.reason }}",
			description: `{{ printf "%.0f" $value }} within the last hour had the secret client state of the subscription, ` +
				"but no proof that Microsoft sent them. They were rejected.",
		},
		{
			name: "M365CopilotNotificationsRejected", expression: alertIncreased(alertUnusable), severity: severityWarning,
			summary: "Notifications to {{ $labels.receiver }} on {{ $labels.instance }} can't be used: {{ $labels.reason }}",
			description: `{{ printf "%.0f" $value }} were rejected within the last hour. They are read from the history instead, ` +
				"which is later.",
		},
		{
			name: "M365CopilotCredentialExpiring", expression: alertCredentialExpiring, severity: severityWarning,
			summary:     "The {{ $labels.credential }} of {{ $labels.receiver }} on {{ $labels.instance }} expires within 30 days",
			description: "{{ $value | humanizeDuration }} are left.",
		},
		{
			name: "M365CopilotCredentialExpiringSoon", expression: alertCredentialExpiringSoon, severity: severityCritical,
			summary:     "The {{ $labels.credential }} of {{ $labels.receiver }} on {{ $labels.instance }} expires within 7 days, or has",
			description: "{{ $value | humanizeDuration }} are left. After that the subscription ends within 3 days, or can't be created again.",
		},
	}
}
