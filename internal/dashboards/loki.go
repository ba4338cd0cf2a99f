// SPDX-License-Identifier: Apache-2.0

package main

// The same numbers in LogQL, for Loki's ruler: those that it can express without the state of a user over several weeks. It counts
// records, so that a repeated record counts again. No test runs them.
const (
	lokiPrompts = `{service_name="microsoft-365-copilot"}
| microsoft_copilot_change_type="created" | microsoft_copilot_interaction_type="userPrompt" | user_id!=""`
	lokiLicensedPrompts = lokiPrompts + ` | microsoft_copilot_user_licensed="true"`

	lokiAnswers = `{service_name="microsoft-365-copilot"}
| microsoft_copilot_change_type="created" | microsoft_copilot_interaction_type="aiResponse"`

	// Loki has no event name. Only the records of the inventory have this attribute.
	lokiInventory = `{service_name="microsoft-365-copilot"}
| microsoft_copilot_user_days_active!=""`

	lokiApp = `
| label_format app="{{ if .microsoft_copilot_app_name }}{{ lower .microsoft_copilot_app_name }}{{ else }}unknown{{ end }}"`

	// Summing first keeps the series few: otherwise each record is a series of its own.
	countUsersOf   = "count(sum by (user_id) (count_over_time("
	countRecordsOf = "sum(count_over_time("
)

const (
	lokiActiveUsers1d  = countUsersOf + lokiPrompts + " [1d])))"
	lokiActiveUsers7d  = countUsersOf + lokiPrompts + " [7d])))"
	lokiActiveUsers28d = countUsersOf + lokiPrompts + " [28d])))"

	lokiActiveLicensed1d  = countUsersOf + lokiLicensedPrompts + " [1d])))"
	lokiActiveLicensed7d  = countUsersOf + lokiLicensedPrompts + " [7d])))"
	lokiActiveLicensed28d = countUsersOf + lokiLicensedPrompts + " [28d])))"

	lokiPrompts1d  = countRecordsOf + lokiPrompts + " [1d]))"
	lokiPrompts7d  = countRecordsOf + lokiPrompts + " [7d]))"
	lokiPrompts28d = countRecordsOf + lokiPrompts + " [28d]))"

	lokiReturningUsers = `count(
sum by (user_id) (count_over_time(` + lokiPrompts + ` [7d]))
and
sum by (user_id) (count_over_time(` + lokiPrompts + ` [7d] offset 7d)))`
	lokiPreviousUsers = countUsersOf + lokiPrompts + " [7d] offset 7d)))"

	lokiAppUsers   = "count by (app) (sum by (app, user_id) (count_over_time(" + lokiPrompts + lokiApp + " [28d])))"
	lokiAppPrompts = "sum by (app) (count_over_time(" + lokiPrompts + lokiApp + " [28d]))"

	lokiLicensedUsers = countUsersOf + lokiInventory + " [25h])))"
	lokiNeverUsed     = countUsersOf + lokiInventory + ` | microsoft_copilot_user_last_active="" [25h])))`

	lokiDepartmentLicensed = "count by (department) (sum by (department, user_id) (count_over_time(" + lokiInventory +
		` | microsoft_user_department!="" | label_format department=microsoft_user_department [25h]))) >= 10`
	lokiCountryLicensed = "count by (country) (sum by (country, user_id) (count_over_time(" + lokiInventory +
		` | microsoft_user_country!="" | label_format country=microsoft_user_country [25h]))) >= 10`

	lokiAppAnswers      = "sum by (app) (count_over_time(" + lokiAnswers + lokiApp + " [7d]))"
	lokiAppEmptyAnswers = "sum by (app) (count_over_time(" + lokiAnswers + ` | microsoft_copilot_content_length="0"` + lokiApp + " [7d]))"

	lokiWithText = ` | microsoft_copilot_content_length>0` + lokiApp + ` | unwrap microsoft_copilot_content_length [7d]) by (app)`

	lokiPromptLengthMedian = "quantile_over_time(0.5, " + lokiPrompts + lokiWithText
	lokiPromptLength90     = "quantile_over_time(0.9, " + lokiPrompts + lokiWithText
	lokiAnswerLengthMedian = "quantile_over_time(0.5, " + lokiAnswers + lokiWithText
	lokiAnswerLength90     = "quantile_over_time(0.9, " + lokiAnswers + lokiWithText
)
