// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

const (
	countName    = "microsoft.copilot.interactions"
	delayName    = "microsoft.copilot.interaction.ingestion_delay"
	timeLeftName = "microsoft.copilot.subscription.time_left"
)

func startTime() time.Time { return time.Date(2025, 12, 1, 14, 0, 0, 0, time.UTC) }

func collectTime() time.Time { return time.Date(2025, 12, 1, 15, 0, 0, 0, time.UTC) }

func newMetrics() *translate.Metrics {
	return translate.NewMetrics(translate.MetricSettings{
		TenantID: tenant, InstanceID: "collector-0", Scope: scope(), Start: startTime(),
	})
}

// created returns the record of a new interaction that was received after a delay.
func created(app, typ string, source interaction.Source, delay time.Duration) record.Record {
	return privacy.Settings{}.Apply([]interaction.Received{{
		Interaction: interaction.Interaction{
			ID: promptID, Type: typ, AppClass: app, CreatedDateTime: receivedAt().Add(-delay),
		},
		Change: interaction.Created, Source: source, At: receivedAt(),
	}})[0]
}

func prompts(delays ...time.Duration) []record.Record {
	records := make([]record.Record, 0, len(delays))
	for _, delay := range delays {
		records = append(records,
			created("IPM.SkypeTeams.Message.Copilot.Word", "userPrompt", interaction.FromNotification, delay))
	}
	return records
}

func findMetric(tb testing.TB, metrics pmetric.Metrics, name string) pmetric.Metric {
	tb.Helper()
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() == name {
					return metric
				}
			}
		}
	}
	require.Fail(tb, "metric is absent", name)
	return pmetric.Metric{}
}

func TestMetrics_AbsentWithoutObservations(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(nil)
	got := metrics.Collect(collectTime(), translate.SubscriptionTimeLeft(time.Hour, false))
	assert.Zero(t, got.MetricCount())
	assert.Zero(t, got.ResourceMetrics().Len())
}

func TestMetrics_ResourceNamesServiceAndCollector(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(prompts(time.Second))
	resource := metrics.Collect(collectTime()).ResourceMetrics().At(0)
	assert.Equal(t, map[string]any{
		"service.name": "microsoft-365-copilot", "microsoft.tenant.id": tenant, "service.instance.id": "collector-0",
	}, resource.Resource().Attributes().AsRaw())
	assert.Equal(t, "https://opentelemetry.io/schemas/1.41.0", resource.SchemaUrl())
	scope := resource.ScopeMetrics().At(0).Scope()
	assert.Equal(t, "github.com/otelcopilot/m365copilotreceiver", scope.Name())
	assert.Equal(t, "1.2.3", scope.Version())
}

func TestMetrics_ResourceOmitsEmptyInstanceID(t *testing.T) {
	t.Parallel()
	metrics := translate.NewMetrics(translate.MetricSettings{TenantID: tenant, Start: startTime()})
	metrics.Add(prompts(time.Second))
	resource := metrics.Collect(collectTime()).ResourceMetrics().At(0).Resource()
	assert.NotContains(t, resource.Attributes().AsRaw(), "service.instance.id")
}

func TestMetrics_CountIsCumulativePerSeries(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	word, teams := "IPM.SkypeTeams.Message.Copilot.Word", "IPM.SkypeTeams.Message.Copilot.Teams"
	metrics.Add([]record.Record{
		created(word, "userPrompt", interaction.FromNotification, time.Second),
		created(word, "userPrompt", interaction.FromHistory, time.Second),
		created("", "", interaction.FromNotification, time.Second),
		created(word, "aiResponse", interaction.FromNotification, time.Second),
		created(teams, "userPrompt", interaction.FromNotification, time.Second),
	})
	metrics.Collect(collectTime())
	metrics.Add(prompts(time.Second, time.Second))

	metric := findMetric(t, metrics.Collect(collectTime()), countName)
	assert.Equal(t, "{interaction}", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	assert.True(t, metric.Sum().IsMonotonic())
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Sum().AggregationTemporality())
	var got []string
	for _, point := range metric.Sum().DataPoints().All() {
		assert.Equal(t, pcommon.NewTimestampFromTime(startTime()), point.StartTimestamp())
		assert.Equal(t, pcommon.NewTimestampFromTime(collectTime()), point.Timestamp())
		got = append(got, fmt.Sprint(point.Attributes().AsRaw(), point.IntValue()))
	}
	const app, typ, source = "microsoft.copilot.app.name:", "microsoft.copilot.interaction.type:", "microsoft.copilot.source:"
	assert.Equal(t, []string{
		"map[" + source + "notification] 1",
		"map[" + app + "Teams " + typ + "userPrompt " + source + "notification] 1",
		"map[" + app + "Word " + typ + "aiResponse " + source + "notification] 1",
		"map[" + app + "Word " + typ + "userPrompt " + source + "history] 1",
		"map[" + app + "Word " + typ + "userPrompt " + source + "notification] 3",
	}, got)
}

func TestMetrics_CountOnlyCreations(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	received := prompts(time.Second, time.Second)
	received[0].Change, received[1].Change = "updated", "deleted"
	metrics.Add(received)
	assert.Zero(t, metrics.Collect(collectTime()).MetricCount())
}

func TestMetrics_DelayBoundsAreInclusive(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(prompts(-time.Minute, time.Second, 1001*time.Millisecond, time.Hour, 7200*time.Second, 3*time.Hour))
	metric := findMetric(t, metrics.Collect(collectTime()), delayName)
	assert.Equal(t, "s", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Histogram().AggregationTemporality())
	require.Equal(t, 1, metric.Histogram().DataPoints().Len())
	point := metric.Histogram().DataPoints().At(0)
	assert.Equal(t, []float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}, point.ExplicitBounds().AsRaw())
	assert.Equal(t, []uint64{2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}, point.BucketCounts().AsRaw())
	assert.EqualValues(t, 6, point.Count())
	assert.InDelta(t, 0+1+1.001+3600+7200+10800, point.Sum(), 1e-6)
	assert.InDelta(t, 0, point.Min(), 0)
	assert.InDelta(t, 10800, point.Max(), 0)
	assert.Equal(t, pcommon.NewTimestampFromTime(startTime()), point.StartTimestamp())
	assert.Equal(t, pcommon.NewTimestampFromTime(collectTime()), point.Timestamp())
	assert.Equal(t, map[string]any{
		"microsoft.copilot.app.name": "Word", "microsoft.copilot.source": "notification",
	}, point.Attributes().AsRaw())
}

func TestMetrics_DelayMinAndMax(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(prompts(8*time.Second, 3*time.Second, 5*time.Second))
	point := findMetric(t, metrics.Collect(collectTime()), delayName).Histogram().DataPoints().At(0)
	assert.InDelta(t, 3, point.Min(), 0)
	assert.InDelta(t, 8, point.Max(), 0)
}

func TestMetrics_UnknownTimeHasNoDelay(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	received := prompts(time.Second)
	received[0].Delay = record.UnknownDelay
	metrics.Add(received)
	got := metrics.Collect(collectTime())
	assert.EqualValues(t, 1, findMetric(t, got, countName).Sum().DataPoints().At(0).IntValue())
	assert.Equal(t, 1, got.MetricCount())

	metrics.Add([]record.Record{created("Excel", "userPrompt", interaction.FromNotification, time.Second)})
	delays := findMetric(t, metrics.Collect(collectTime()), delayName).Histogram().DataPoints()
	require.Equal(t, 1, delays.Len(), "a series without delays has no histogram")
	assert.Equal(t, "Excel", attributeValue(t, delays.At(0).Attributes(), "microsoft.copilot.app.name"))
}

func TestSubscriptionTimeLeft_IsAGaugeInSeconds(t *testing.T) {
	t.Parallel()
	got := newMetrics().Collect(collectTime(), translate.SubscriptionTimeLeft(90*time.Minute+time.Millisecond, true))
	require.Equal(t, 1, got.MetricCount())
	metric := findMetric(t, got, timeLeftName)
	assert.Equal(t, "s", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	require.Equal(t, 1, metric.Gauge().DataPoints().Len())
	point := metric.Gauge().DataPoints().At(0)
	assert.InDelta(t, 5400.001, point.DoubleValue(), 1e-9)
	assert.Equal(t, pcommon.NewTimestampFromTime(collectTime()), point.Timestamp())
	assert.Zero(t, point.Attributes().Len())
}

func TestNotificationAge_IsAGaugeInSeconds(t *testing.T) {
	t.Parallel()
	got := newMetrics().Collect(collectTime(), translate.NotificationAge(1500*time.Millisecond, true))
	metric := findMetric(t, got, "microsoft.copilot.notification.age")
	assert.Equal(t, "s", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	require.Equal(t, 1, metric.Gauge().DataPoints().Len())
	assert.InDelta(t, 1.5, metric.Gauge().DataPoints().At(0).DoubleValue(), 1e-9)
	assert.Zero(t, newMetrics().Collect(collectTime(), translate.NotificationAge(0, false)).MetricCount(),
		"the age is unknown before the first notification")
}

func TestHistoryGap_IsAGaugeByReason(t *testing.T) {
	t.Parallel()
	type reason string
	metrics := translate.NewMetrics(translate.MetricSettings{Start: time.Unix(0, 0)}).Collect(time.Unix(100, 0),
		translate.HistoryGap(map[reason]time.Duration{"subscription": 90 * time.Second, "empty": time.Minute, "startup": 0}),
		translate.HistoryGap(map[reason]time.Duration{}))
	require.Equal(t, 1, metrics.MetricCount(), "a gauge without reasons is left out")
	gap := metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	assert.Equal(t, "microsoft.copilot.history.gap", gap.Name())
	assert.Equal(t, "s", gap.Unit())
	points := gap.Gauge().DataPoints()
	require.Equal(t, 3, points.Len())
	assert.Equal(t, map[string]any{"microsoft.copilot.reason": "empty"}, points.At(0).Attributes().AsRaw())
	assert.InDelta(t, 60, points.At(0).DoubleValue(), 0)
	assert.Equal(t, map[string]any{"microsoft.copilot.reason": "startup"}, points.At(1).Attributes().AsRaw())
	assert.InDelta(t, 0, points.At(1).DoubleValue(), 0, "no gap is a value too")
	assert.Equal(t, map[string]any{"microsoft.copilot.reason": "subscription"}, points.At(2).Attributes().AsRaw())
	assert.InDelta(t, 90, points.At(2).DoubleValue(), 0)
}

func TestHistoryReconciled_IsAGaugeByResult(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"complete", "incomplete", "inconclusive"} {
		got := newMetrics().Collect(collectTime(), translate.HistoryReconciled(26*time.Hour, want))
		metric := findMetric(t, got, "microsoft.copilot.history.reconciled")
		assert.Equal(t, "s", metric.Unit())
		assert.NotEmpty(t, metric.Description())
		require.Equal(t, 1, metric.Gauge().DataPoints().Len(), "the results of earlier days have no series")
		point := metric.Gauge().DataPoints().At(0)
		assert.InDelta(t, 93600, point.DoubleValue(), 1e-9)
		assert.Equal(t, pcommon.NewTimestampFromTime(collectTime()), point.Timestamp())
		assert.Equal(t, map[string]any{"microsoft.copilot.result": want}, point.Attributes().AsRaw())
	}
	assert.Zero(t, newMetrics().Collect(collectTime(), translate.HistoryReconciled(0, "")).MetricCount(),
		"the age is unknown before the first reconciliation")
}

func TestUserGauges_AreNumbersOfUsers(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	got := metrics.Collect(collectTime(),
		translate.ActiveUsers(3), metrics.ActiveUsersByApp(map[string]int{"Word": 2, "Excel": 1}), translate.LicensedUsers(7, true))
	for name, want := range map[string][]string{
		"microsoft.copilot.user.active":     {"map[] 3"},
		"microsoft.copilot.app.user.active": {"map[microsoft.copilot.app.name:Excel] 1", "map[microsoft.copilot.app.name:Word] 2"},
		"microsoft.copilot.user.licensed":   {"map[] 7"},
	} {
		metric := findMetric(t, got, name)
		assert.Equal(t, "{user}", metric.Unit())
		assert.NotEmpty(t, metric.Description())
		var points []string
		for _, point := range metric.Gauge().DataPoints().All() {
			points = append(points, fmt.Sprint(point.Attributes().AsRaw(), point.DoubleValue()))
		}
		assert.Equal(t, want, points)
	}
}

func TestUserGauges_OnlyLicensedUsersMayBeUnknown(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	got := metrics.Collect(collectTime(), translate.ActiveUsers(0), metrics.ActiveUsersByApp(nil), translate.LicensedUsers(0, false))
	require.Equal(t, 1, got.MetricCount())
	active := findMetric(t, got, "microsoft.copilot.user.active").Gauge().DataPoints()
	require.Equal(t, 1, active.Len(), "no active user is a value too")
	assert.Zero(t, active.At(0).DoubleValue())
}

func TestMetrics_RecoveredIsCumulativePerReason(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.AddRecovered("subscription", 0)
	metrics.AddRecovered("reconcile", 2)
	metrics.Collect(collectTime())
	metrics.AddRecovered("reconcile", 3)
	metrics.AddRecovered("reconcile", 0)

	metric := findMetric(t, metrics.Collect(collectTime()), "microsoft.copilot.history.recovered")
	assert.Equal(t, "{interaction}", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	assert.True(t, metric.Sum().IsMonotonic())
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Sum().AggregationTemporality())
	var got []string
	for _, point := range metric.Sum().DataPoints().All() {
		assert.Equal(t, pcommon.NewTimestampFromTime(startTime()), point.StartTimestamp())
		assert.Equal(t, pcommon.NewTimestampFromTime(collectTime()), point.Timestamp())
		got = append(got, fmt.Sprint(point.Attributes().AsRaw(), point.IntValue()))
	}
	assert.Equal(t, []string{
		"map[microsoft.copilot.reason:reconcile] 5",
		"map[microsoft.copilot.reason:subscription] 0",
	}, got, "a reason that was announced is 0, so that a first recovery is an increase")
}

// countsByAttribute returns the sum of the counts by the value of an attribute.
func countsByAttribute(t *testing.T, metrics pmetric.Metrics, attribute string) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, point := range findMetric(t, metrics, countName).Sum().DataPoints().All() {
		counts[attributeValue(t, point.Attributes(), attribute).(string)] += point.IntValue()
	}
	return counts
}

func TestMetrics_AppNamesBeyondLimitCountAsOther(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	for n := range 1000 {
		metrics.Add([]record.Record{
			created(fmt.Sprintf("App%d", n), "userPrompt", interaction.FromNotification, time.Second),
		})
	}
	metrics.Add([]record.Record{
		created("App0", "userPrompt", interaction.FromNotification, time.Second),
		created("App999", "userPrompt", interaction.FromNotification, time.Second),
	})
	counts := countsByAttribute(t, metrics.Collect(collectTime()), "microsoft.copilot.app.name")
	assert.Len(t, counts, 201)
	assert.EqualValues(t, 2, counts["App0"], "a name before the limit is kept")
	assert.EqualValues(t, 1, counts["App199"])
	assert.EqualValues(t, 801, counts["other"])

	active := metrics.ActiveUsersByApp(map[string]int{"App0": 5, "App198": 2, "App200": 3, "App999": 4})
	values := map[any]float64{}
	for _, point := range findMetric(t, metrics.Collect(collectTime(), active), "microsoft.copilot.app.user.active").Gauge().DataPoints().All() {
		values[attributeValue(t, point.Attributes(), "microsoft.copilot.app.name")] = point.DoubleValue()
	}
	assert.Equal(t, map[any]float64{"App0": 5, "App198": 2, "other": 7}, values, "all metrics have the same names")
}

func TestMetrics_TypesBeyondLimitCountAsOther(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	for n := range 100 {
		metrics.Add([]record.Record{
			created("Word", fmt.Sprintf("type%d", n), interaction.FromNotification, time.Second),
		})
	}
	counts := countsByAttribute(t, metrics.Collect(collectTime()), "microsoft.copilot.interaction.type")
	assert.Len(t, counts, 11)
	assert.EqualValues(t, 1, counts["type9"])
	assert.EqualValues(t, 90, counts["other"])
}

func TestMetrics_SeriesAreSorted(t *testing.T) {
	t.Parallel()
	emit := func(reverse bool) string {
		metrics := newMetrics()
		for n := range 50 {
			if reverse {
				n = 49 - n
			}
			metrics.Add([]record.Record{
				created(fmt.Sprintf("App%d", n), "userPrompt", interaction.FromNotification, time.Second),
			})
		}
		data, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics.Collect(collectTime()))
		require.NoError(t, err)
		return string(data)
	}
	want := emit(false)
	assert.Equal(t, want, emit(true))
	assert.Equal(t, want, emit(false))
}

func TestMetrics_CountsConcurrentAdds(t *testing.T) {
	t.Parallel()
	const adders, adds = 8, 200
	metrics := newMetrics()
	metrics.Add(prompts(time.Second))
	var wg sync.WaitGroup
	for range adders {
		wg.Go(func() {
			for range adds {
				metrics.Add(prompts(time.Second, time.Minute))
				metrics.AddRecovered("reconcile", 1)
			}
		})
	}
	var last int64
	for range adds {
		now := findMetric(t, metrics.Collect(collectTime()), countName).Sum().DataPoints().At(0).IntValue()
		assert.GreaterOrEqual(t, now, last)
		last = now
	}
	wg.Wait()
	got := metrics.Collect(collectTime())
	assert.EqualValues(t, 2*adders*adds+1, findMetric(t, got, countName).Sum().DataPoints().At(0).IntValue())
	assert.EqualValues(t, 2*adders*adds+1, findMetric(t, got, delayName).Histogram().DataPoints().At(0).Count())
	assert.EqualValues(t, adders*adds, findMetric(t, got, "microsoft.copilot.history.recovered").Sum().DataPoints().At(0).IntValue())
}

func TestMetrics_AbsentValueIsNeverOther(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	for n := range 300 {
		metrics.Add([]record.Record{
			created(fmt.Sprintf("App%d", n), fmt.Sprintf("type%d", n), interaction.FromNotification, time.Second),
		})
	}
	metrics.Add([]record.Record{created("", "", interaction.FromNotification, time.Second)})
	first := findMetric(t, metrics.Collect(collectTime()), countName).Sum().DataPoints().At(0)
	assert.Equal(t, map[string]any{"microsoft.copilot.source": "notification"}, first.Attributes().AsRaw())
	assert.EqualValues(t, 1, first.IntValue())
}

// TestMetrics_PercentileOfDelayIsClose checks the bucket bounds: a percentile that a backend interpolates from them is within
// 10 % of the true one, for delays distributed like those of Graph.
func TestMetrics_PercentileOfDelayIsClose(t *testing.T) {
	t.Parallel()
	stream := graphtest.NewTurns(1, graphtest.TurnSettings{TenantID: tenant})
	metrics := newMetrics()
	var delays []float64
	for range 2000 {
		for _, published := range stream.Next(receivedAt()) {
			i, err := interaction.Parse(published.JSON)
			require.NoError(t, err)
			i.AppClass = "" // one series, as for a query that aggregates them
			r := interaction.Received{
				Interaction: *i, Change: interaction.Created, Source: interaction.FromNotification, At: receivedAt(),
			}
			created, known := r.CreatedAt()
			require.True(t, known)
			delays = append(delays, receivedAt().Sub(created).Seconds())
			metrics.Add(privacy.Settings{}.Apply([]interaction.Received{r}))
		}
	}
	slices.Sort(delays)
	point := findMetric(t, metrics.Collect(collectTime().Add(time.Hour)), delayName).Histogram().DataPoints().At(0)
	for _, quantile := range []float64{0.5, 0.9, 0.95, 0.99} {
		want := delays[int(math.Ceil(quantile*float64(len(delays))))-1]
		got := interpolatedQuantile(quantile, point)
		assert.InEpsilon(t, want, got, 0.1, "p%v", 100*quantile)
	}
}

// interpolatedQuantile computes what histogram_quantile returns for buckets whose bounds are positive:
// https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
func interpolatedQuantile(quantile float64, point pmetric.HistogramDataPoint) float64 {
	rank := quantile * float64(point.Count())
	bounds := point.ExplicitBounds()
	below, lower := 0.0, 0.0
	for i, count := range point.BucketCounts().AsRaw() {
		if i == bounds.Len() {
			break
		}
		if below+float64(count) >= rank {
			return lower + (bounds.At(i)-lower)*(rank-below)/float64(count)
		}
		below, lower = below+float64(count), bounds.At(i)
	}
	return lower
}
