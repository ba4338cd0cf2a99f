// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// panelTruth returns what each query of each panel shows, by the dashboard and the title of the panel.
func (d *demoMoment) panelTruth(t *testing.T, recorded map[string]values) map[string][]bounds {
	t.Helper()
	all := d.recordedPanels(recorded)
	for at := d.at.UTC().Truncate(day); d.at.Sub(at) <= shown; at = at.Add(-day) {
		midnight := demoTruth{at: at, people: d.people, all: d.all}
		for key, queries := range midnight.recordedPanels(midnight.recordedTruth()) {
			if !strings.HasSuffix(key, "by week of first use") { // of which there are always the same
				addStale(all[key], queries)
			}
		}
	}
	maps.Copy(all, d.trustTruth(t))
	return all
}

// shown is how long a recorded metric is shown.
const shown = 25 * time.Hour

// addStale allows any number for series that there were at an earlier moment and that have ended since: an app that nobody uses any longer
// has its last number as long as it is shown.
func addStale(want, before []bounds) {
	for n := range before {
		for key := range before[n] {
			if _, found := want[n][key]; !found {
				want[n][key] = [2]float64{0, math.Inf(1)}
			}
		}
	}
}

// recordedPanels returns what the panels of recorded metrics show.
func (d *demoTruth) recordedPanels(recorded map[string]values) map[string][]bounds {
	all := d.adoptionTruth(recorded)
	maps.Copy(all, experienceTruth(recorded))
	return all
}

func (d *demoTruth) adoptionTruth(recorded map[string]values) map[string][]bounds {
	of := func(metric string) values { return recorded[metric] }
	show := func(metric string) bounds { return exactly(recorded[metric]) }
	licensed := single(d.licensed())
	active := func(window string) values { return of(`copilot:active_users{window="` + window + `"}`) }
	prompts := func(window string) values { return of(`copilot:prompts{window="` + window + `"}`) }
	return map[string][]bounds{
		"adoption: Active users, 24 hours": {exactly(active("1d"))},
		"adoption: Active users, 7 days":   {exactly(active("7d"))},
		"adoption: Active users, 28 days":  {exactly(active("28d"))},
		"adoption: Licensed users":         {exactly(licensed)},
		"adoption: Active users over time": {exactly(active("1d")), exactly(active("7d")), exactly(active("28d"))},
		"adoption: Active rate": {
			scaled(100, active("1d"), licensed), scaled(100, active("7d"), licensed), scaled(100, active("28d"), licensed),
		},
		"adoption: Prompts":                 {exactly(prompts("1d")), exactly(prompts("7d")), exactly(prompts("28d"))},
		"adoption: Prompts per active user": {scaled(1, prompts("7d"), active("7d")), scaled(1, prompts("28d"), active("28d"))},
		"adoption: Use by hour of the day":  {scaled(1./28, of(`copilot:hour_prompts{window="28d"}`), nil)},
		"adoption: Users by app":            {ofTopApps(recorded, show(`copilot:app_users{window="28d"}`))},
		"adoption: Intensity by app": {
			ofTopApps(recorded, scaled(1, of(`copilot:app_prompts{window="28d"}`), of(`copilot:app_users{window="28d"}`))),
		},
		"adoption: Returning users": {show("copilot:returning_users")},
		"adoption: Returning share": {scaled(100, of("copilot:returning_users"), of("copilot:previous_week_users"))},
		"adoption: Habit segments":  {show("copilot:segment_users")},
		"adoption: Retention by week of first use": {
			scaled(100, of("copilot:cohort_retained_users"), of("copilot:cohort_users")),
		},
		"adoption: New users by week of first use": {show("copilot:cohort_users")},
		"adoption: Never used":                     {show("copilot:never_used_users")},
		"adoption: Never used, share":              {scaled(100, of("copilot:never_used_users"), licensed)},
		"adoption: Never used over time":           {show("copilot:never_used_users")},
		"adoption: Licenses by department": {
			show("copilot:department_licensed_users"), show("copilot:department_active_licensed_users"), show("copilot:department_never_used_users"),
		},
		"adoption: Licenses by country": {
			show("copilot:country_licensed_users"), show("copilot:country_active_licensed_users"), show("copilot:country_never_used_users"),
		},
		"adoption: Active users by department": {show(`copilot:department_active_users{window="28d"}`)},
		"adoption: Active users by country":    {show(`copilot:country_active_users{window="28d"}`)},
		"adoption: Active rate by department": {
			scaled(100, of("copilot:department_active_licensed_users"), of("copilot:department_licensed_users")),
		},
		"adoption: Active rate by country": {
			scaled(100, of("copilot:country_active_licensed_users"), of("copilot:country_licensed_users")),
		},
	}
}

// ofTopApps returns the numbers of the ten apps with the most prompts in the last 28 days. Which of several with the same number is the
// tenth is not said.
func ofTopApps(recorded map[string]values, all bounds) bounds {
	const most = 10
	prompts := recorded[`copilot:app_prompts{window="28d"}`]
	numbers := slices.Sorted(maps.Values(prompts))
	slices.Reverse(numbers)
	for key, limits := range all {
		switch {
		case len(numbers) <= most || prompts[key] > numbers[most]:
		case prompts[key] == numbers[most-1]:
			all[key] = [2]float64{0, limits[1]}
		default:
			delete(all, key)
		}
	}
	return all
}

func experienceTruth(recorded map[string]values) map[string][]bounds {
	empty, answers := recorded[`copilot:app_empty_answers{window="7d"}`], recorded[`copilot:app_answers{window="7d"}`]
	length := func(of, quantile string) bounds {
		return ofTopApps(recorded, exactly(recorded["copilot:app_"+of+`_length{quantile="`+quantile+`",window="7d"}`]))
	}
	return map[string][]bounds{
		"experience: Answers without text, share": {ofTopApps(recorded, scaled(100, empty, answers))},
		"experience: Answers without text":        {ofTopApps(recorded, exactly(empty))},
		"experience: All answers":                 {ofTopApps(recorded, exactly(answers))},
		"experience: Users by agent":              {exactly(recorded[`copilot:agent_users{window="28d"}`])},
		"experience: Prompts by agent":            {exactly(recorded[`copilot:agent_prompts{window="28d"}`])},
		"experience: Length of prompts":           {length("prompt", "0.5"), length("prompt", "0.9")},
		"experience: Length of answers":           {length("answer", "0.5"), length("answer", "0.9")},
	}
}

const (
	// exportDelay is the longest time until a value of the receiver is in the database of metrics: it is exported each 5 s, and read each 5 s.
	exportDelay = 20 * time.Second
	// lifetime is the default of subscription.lifetime.
	lifetime = 71 * time.Hour
)

// certificate returns the bounds of the time until the encryption certificate expires: it was generated at the start, for 20 years.
func (d *demoMoment) certificate() bounds {
	start := d.historyEnd()
	return bounds{"encryption_certificate": {start.AddDate(20, 0, 0).Sub(d.at).Seconds(), d.at.AddDate(20, 0, 0).Sub(d.at).Seconds()}}
}

// Marks are drawn as lines.
func mark(at time.Duration) bounds { return between(at.Seconds(), at.Seconds()) }

func (d *demoMoment) trustTruth(t *testing.T) map[string][]bounds {
	t.Helper()
	age, left := between(0, d.sinceNotification().Seconds()), between(lifetime.Seconds()/3, lifetime.Seconds())
	acknowledged := d.receivedBetween(time.Hour, func(r *receivedInteraction) string { return map[bool]string{true: "202"}[r.source == pushed] })
	return map[string][]bounds{
		"trust: Open gap":                               {between(0, 0)},
		"trust: Age of the last notification":           {age},
		"trust: Age of the last notification over time": {age},
		"trust: Subscription time left":                 {left},
		"trust: Subscription time left over time":       {left},
		"trust: Credential expiry":                      {d.certificate()},
		"trust: Ingestion delay": {
			d.delays(0.5), d.delays(0.95), d.delays(0.99), mark(time.Minute), mark(time.Hour),
		},
		"trust: Received interactions": {
			d.receivedBetween(5*time.Minute, func(r *receivedInteraction) string { return r.kind + " " + r.source }),
		},
		"trust: Gaps by reason":             {zero(gapReasons...), mark(day)},
		"trust: Reconciliation":             {d.reconciled(t), mark(2 * day)},
		"trust: Recovered by reason":        {d.recovered()},
		"trust: Given up":                   {zero(gapReasons...)},
		"trust: Rejected by reason":         {{}},
		"trust: Outcomes":                   {d.outcomes()},
		"trust: Acknowledgements by status": {withRetries(atMost(acknowledged), "503")},
		"trust: Acknowledgement time":       {between(0, 10)}, // the largest bucket
		"trust: Duplicates":                 {d.duplicates(t)},
	}
}

const pushed = "notification"

// delayBuckets are the upper bounds of the histogram of the ingestion delay: docs/telemetry.md.
var delayBuckets = []float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}

// bucketOf returns the bounds of the bucket of a delay. What is beyond the last one counts as that.
func bucketOf(delay float64) (low, high float64) {
	n, _ := slices.BinarySearch(delayBuckets, delay)
	n = min(max(n, 1), len(delayBuckets)-1)
	return delayBuckets[n-1], delayBuckets[n]
}

// receivedWithin returns the delays of what was certainly counted in the time before the moment, and how many more may have been: samples
// are taken each few seconds, and an increase may begin with the first one.
func (d *demoMoment) receivedWithin(length time.Duration, of func(*receivedInteraction) bool) (certain []float64, uncertain int) {
	first := d.at
	for i := range d.received {
		if r := &d.received[i]; of(r) {
			first = earliest(first, r.at)
		}
	}
	for i := range d.received {
		r := &d.received[i]
		age := d.at.Sub(r.at)
		switch {
		case !of(r) || age < -time.Second || age > length+exportDelay:
		case age > exportDelay && age < length-exportDelay && r.at.Sub(first) > exportDelay:
			certain = append(certain, r.delay)
		default:
			uncertain++
		}
	}
	slices.Sort(certain)
	return certain, uncertain
}

// delays returns the bounds of a quantile of the delay of what was received in the last 5 minutes, by source. An estimate within a
// histogram is in the bucket of the true value.
func (d *demoMoment) delays(q float64) bounds {
	all := bounds{}
	for _, source := range []string{pushed, "history"} {
		certain, uncertain := d.receivedWithin(5*time.Minute, func(r *receivedInteraction) bool { return r.source == source })
		if len(certain) == 0 {
			all[source] = [2]float64{0, math.Inf(1)}
			continue
		}
		// All that is uncertain may have been counted, and be smaller than all that is certain, or larger.
		highest := int(math.Ceil(q*float64(len(certain)+uncertain))) - 1
		low, high := 0., math.Inf(1)
		if lowest := highest - uncertain; lowest >= 0 {
			low, _ = bucketOf(certain[lowest])
		}
		if highest < len(certain) {
			_, high = bucketOf(certain[highest])
		}
		all[source] = [2]float64{low, high}
	}
	return all
}

// receivedBetween returns the bounds of what was received in the time before the moment, by the keys that of returns.
func (d *demoMoment) receivedBetween(length time.Duration, of func(*receivedInteraction) string) bounds {
	all := bounds{}
	for i := range d.received {
		key := of(&d.received[i])
		if _, done := all[key]; done || key == "" {
			continue
		}
		certain, uncertain := d.receivedWithin(length, func(r *receivedInteraction) bool { return of(r) == key })
		all[key] = [2]float64{float64(len(certain)), float64(len(certain) + uncertain)}
	}
	return all
}

// atMost returns bounds of what counts several interactions at once.
func atMost(of bounds) bounds {
	all := bounds{}
	for key, limits := range of {
		all[key] = [2]float64{math.Min(1, limits[0]), limits[1]}
	}
	return all
}

func zero(keys ...string) bounds {
	all := bounds{}
	for _, key := range keys {
		all[key] = [2]float64{}
	}
	return all
}

// sinceNotification returns the longest time since the last notification of which the database of metrics knows.
func (d *demoMoment) sinceNotification() time.Duration {
	longest := time.Duration(math.MaxInt64)
	for i := range d.received {
		if age := d.at.Sub(d.received[i].at); d.received[i].source == pushed && age > exportDelay {
			longest = min(longest, age)
		}
	}
	return longest
}

// gapReasons and recoveredReasons are those of the metrics, by docs/telemetry.md.
var (
	gapReasons = []string{
		"startup", "subscription", "removed_key", "undelivered", "unverified", "undecryptable", "empty", "lookback", "users_unknown",
	}
	recoveredReasons = []string{
		"startup", "subscription", "removed_key", "undelivered", "unverified", "undecryptable", "empty", "reconcile", "users_unknown",
	}
)

// readingLine is a line of the collector's log about a reading of the history.
type readingLine struct {
	logged       time.Time
	To           time.Time `json:"to"`
	Interactions int       `json:"interactions"`
	New          int       `json:"interactions_new"`
	Recovered    int       `json:"recovered"`
	Result       string    `json:"result"`
}

// again returns how much of what was read had been delivered before.
func (l *readingLine) again() float64 { return float64(l.Interactions - l.New - l.Recovered) }

// readingLines returns the lines with a message.
func (d *demoMoment) readingLines(t *testing.T, message string) (lines []readingLine) {
	t.Helper()
	for line := range strings.Lines(string(d.file(t, "collector.log"))) {
		head, fields, found := strings.Cut(line, "\t"+message+"\t")
		if !found {
			continue
		}
		var one readingLine
		require.NoError(t, json.Unmarshal([]byte(fields), &one), line)
		at, _, _ := strings.Cut(head, "\t")
		var err error
		one.logged, err = time.Parse("2006-01-02T15:04:05.000Z0700", at)
		require.NoError(t, err)
		lines = append(lines, one)
	}
	return lines
}

// reconciled returns the bounds of the age of the newest time that was compared, by the lines of the log. The receiver exports it each
// few seconds, so that it may still be that of the line before.
func (d *demoMoment) reconciled(t *testing.T) bounds {
	t.Helper()
	lines := slices.DeleteFunc(d.readingLines(t, "history reconciled"), func(line readingLine) bool { return !line.logged.Before(d.at) })
	if len(lines) == 0 {
		return bounds{}
	}
	newest := lines[len(lines)-1]
	limits := [2]float64{d.at.Add(-exportDelay).Sub(newest.To).Seconds(), d.at.Sub(newest.To).Seconds()}
	if d.at.Sub(newest.logged) < exportDelay {
		if len(lines) == 1 {
			limits[0] = 0 // there may be none yet
		} else {
			limits[1] = d.at.Sub(lines[len(lines)-2].To).Seconds()
		}
	}
	return bounds{newest.Result: limits}
}

// recovered returns the bounds of what only the history brought, of what was not imported.
func (d *demoMoment) recovered() bounds {
	n := 0
	for i := range d.received {
		if r := &d.received[i]; r.source == "history" && r.created().After(d.historyEnd()) {
			n++
		}
	}
	all := bounds{}
	for _, reason := range recoveredReasons {
		all[reason] = [2]float64{0, float64(n)}
	}
	return all
}

// outcomes returns the bounds of notifications by outcome in the last hour.
func (d *demoMoment) outcomes() bounds {
	all := d.receivedBetween(time.Hour, func(r *receivedInteraction) string { return map[bool]string{true: "delivered"}[r.source == pushed] })
	all["lifecycle"] = [2]float64{0, 5}
	return withRetries(all, "timed_out", "delivered_late", "overloaded", "failed")
}

// withRetries allows what a machine that is too slow for the import and for notifications at once answers: the tenant sends again.
func withRetries(all bounds, keys ...string) bounds {
	for _, key := range keys {
		all[key] = [2]float64{0, math.Inf(1)}
	}
	return all
}

// duplicates returns the bounds of what was dropped in the last hour, by the lines of the log: what the history has was delivered before,
// unless it is new or recovered.
func (d *demoMoment) duplicates(t *testing.T) bounds {
	t.Helper()
	var lines []readingLine
	for _, message := range []string{"history read", "history reconciled"} {
		lines = append(lines, d.readingLines(t, message)...)
	}
	lines = slices.DeleteFunc(lines, func(line readingLine) bool { return line.again() == 0 })
	slices.SortFunc(lines, func(a, b readingLine) int { return a.logged.Compare(b.logged) })
	fromHistory := [2]float64{}
	for _, line := range lines {
		// The series begins with the first of them, whose value an increase may leave out.
		if line.logged.Before(d.at.Add(-exportDelay)) && line.logged.Sub(lines[0].logged) > exportDelay {
			fromHistory[0] += line.again()
		}
		if line.logged.Before(d.at.Add(exportDelay)) {
			fromHistory[1] += line.again()
		}
	}
	return bounds{pushed: {0, math.Inf(1)}, "history": fromHistory} // those of notifications are sent again, see withRetries
}
