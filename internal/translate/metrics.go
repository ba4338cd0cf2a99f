package translate

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// MetricSettings identifies the tenant and the collector in the metrics.
type MetricSettings struct {
	// TenantID is the tenant. It is converted to lower case, as in the logs.
	TenantID string
	// InstanceID is the collector's service.instance.id, which distinguishes the streams of replicas. It may be empty.
	InstanceID string
	// ScopeName and ScopeVersion are the instrumentation scope.
	ScopeName    string
	ScopeVersion string
}

// The maximum number of distinct values of an attribute of a metric. Both sets are open, and Graph may send new values at
// any time. Values beyond the limit are counted as "other", so that memory stays bounded.
const (
	maxAppNames         = 200
	maxInteractionTypes = 10
)

// Metrics counts interactions, their ingestion delays, and those recovered from the history, cumulatively since its creation. It is safe for concurrent use.
type Metrics struct {
	settings MetricSettings
	start    time.Time

	mu     sync.Mutex // guards everything below
	apps   cardinalityLimiter
	types  cardinalityLimiter
	counts map[seriesKey]int64
	delays map[seriesKey]*histogram
	// recovered counts by the reason of the gap.
	recovered map[string]int64
}

// seriesKey holds the attributes of one series. Empty ones are left out. The series of delays have no type.
type seriesKey struct {
	app, typ, source string
}

func (k seriesKey) compare(other seriesKey) int {
	return cmp.Or(cmp.Compare(k.app, other.app), cmp.Compare(k.typ, other.typ), cmp.Compare(k.source, other.source))
}

func (k seriesKey) put(attributes pcommon.Map) {
	putString(attributes, attrAppName, k.app)
	putString(attributes, attrInteractionType, k.typ)
	putString(attributes, attrSource, k.source)
}

// NewMetrics returns an empty accumulator. Start is the start timestamp of all data points.
func NewMetrics(settings MetricSettings, start time.Time) *Metrics {
	settings.TenantID = strings.ToLower(settings.TenantID)
	return &Metrics{
		settings: settings,
		start:    start,
		apps:     newCardinalityLimiter(maxAppNames),
		types:    newCardinalityLimiter(maxInteractionTypes),
		counts:   map[seriesKey]int64{},
		delays:   map[seriesKey]*histogram{},

		recovered: map[string]int64{},
	}
}

// Add counts interactions whose change is Created; updates and deletions are ignored. An interaction whose time of creation
// is unknown is counted without a delay.
func (m *Metrics) Add(received []interaction.Received) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range received {
		r := &received[i]
		if r.Change != interaction.Created {
			continue
		}
		key := seriesKey{app: m.apps.bound(r.App()), typ: m.types.bound(r.Type), source: string(r.Source)}
		m.counts[key]++
		if delay, known := ingestionDelay(r); known {
			key.typ = ""
			m.observeDelay(key, delay)
		}
	}
}

// AddRecovered counts n interactions that were delivered from the history first, by the reason of the gap in which they were
// missing. With n of 0 the reason has a value from then on, so that a first recovery is an increase, which an alert can detect.
func (m *Metrics) AddRecovered(reason string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recovered[reason] += int64(n)
}

func (m *Metrics) observeDelay(key seriesKey, delay float64) {
	h, seen := m.delays[key]
	if !seen {
		h = &histogram{}
		m.delays[key] = h
	}
	h.observe(delay)
}

// Collect returns the current values with the timestamp now, and the gauges that have values. The series are sorted.
// A metric without observations is absent. Without any metric the resource is absent too, and MetricCount is 0.
func (m *Metrics) Collect(now time.Time, gauges ...Gauge) pmetric.Metrics {
	scope := pmetric.NewScopeMetrics()
	m.emitSeries(scope.Metrics(), pcommon.NewTimestampFromTime(now))
	for _, gauge := range gauges {
		gauge.emit(scope.Metrics(), pcommon.NewTimestampFromTime(now))
	}

	metrics := pmetric.NewMetrics()
	if scope.Metrics().Len() == 0 {
		return metrics
	}
	scope.Scope().SetName(m.settings.ScopeName)
	scope.Scope().SetVersion(m.settings.ScopeVersion)
	resource := metrics.ResourceMetrics().AppendEmpty()
	resource.SetSchemaUrl(schemaURL)
	fillResource(resource.Resource(), m.settings.TenantID)
	putString(resource.Resource().Attributes(), attrServiceInstanceID, m.settings.InstanceID)
	scope.MoveTo(resource.ScopeMetrics().AppendEmpty())
	return metrics
}

func (m *Metrics) emitSeries(metrics pmetric.MetricSlice, at pcommon.Timestamp) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.counts) > 0 {
		m.emitCounts(metrics.AppendEmpty(), at)
	}
	if len(m.delays) > 0 {
		m.emitDelays(metrics.AppendEmpty(), at)
	}
	if len(m.recovered) > 0 {
		m.emitRecovered(metrics.AppendEmpty(), at)
	}
}

// emptySum makes a metric a cumulative monotonic sum without points.
func emptySum(metric pmetric.Metric) pmetric.NumberDataPointSlice {
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

func (m *Metrics) emitCounts(metric pmetric.Metric, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.interactions")
	metric.SetDescription("Prompts and responses that were created.")
	metric.SetUnit("{interaction}")
	points := emptySum(metric)
	for _, key := range slices.SortedFunc(maps.Keys(m.counts), seriesKey.compare) {
		point := points.AppendEmpty()
		key.put(point.Attributes())
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(m.start))
		point.SetTimestamp(at)
		point.SetIntValue(m.counts[key])
	}
}

func (m *Metrics) emitRecovered(metric pmetric.Metric, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.history.recovered")
	metric.SetDescription("Interactions that no notification brought and that were delivered from the history.")
	metric.SetUnit("{interaction}")
	points := emptySum(metric)
	for _, reason := range slices.Sorted(maps.Keys(m.recovered)) {
		point := points.AppendEmpty()
		point.Attributes().PutStr(attrReason, reason)
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(m.start))
		point.SetTimestamp(at)
		point.SetIntValue(m.recovered[reason])
	}
}

func (m *Metrics) emitDelays(metric pmetric.Metric, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.interaction.ingestion_delay")
	metric.SetDescription("Time from the creation of an interaction to its receipt.")
	metric.SetUnit("s")
	histogram := metric.SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, key := range slices.SortedFunc(maps.Keys(m.delays), seriesKey.compare) {
		point := histogram.DataPoints().AppendEmpty()
		key.put(point.Attributes())
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(m.start))
		point.SetTimestamp(at)
		m.delays[key].fill(point)
	}
}

// Gauge is a metric whose current values are passed to Collect. A gauge without values is left out.
type Gauge struct {
	name        string
	description string
	unit        string
	// values are sorted as they are emitted.
	values []gaugeValue
}

type gaugeValue struct {
	// attribute and attributeValue are the name and value of the only attribute, or empty.
	attribute, attributeValue string
	value                     float64
}

// SubscriptionTimeLeft is the time until the Graph subscription expires, in seconds. It has no value if that is unknown.
func SubscriptionTimeLeft(left time.Duration, known bool) Gauge {
	gauge := Gauge{
		name:        "microsoft.copilot.subscription.time_left",
		description: "Time until the Graph subscription expires unless it is renewed.",
		unit:        "s",
	}
	if known {
		gauge.values = []gaugeValue{{value: left.Seconds()}}
	}
	return gauge
}

// NotificationAge is the time since the last authentic notification, in seconds. It has no value before the first one.
func NotificationAge(age time.Duration, known bool) Gauge {
	gauge := Gauge{
		name:        "microsoft.copilot.notification.age",
		description: "Time since the last authentic notification.",
		unit:        "s",
	}
	if known {
		gauge.values = []gaugeValue{{value: age.Seconds()}}
	}
	return gauge
}

// HistoryGap is the total length of the known gaps that are not yet backfilled, in seconds, by reason. It has a value for each
// given reason, also 0, so that an alert can distinguish a recovery from missing data.
func HistoryGap[Reason ~string](missing map[Reason]time.Duration) Gauge {
	gauge := Gauge{
		name:        "microsoft.copilot.history.gap",
		description: "Total length of the intervals of which interactions are missing and not yet fetched.",
		unit:        "s",
	}
	for _, reason := range slices.SortedFunc(maps.Keys(missing), cmp.Compare[Reason]) {
		gauge.values = append(gauge.values, gaugeValue{attribute: attrReason, attributeValue: string(reason), value: missing[reason].Seconds()})
	}
	return gauge
}

// HistoryReconciled is the age of the end of the last reconciliation, in seconds: of the newest time that it compared. Its
// result is complete, incomplete or inconclusive. It has no value before the first one, when the result is empty.
func HistoryReconciled[Result ~string](age time.Duration, result Result) Gauge {
	gauge := Gauge{
		name:        "microsoft.copilot.history.reconciled",
		description: "Age of the newest time for which the history was compared with what was delivered.",
		unit:        "s",
	}
	if result != "" {
		gauge.values = []gaugeValue{{attribute: attrResult, attributeValue: string(result), value: age.Seconds()}}
	}
	return gauge
}

func (g Gauge) emit(metrics pmetric.MetricSlice, at pcommon.Timestamp) {
	if len(g.values) == 0 {
		return
	}
	metric := metrics.AppendEmpty()
	metric.SetName(g.name)
	metric.SetDescription(g.description)
	metric.SetUnit(g.unit)
	points := metric.SetEmptyGauge().DataPoints()
	for _, v := range g.values {
		point := points.AppendEmpty()
		point.SetTimestamp(at)
		point.SetDoubleValue(v.value)
		if v.attribute != "" {
			point.Attributes().PutStr(v.attribute, v.attributeValue)
		}
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
	buckets [20]uint64
	count   uint64
	sum     float64
	min     float64
	max     float64
}

func (h *histogram) observe(value float64) {
	bounds := delayBounds()
	h.buckets[sort.SearchFloat64s(bounds[:], value)]++
	if h.count == 0 {
		h.min, h.max = value, value
	}
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

// otherValue replaces the values of an attribute beyond the limit.
const otherValue = "other"

// cardinalityLimiter passes the first values and replaces later ones, so that the number of series is bounded.
type cardinalityLimiter struct {
	seen  map[string]struct{}
	limit int
}

func newCardinalityLimiter(limit int) cardinalityLimiter {
	return cardinalityLimiter{seen: map[string]struct{}{}, limit: limit}
}

// bound returns the value, or otherValue if it is new and the limit is reached. An empty value does not count.
func (l *cardinalityLimiter) bound(value string) string {
	if value == "" {
		return ""
	}
	if _, known := l.seen[value]; known {
		return value
	}
	if len(l.seen) >= l.limit {
		return otherValue
	}
	l.seen[value] = struct{}{}
	return value
}
