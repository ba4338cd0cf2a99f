// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// ready returns what to look at first. Its first line tells programs that everything runs.
func (d *demo) ready(now time.Time, imported int) string {
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	line("Ready after %s: %d people, %d of them with a license, %d interactions of 12 weeks. %d prompts a minute follow.",
		now.Sub(d.began).Round(time.Second), people, licensed, imported, turnsPerMinute)
	line("")
	line("  Dashboards  %s", d.dashboardsURL("30d"))
	line("              adoption first; the other tabs are about answers, and about whether the data is complete and in time")
	line("  Log view    %s", d.logsURL())
	line("  Alerts      http://%s/vmui/#/rules", d.addresses.Metrics)
	line("  Files       %s: %s has what the tenant knows to be true, *.log what the programs say", d.directory, publishedFile)
	if !d.outage.IsZero() {
		line("")
		line("At %s the ingress breaks and the subscription is removed; at %s the ingress works again. Watch \"Gaps by reason\" and \"Ingestion",
			d.outage.Format(time.TimeOnly), d.outage.Add(incidentDuration).Format(time.TimeOnly))
		line("delay\" in the last tab: a gap opens; once there is a subscription again, the gap is read from the history, late, and closed.")
		line("  Last tab    %s", d.dashboardsURL("15m"))
	}
	line("")
	line("Ctrl-C stops everything%s.", map[bool]string{true: " and deletes the files"}[d.options.directory == ""])
	return text.String()
}

// relativeTimes are names of vmui for the last time of a length.
var relativeTimes = map[string]string{"15m": "last_15_minutes", "24h": "last_24_hours", "30d": "last_30_days"}

// period returns the parameters of vmui for the last time of a length.
func period(length string) string {
	return "g0.range_input=" + length + "&g0.relative_time=" + relativeTimes[length]
}

func (d *demo) dashboardsURL(length string) string {
	return "http://" + d.addresses.Metrics + "/vmui/#/dashboards?" + period(length)
}

// logsURL returns the address of the log view, with a line for each interaction: who, where from, and what.
func (d *demo) logsURL() string {
	return "http://" + d.addresses.Logs + "/select/vmui/#/?query=" + url.QueryEscape(`{event_name="microsoft.copilot.interaction"}`) + "&" +
		period("24h") + "&displayFields=user.full_name,microsoft.user.department,_msg"
}
