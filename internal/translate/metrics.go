// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// MetricSettings identifies the tenant and the collector in the metrics.
type MetricSettings struct {
	// TenantID is the tenant, in lower case.
	TenantID string
	// InstanceID is the collector's service.instance.id, which distinguishes the streams of replicas. It may be empty.
	InstanceID string
	Scope      Scope
	// Start is the start timestamp of all data points.
	Start time.Time
}

// The maximum number of distinct values of an attribute of a metric. Both sets are open, and Graph may send new values at
// any time. Values beyond the limit are counted as otherValue, so that memory stays bounded.
const (
	maxAppNames         = 200
	maxInteractionTypes = 10
	otherValue          = "other"
)

// Metrics counts records, their ingestion delays, and what was recovered from the history, cumulatively since the start. It is
// safe for concurrent use.
type Metrics struct {
	settings MetricSettings

	mu           sync.Mutex // guards what follows
	apps, types  limitedValues
	interactions map[series]int64
	delays       map[series]*histogram
	recovered    map[series]int64
}

// NewMetrics returns metrics without values.
func NewMetrics(settings MetricSettings) *Metrics {
	return &Metrics{
		settings:     settings,
		apps:         limitedValues{},
		types:        limitedValues{},
		interactions: map[series]int64{},
		delays:       map[series]*histogram{},
		recovered:    map[series]int64{},
	}
}

// created is the change of the records that count.
const created = "created"

// Add counts created interactions; updates and deletions are ignored. An interaction whose time of creation is unknown is
// counted without a delay.
func (m *Metrics) Add(records []record.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range records {
		r := &records[i]
		if r.Change != created {
			continue
		}
		app, source := attribute{attrAppName, m.apps.limit(r.AppName, maxAppNames)}, attribute{attrSource, r.Source}
		m.interactions[series{app, {attrInteractionType, m.types.limit(r.Type, maxInteractionTypes)}, source}]++
		if r.Delay != record.UnknownDelay {
			m.observeDelay(series{app, source}, r.Delay)
		}
	}
}

func (m *Metrics) observeDelay(s series, delay time.Duration) {
	h, seen := m.delays[s]
	if !seen {
		h = &histogram{min: math.Inf(1), max: math.Inf(-1)}
		m.delays[s] = h
	}
	h.observe(delay.Seconds())
}

// AddRecovered counts n interactions that were delivered from the history first, by the reason of the gap in which they were
// missing. With n of 0 the reason has a value from then on, so that a first recovery is an increase, which an alert can detect.
func (m *Metrics) AddRecovered(reason string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recovered[series{{attrReason, reason}}] += int64(n)
}

// Collect returns the current values with the timestamp now, and the gauges that have values. The series are sorted.
// A metric without values is absent. Without any metric the resource is absent too, and MetricCount is 0.
func (m *Metrics) Collect(now time.Time, gauges ...Gauge) pmetric.Metrics {
	all := pmetric.NewMetrics()
	scoped := pmetric.NewScopeMetrics()
	m.emit(scoped.Metrics(), now, gauges)
	if scoped.Metrics().Len() == 0 {
		return all
	}
	m.settings.Scope.fill(scoped.Scope())
	resource := all.ResourceMetrics().AppendEmpty()
	resource.SetSchemaUrl(schemaURL)
	fillResource(resource.Resource(), m.settings.TenantID)
	putString(resource.Resource().Attributes(), attrServiceInstanceID, m.settings.InstanceID)
	scoped.MoveTo(resource.ScopeMetrics().AppendEmpty())
	return all
}

func (m *Metrics) emit(metrics pmetric.MetricSlice, now time.Time, gauges []Gauge) {
	m.mu.Lock()
	defer m.mu.Unlock()
	during := period{start: pcommon.NewTimestampFromTime(m.settings.Start), at: pcommon.NewTimestampFromTime(now)}
	emitSum(metrics, definition{
		"microsoft.copilot.interactions", "{interaction}", "Prompts and answers that were created.",
	}, m.interactions, during)
	emitHistogram(metrics, definition{
		"microsoft.copilot.interaction.ingestion_delay", "s", "Time from the creation of an interaction to its receipt.",
	}, m.delays, during)
	emitSum(metrics, definition{
		"microsoft.copilot.history.recovered", "{interaction}",
		"Interactions that no notification brought and that were delivered from the history.",
	}, m.recovered, during)
	for _, gauge := range gauges {
		emitGauge(metrics, gauge.definition, gauge.values, during)
	}
}

// Gauge is a metric whose current values are passed to Collect.
type Gauge struct {
	definition
	values map[series]float64
}

// newGauge returns a gauge with one value, or none if it is not known.
func newGauge(d definition, s series, value float64, known bool) Gauge {
	values := map[series]float64{}
	if known {
		values[s] = value
	}
	return Gauge{d, values}
}

// SubscriptionTimeLeft is the time until the Graph subscription expires, in seconds. It has no value if that is unknown.
func SubscriptionTimeLeft(left time.Duration, known bool) Gauge {
	return newGauge(definition{
		"microsoft.copilot.subscription.time_left", "s", "Time until the Graph subscription expires unless it is renewed.",
	}, series{}, left.Seconds(), known)
}

// NotificationAge is the time since the last authentic notification, in seconds. It has no value before the first one.
func NotificationAge(age time.Duration, known bool) Gauge {
	return newGauge(definition{
		"microsoft.copilot.notification.age", "s", "Time since the last authentic notification.",
	}, series{}, age.Seconds(), known)
}

// HistoryGap is the total length of the known gaps that are not yet backfilled, in seconds, by reason. It has a value for each
// given reason, also 0, so that an alert can distinguish a recovery from missing data.
func HistoryGap[Reason ~string](missing map[Reason]time.Duration) Gauge {
	values := map[series]float64{}
	for reason, length := range missing {
		values[series{{attrReason, string(reason)}}] = length.Seconds()
	}
	return Gauge{definition{
		"microsoft.copilot.history.gap", "s", "Total length of the intervals of which interactions are missing and not yet fetched.",
	}, values}
}

// HistoryReconciled is the age of the end of the last reconciliation, in seconds: of the newest time that it compared. Its
// result is complete, incomplete or inconclusive. It has no value before the first one, when the result is empty.
func HistoryReconciled(age time.Duration, result string) Gauge {
	return newGauge(definition{
		"microsoft.copilot.history.reconciled", "s", "Age of the newest time for which the history was compared with what was delivered.",
	}, series{{attrResult, result}}, age.Seconds(), result != "")
}

// ActiveUsers is the number of users who sent prompts in the last 24 hours.
func ActiveUsers(count int) Gauge {
	return newGauge(definition{
		"microsoft.copilot.user.active", "{user}", "Distinct users who sent prompts in the last 24 hours.",
	}, series{}, float64(count), true)
}

// ActiveUsersByApp is the number of users who sent prompts in each app in the last 24 hours, by the name of the app. Beyond the
// limit of names a user counts once for each app.
func (m *Metrics) ActiveUsersByApp(counts map[string]int) Gauge {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := map[series]float64{}
	for app, count := range counts {
		values[series{{attrAppName, m.apps.limit(app, maxAppNames)}}] += float64(count)
	}
	return Gauge{definition{
		"microsoft.copilot.app.user.active", "{user}", "Distinct users who sent prompts in the last 24 hours, for each app.",
	}, values}
}

// LicensedUsers is the number of users with a Copilot license. It has no value if that is unknown.
func LicensedUsers(count int, known bool) Gauge {
	return newGauge(definition{
		"microsoft.copilot.user.licensed", "{user}", "Users whose Copilot service plan is enabled.",
	}, series{}, float64(count), known)
}

// definition is what all points of a metric have in common.
type definition struct{ name, unit, description string }

// period is the time of cumulative values.
type period struct{ start, at pcommon.Timestamp }

type attribute struct{ name, value string }

// series are the attributes that distinguish the points of a metric. Those without value are left out.
type series [3]attribute

func (s series) compare(other series) int {
	return slices.CompareFunc(s[:], other[:], func(a, b attribute) int { return cmp.Compare(a.value, b.value) })
}

// point is what points of all kinds have in common.
type point interface {
	Attributes() pcommon.Map
	SetStartTimestamp(pcommon.Timestamp)
	SetTimestamp(pcommon.Timestamp)
}

func (s series) fill(p point, during period) {
	for _, a := range s {
		putString(p.Attributes(), a.name, a.value)
	}
	p.SetStartTimestamp(during.start)
	p.SetTimestamp(during.at)
}

// appendMetric appends a metric and returns it with its series in order. Without values it appends none: the metric that it
// returns is then part of nothing.
func appendMetric[V any](metrics pmetric.MetricSlice, d definition, values map[series]V) (pmetric.Metric, []series) {
	if len(values) == 0 {
		return pmetric.NewMetric(), nil
	}
	metric := metrics.AppendEmpty()
	metric.SetName(d.name)
	metric.SetUnit(d.unit)
	metric.SetDescription(d.description)
	return metric, slices.SortedFunc(maps.Keys(values), series.compare)
}

func emitSum(metrics pmetric.MetricSlice, d definition, values map[series]int64, during period) {
	metric, all := appendMetric(metrics, d, values)
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, s := range all {
		point := sum.DataPoints().AppendEmpty()
		s.fill(point, during)
		point.SetIntValue(values[s])
	}
}

func emitHistogram(metrics pmetric.MetricSlice, d definition, values map[series]*histogram, during period) {
	metric, all := appendMetric(metrics, d, values)
	histogram := metric.SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, s := range all {
		point := histogram.DataPoints().AppendEmpty()
		s.fill(point, during)
		values[s].fill(point)
	}
}

func emitGauge(metrics pmetric.MetricSlice, d definition, values map[series]float64, during period) {
	metric, all := appendMetric(metrics, d, values)
	gauge := metric.SetEmptyGauge()
	for _, s := range all {
		point := gauge.DataPoints().AppendEmpty()
		s.fill(point, period{at: during.at})
		point.SetDoubleValue(values[s])
	}
}

// delayBounds returns the upper bounds of the buckets in seconds. They extend beyond an hour because Graph may deliver up to
// 60 minutes late: https://learn.microsoft.com/graph/change-notifications-overview
//
// Most delays are between 2 and 10 seconds. The buckets are narrow there, so that a percentile that a backend interpolates
// is close to the true one.
func delayBounds() [19]float64 {
	return [...]float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}
}

// histogram is a cumulative histogram of ingestion delays. Bounds are inclusive upper bounds, as specified in
// https://opentelemetry.io/docs/specs/otel/metrics/data-model/#histogram
type histogram struct {
	buckets       [20]uint64
	count         uint64
	sum, min, max float64
}

func (h *histogram) observe(value float64) {
	bounds := delayBounds()
	h.buckets[sort.SearchFloat64s(bounds[:], value)]++
	h.count++
	h.sum += value
	h.min, h.max = min(h.min, value), max(h.max, value)
}

func (h *histogram) fill(point pmetric.HistogramDataPoint) {
	bounds := delayBounds()
	point.ExplicitBounds().FromRaw(bounds[:])
	point.BucketCounts().FromRaw(h.buckets[:])
	point.SetCount(h.count)
	point.SetSum(h.sum)
	point.SetMin(h.min)
	point.SetMax(h.max)
}

// limitedValues are the values of an attribute so far.
type limitedValues map[string]bool

// limit returns the value, or otherValue if it is new and there are limit values already. An empty value does not count.
func (v limitedValues) limit(value string, limit int) string {
	if value == "" || v[value] {
		return value
	}
	if len(v) >= limit {
		return otherValue
	}
	v[value] = true
	return value
}
