package translate

import (
	"cmp"
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
	apps   distinct
	types  distinct
	series map[seriesKey]*series
}

// seriesKey is the attributes of one series; an empty one is left out.
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

// series is what was counted under one set of attributes.
type series struct {
	count int64
	delay histogram
}

// NewMetrics returns an empty accumulator; start is the start timestamp of all that it emits.
func NewMetrics(settings MetricSettings, start time.Time) *Metrics {
	settings.TenantID = strings.ToLower(settings.TenantID)
	return &Metrics{
		settings: settings,
		start:    start,
		apps:     newDistinct(maxAppNames),
		types:    newDistinct(maxInteractionTypes),
		series:   map[seriesKey]*series{},
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
		s := m.seriesOf(r)
		s.count++
		if delay, known := ingestionDelay(r); known {
			s.delay.observe(delay)
		}
	}
}

func (m *Metrics) seriesOf(r *interaction.Received) *series {
	key := seriesKey{app: m.apps.bound(r.App()), typ: m.types.bound(r.Type), source: string(r.Source)}
	s, seen := m.series[key]
	if !seen {
		s = &series{}
		m.series[key] = s
	}
	return s
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
	keys := make([]seriesKey, 0, len(m.series))
	delays := 0
	for key, s := range m.series {
		keys = append(keys, key)
		if s.delay.count > 0 {
			delays++
		}
	}
	slices.SortFunc(keys, seriesKey.compare)
	if len(keys) > 0 {
		m.emitCounts(metrics.AppendEmpty(), keys, at)
	}
	if delays > 0 {
		m.emitDelays(metrics.AppendEmpty(), keys, at)
	}
}

func (m *Metrics) emitCounts(metric pmetric.Metric, keys []seriesKey, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.interaction.count")
	metric.SetDescription("Prompts and responses that were created.")
	metric.SetUnit("{interaction}")
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	sum.DataPoints().EnsureCapacity(len(keys))
	for _, key := range keys {
		point := sum.DataPoints().AppendEmpty()
		key.put(point.Attributes())
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(m.start))
		point.SetTimestamp(at)
		point.SetIntValue(m.series[key].count)
	}
}

func (m *Metrics) emitDelays(metric pmetric.Metric, keys []seriesKey, at pcommon.Timestamp) {
	metric.SetName("microsoft.copilot.interaction.ingestion_delay")
	metric.SetDescription("Time from the creation of an interaction to taking it in.")
	metric.SetUnit("s")
	histogram := metric.SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, key := range keys {
		delay := &m.series[key].delay
		if delay.count == 0 {
			continue
		}
		point := histogram.DataPoints().AppendEmpty()
		key.put(point.Attributes())
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(m.start))
		point.SetTimestamp(at)
		delay.fill(point)
	}
}
