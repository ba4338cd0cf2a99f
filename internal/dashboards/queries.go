// SPDX-License-Identifier: Apache-2.0

package main

// Queries of recorded metrics look back 25 hours, so that they have a value between two evaluations, and with one evaluation a day.
// The maximum drops the labels of whoever wrote the metric, and takes one of several rule evaluators.
const (
	promActiveUsers1d  = `max(last_over_time(copilot:active_users{window="1d"}[25h]))`
	promActiveUsers7d  = `max(last_over_time(copilot:active_users{window="7d"}[25h]))`
	promActiveUsers28d = `max(last_over_time(copilot:active_users{window="28d"}[25h]))`

	licensed          = `max(last_over_time(microsoft_copilot_user_licensed[25h]))`
	promLicensed      = licensed
	promActiveRate1d  = `100 * max(last_over_time(copilot:active_licensed_users{window="1d"}[25h])) / ` + licensed
	promActiveRate7d  = `100 * max(last_over_time(copilot:active_licensed_users{window="7d"}[25h])) / ` + licensed
	promActiveRate28d = `100 * max(last_over_time(copilot:active_licensed_users{window="28d"}[25h])) / ` + licensed

	promPrompts1d  = `max(last_over_time(copilot:prompts{window="1d"}[25h]))`
	promPrompts7d  = `max(last_over_time(copilot:prompts{window="7d"}[25h]))`
	promPrompts28d = `max(last_over_time(copilot:prompts{window="28d"}[25h]))`

	promPromptsPerUser7d  = promPrompts7d + ` / ` + promActiveUsers7d
	promPromptsPerUser28d = promPrompts28d + ` / ` + promActiveUsers28d

	appUsers              = `max by (app) (last_over_time(copilot:app_users{window="28d"}[25h]))`
	appPrompts            = `max by (app) (last_over_time(copilot:app_prompts{window="28d"}[25h]))`
	ofTopApps             = ` and on (app) topk(10, ` + appPrompts + `)` // more are not legible
	promAppUsers          = appUsers + ofTopApps
	promAppPromptsPerUser = appPrompts + ` / ` + appUsers + ofTopApps

	promReturningUsers = `max(last_over_time(copilot:returning_users[25h]))`
	promReturningShare = `100 * ` + promReturningUsers + ` / max(last_over_time(copilot:previous_week_users[25h]))`

	promSegmentUsers = `max by (segment) (last_over_time(copilot:segment_users[25h]))`

	promCohortUsers    = `max by (weeks_ago) (last_over_time(copilot:cohort_users[25h]))`
	promCohortRetained = `100 * max by (weeks_ago) (last_over_time(copilot:cohort_retained_users[25h])) / (` + promCohortUsers + ` > 0)`

	promHourPrompts = `max by (hour) (last_over_time(copilot:hour_prompts{window="28d"}[25h])) / 28`

	promNeverUsed      = `max(last_over_time(copilot:never_used_users[25h]))`
	promNeverUsedShare = `100 * ` + promNeverUsed + ` / max(last_over_time(copilot:licensed_users[25h]))`

	promDepartmentActive         = `max by (department) (last_over_time(copilot:department_active_users{window="28d"}[25h]))`
	promDepartmentLicensed       = `max by (department) (last_over_time(copilot:department_licensed_users[25h]))`
	promDepartmentActiveLicensed = `max by (department) (last_over_time(copilot:department_active_licensed_users[25h]))`
	promDepartmentNeverUsed      = `max by (department) (last_over_time(copilot:department_never_used_users[25h]))`
	promDepartmentActiveRate     = `100 * ` + promDepartmentActiveLicensed + ` / ` + promDepartmentLicensed

	promCountryActive         = `max by (country) (last_over_time(copilot:country_active_users{window="28d"}[25h]))`
	promCountryLicensed       = `max by (country) (last_over_time(copilot:country_licensed_users[25h]))`
	promCountryActiveLicensed = `max by (country) (last_over_time(copilot:country_active_licensed_users[25h]))`
	promCountryNeverUsed      = `max by (country) (last_over_time(copilot:country_never_used_users[25h]))`
	promCountryActiveRate     = `100 * ` + promCountryActiveLicensed + ` / ` + promCountryLicensed
)

// Experience.
const (
	appAnswers             = `max by (app) (last_over_time(copilot:app_answers{window="7d"}[25h]))`
	emptyAnswers           = `max by (app) (last_over_time(copilot:app_empty_answers{window="7d"}[25h]))`
	promAppAnswers         = appAnswers + ofTopApps
	promEmptyAnswers       = emptyAnswers + ofTopApps
	promEmptyAnswersShare  = `100 * ` + emptyAnswers + ` / ` + appAnswers + ofTopApps
	promAgentUsers         = `max by (agent) (last_over_time(copilot:agent_users{window="28d"}[25h]))`
	promAgentPrompts       = `max by (agent) (last_over_time(copilot:agent_prompts{window="28d"}[25h]))`
	promPromptLengthMedian = `max by (app) (last_over_time(copilot:app_prompt_length{quantile="0.5",window="7d"}[25h]))` + ofTopApps
	promPromptLength90     = `max by (app) (last_over_time(copilot:app_prompt_length{quantile="0.9",window="7d"}[25h]))` + ofTopApps
	promAnswerLengthMedian = `max by (app) (last_over_time(copilot:app_answer_length{quantile="0.5",window="7d"}[25h]))` + ofTopApps
	promAnswerLength90     = `max by (app) (last_over_time(copilot:app_answer_length{quantile="0.9",window="7d"}[25h]))` + ofTopApps
)

// The receiver's metrics. Of several replicas each has its own series: the counters are summed; of the gauges the one that counts for
// all replicas together is taken.
const (
	delayBuckets   = `sum by (le, microsoft_copilot_source) (rate(microsoft_copilot_interaction_ingestion_delay_seconds_bucket[5m]))`
	promDelay50    = `histogram_quantile(0.5, ` + delayBuckets + `)`
	promDelay95    = `histogram_quantile(0.95, ` + delayBuckets + `)`
	promDelay99    = `histogram_quantile(0.99, ` + delayBuckets + `)`
	promReceived   = `sum by (microsoft_copilot_source, microsoft_copilot_interaction_type) (` + received + `)`
	received       = `increase(microsoft_copilot_interactions_total[5m])`
	promGaps       = `max by (microsoft_copilot_reason) (microsoft_copilot_history_gap_seconds)`
	promOpenGap    = `max(sum without (microsoft_copilot_reason) (microsoft_copilot_history_gap_seconds))`
	promReconciled = `max by (microsoft_copilot_result) (microsoft_copilot_history_reconciled_seconds)`
	promRecovered  = `sum by (microsoft_copilot_reason) (increase(microsoft_copilot_history_recovered_total[1d]))`
	// The counter has no value until it first counts, and that may be the only time.
	promGivenUp = `sum by (reason) (increase(` + gapsLost + `[1d]) > 0 or (` + gapsLost + ` unless ` + gapsLost + ` offset 1d))`
	gapsLost    = `otelcol_receiver_m365_copilot_gaps_lost`

	promNotificationAge      = `min(microsoft_copilot_notification_age_seconds)`
	promSubscriptionTimeLeft = `min(microsoft_copilot_subscription_time_left_seconds)`
	promCertificateTimeLeft  = `min by (credential) (otelcol_receiver_m365_copilot_credential_expiry)`

	promRejected         = `sum by (reason) (increase(otelcol_receiver_m365_copilot_notifications{outcome="rejected"}[1h]))`
	promOutcomes         = `sum by (outcome) (increase(otelcol_receiver_m365_copilot_notifications[1h]))`
	promDuplicates       = `sum by (source) (increase(otelcol_receiver_m365_copilot_duplicates[1h]))`
	promAcknowledgements = `sum by (status) (increase(otelcol_receiver_m365_copilot_acknowledgement_duration_count[1h]))`
	acknowledgedBuckets  = `sum by (le) (rate(otelcol_receiver_m365_copilot_acknowledgement_duration_bucket[5m]))`
	promAcknowledged99   = `histogram_quantile(0.99, ` + acknowledgedBuckets + `)`
)
