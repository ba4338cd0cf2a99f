package translate

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// MetricSettings says whose interactions are counted, and by whom.
type MetricSettings struct {
	// TenantID is the tenant, in lower case as in the logs; upper case is made lower.
	TenantID string
	// InstanceID is the collector's service.instance.id. It keeps the streams of replicas apart; empty is left out.
	InstanceID string
	// ScopeName and ScopeVersion are the instrumentation scope.
	ScopeName    string
	ScopeVersion string
}

// The most distinct values that an attribute of a metric can take. Graph may send others at any time, since both sets
// are open; those that come later than so many are counted under the value other, so memory stays bounded.
const (
	maxAppNames         = 200
	maxInteractionTypes = 10
)

// Metrics counts interactions and keeps their ingestion delays, cumulatively since it was made. It is safe for
// concurrent use.
type Metrics struct {
	settings MetricSettings
	start    time.Time

	mu     sync.Mutex // guards everything below
	apps   cardinalityLimiter
	types  cardinalityLimiter
	counts map[seriesKey]int64
	delays map[seriesKey]*histogram
}

// seriesKey is the attributes of one series; an empty one is left out. Delays have no type.
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

// NewMetrics returns an empty accumulator; start is the start timestamp of all that it emits.
func NewMetrics(settings MetricSettings, start time.Time) *Metrics {
	settings.TenantID = strings.ToLower(settings.TenantID)
	return &Metrics{
		settings: settings,
		start:    start,
		apps:     newCardinalityLimiter(maxAppNames),
		types:    newCardinalityLimiter(maxInteractionTypes),
		counts:   map[seriesKey]int64{},
		delays:   map[seriesKey]*histogram{},
	}
}

// Add counts the interactions that were created; changes and deletions of earlier ones are left out. An interaction
// of which nothing says when it was created counts, but has no delay.
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

func (m *Metrics) observeDelay(key seriesKey, delay float64) {
	h, seen := m.delays[key]
	if !seen {
		h = &histogram{}
		m.delays[key] = h
	}
	h.observe(delay)
}

// Collect returns the current values at now, the series in a fixed order, together with the gauges that are known.
// A metric of which nothing was observed is absent; when that is all of them, so is the resource, and
// MetricCount is 0.
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
}

func (m *Metrics) emitCounts(metric pmetric.Metric, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.interactions")
	metric.SetDescription("Prompts and responses that were created.")
	metric.SetUnit("{interaction}")
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, key := range slices.SortedFunc(maps.Keys(m.counts), seriesKey.compare) {
		point := sum.DataPoints().AppendEmpty()
		key.put(point.Attributes())
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(m.start))
		point.SetTimestamp(at)
		point.SetIntValue(m.counts[key])
	}
}

func (m *Metrics) emitDelays(metric pmetric.Metric, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.interaction.ingestion_delay")
	metric.SetDescription("Time from the creation of an interaction to taking it in.")
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
