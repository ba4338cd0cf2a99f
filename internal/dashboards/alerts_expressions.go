// SPDX-License-Identifier: Apache-2.0

package main

// The expressions of the alerts, in PromQL that is also MetricsQL.
//
// Gauges of the metrics pipeline are aggregated by tenant, because service.instance.id is another one after each restart of the
// collector: the series of the process before it goes on for some minutes. last_over_time bridges a restart.

// A metric that every collector with a metrics pipeline has, whatever happens. A week, so that the alert does not end over a weekend.
const alertCollectorGone = `max by (microsoft_tenant_id) (last_over_time(microsoft_copilot_user_active[1w]))
unless on (microsoft_tenant_id)
max by (microsoft_tenant_id) (last_over_time(microsoft_copilot_user_active[10m]))`

// The two hours before this moment, a week ago, stand for whether people work: both must have been busy, which also leaves time for
// an hour of difference after the clocks change. After a restart the age is unknown until the first notification, so that the last
// one known counts for two hours. The last condition leaves a collector that is gone to its own alert.
const alertNothingArrives = `sum by (microsoft_tenant_id) (increase(` + alertNotifiedInteractions + `[1h] offset 1w)) > 20
and on (microsoft_tenant_id)
sum by (microsoft_tenant_id) (increase(` + alertNotifiedInteractions + `[1h] offset 169h)) > 20
unless on (microsoft_tenant_id)
min by (microsoft_tenant_id) (last_over_time(microsoft_copilot_notification_age_seconds[2h])) < 7200
and on (microsoft_tenant_id)
max by (microsoft_tenant_id) (last_over_time(microsoft_copilot_user_active[10m]))`

const alertNotifiedInteractions = `microsoft_copilot_interactions_total{microsoft_copilot_source="notification"}`

// The time left is 0 once the subscription is gone. It is absent if there has been none since the start, which an open gap tells from
// a collector without notification_url.
const alertSubscriptionLost = `min by (microsoft_tenant_id) (microsoft_copilot_subscription_time_left_seconds) <= 0
or
max by (microsoft_tenant_id) (microsoft_copilot_history_gap_seconds{microsoft_copilot_reason=~"startup|subscription"}) > 0
unless on (microsoft_tenant_id)
min by (microsoft_tenant_id) (microsoft_copilot_subscription_time_left_seconds)`

// With the default subscription.lifetime it is renewed when 23 hours and 40 minutes are left.
const alertSubscriptionNotRenewed = `min by (microsoft_tenant_id) (microsoft_copilot_subscription_time_left_seconds) < 43200 > 0`

const alertDelayOverAnHour = `histogram_quantile(0.99, sum by (microsoft_tenant_id, le) (
  increase(microsoft_copilot_interaction_ingestion_delay_seconds_bucket{microsoft_copilot_source="notification"}[1h])
)) > 3600`

// An import takes as long as there is history. Without permission to list the users, users_unknown stays until history.max_gap.
const alertGapOpen = `max by (microsoft_tenant_id, microsoft_copilot_reason) (
  last_over_time(microsoft_copilot_history_gap_seconds{microsoft_copilot_reason!~"lookback|users_unknown"}[1h])
) > 0`

const alertReconciliationIncomplete = `max by (microsoft_tenant_id) (
  last_over_time(microsoft_copilot_history_reconciled_seconds{microsoft_copilot_result!="complete"}[1h])
)`

// With the defaults it is 29.5 hours at most, and the time that a reconciliation takes.
const alertReconciliationOverdue = `min by (microsoft_tenant_id) (microsoft_copilot_history_reconciled_seconds) > 172800`

const alertNotificationsLost = `sum by (microsoft_tenant_id) (
  increase(microsoft_copilot_history_recovered_total{microsoft_copilot_reason="reconcile"}[1d])
) > 0`

// The receiver's own telemetry, which is scraped: job and instance tell the collectors apart.
const (
	alertGapsLost = `otelcol_receiver_m365_copilot_gaps_lost`
	alertRefused  = `otelcol_receiver_m365_copilot_notifications{outcome="refused"}`

	// Whoever sends these knows the client state, and has no proof to be Microsoft; or something on the way changes what Microsoft
	// sends. All other rejections but client_state, which anybody can cause, are of notifications that can't be used.
	alertForged        = `otelcol_receiver_m365_copilot_notifications{outcome="rejected", reason=~"` + alertForgedReasons + `"}`
	alertUnusable      = `otelcol_receiver_m365_copilot_notifications{outcome="rejected", reason!~"client_state|` + alertForgedReasons + `"}`
	alertForgedReasons = "tenant|token_malformed|token_algorithm|token_key|token_signature|token_publisher|token_issuer|token_tenant|" +
		"hmac|signature_missing|malformed"

	// The two alerts of a certificate exclude each other.
	alertCredentialExpiring     = alertExpiry + ` < 2592000 >= 604800`
	alertCredentialExpiringSoon = alertExpiry + ` < 604800`
	alertExpiry                 = `min by (job, instance, receiver, credential) (otelcol_receiver_m365_copilot_credential_expiry)`
)

// alertIncreased returns an expression for counters of the receiver's own telemetry that increased within the last hour. Such a counter
// has no value until it first counts, so that Prometheus sees no increase from 0 to 1. The second part finds a series that was not
// there an hour ago. It was not just not scraped, since at that time the collector was, or has started since.
func alertIncreased(counter string) string {
	return `sum by (job, instance, receiver, reason) (
  increase(` + counter + `[1h])
) > 0
or
sum by (job, instance, receiver, reason) (
  ` + counter + `
  unless
  ` + counter + ` offset 1h
  and on (job, instance)
  (otelcol_process_uptime offset 1h or otelcol_process_uptime < 3600)
) > 0`
}
