package translate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

const (
	countName    = "microsoft.copilot.interactions"
	delayName    = "microsoft.copilot.interaction.ingestion_delay"
	timeLeftName = "microsoft.copilot.subscription.time_left"
)

func started() time.Time { return time.Date(2025, 12, 1, 14, 0, 0, 0, time.UTC) }

func collected() time.Time { return time.Date(2025, 12, 1, 15, 0, 0, 0, time.UTC) }

func newMetrics() *translate.Metrics {
	return translate.NewMetrics(translate.MetricSettings{
		TenantID: "6F1D2C3B-0A4E-4D55-9B77-2F8E1C0A9D10", InstanceID: "collector-0",
		ScopeName: "github.com/otelcopilot/m365copilotreceiver", ScopeVersion: "1.2.3",
	}, started())
}

// created is a new interaction that was taken in after a delay.
func created(app, typ string, source interaction.Source, delay time.Duration) interaction.Received {
	return interaction.Received{
		Interaction: interaction.Interaction{
			ID: promptID, Type: typ, AppClass: app, CreatedDateTime: takenIn().Add(-delay),
		},
		Change: interaction.Created, Source: source, At: takenIn(),
	}
}

func prompts(delays ...time.Duration) []interaction.Received {
	received := make([]interaction.Received, 0, len(delays))
	for _, delay := range delays {
		received = append(received,
			created("IPM.SkypeTeams.Message.Copilot.Word", "userPrompt", interaction.FromNotification, delay))
	}
	return received
}

func find(tb testing.TB, metrics pmetric.Metrics, name string) pmetric.Metric {
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

func TestNothingObservedIsNoMetric(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(nil)
	got := metrics.Collect(collected(), translate.SubscriptionTimeLeft(time.Hour, false))
	assert.Zero(t, got.MetricCount())
	assert.Zero(t, got.ResourceMetrics().Len())
}

func TestTheMetricsResourceAlsoNamesTheCollector(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(prompts(time.Second))
	resource := metrics.Collect(collected()).ResourceMetrics().At(0)
	assert.Equal(t, map[string]any{
		"service.name": "microsoft-365-copilot", "microsoft.tenant.id": tenant, "service.instance.id": "collector-0",
	}, resource.Resource().Attributes().AsRaw())
	assert.Equal(t, "https://opentelemetry.io/schemas/1.41.0", resource.SchemaUrl())
	scope := resource.ScopeMetrics().At(0).Scope()
	assert.Equal(t, "github.com/otelcopilot/m365copilotreceiver", scope.Name())
	assert.Equal(t, "1.2.3", scope.Version())
}

func TestAnEmptyInstanceIsLeftOut(t *testing.T) {
	t.Parallel()
	metrics := translate.NewMetrics(translate.MetricSettings{TenantID: tenant}, started())
	metrics.Add(prompts(time.Second))
	resource := metrics.Collect(collected()).ResourceMetrics().At(0).Resource()
	assert.NotContains(t, resource.Attributes().AsRaw(), "service.instance.id")
}

func TestCountIsCumulativeForEachSetOfAttributes(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	word, teams := "IPM.SkypeTeams.Message.Copilot.Word", "IPM.SkypeTeams.Message.Copilot.Teams"
	metrics.Add([]interaction.Received{
		created(word, "userPrompt", interaction.FromNotification, time.Second),
		created(word, "userPrompt", interaction.FromHistory, time.Second),
		created("", "", interaction.FromNotification, time.Second),
		created(word, "aiResponse", interaction.FromNotification, time.Second),
		created(teams, "userPrompt", interaction.FromNotification, time.Second),
	})
	metrics.Collect(collected())
	metrics.Add(prompts(time.Second, time.Second))

	metric := find(t, metrics.Collect(collected()), countName)
	assert.Equal(t, "{interaction}", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	assert.True(t, metric.Sum().IsMonotonic())
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Sum().AggregationTemporality())
	var got []string
	for _, point := range metric.Sum().DataPoints().All() {
		assert.Equal(t, pcommon.NewTimestampFromTime(started()), point.StartTimestamp())
		assert.Equal(t, pcommon.NewTimestampFromTime(collected()), point.Timestamp())
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

func TestOnlyCreatedInteractionsCount(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	received := prompts(time.Second, time.Second)
	received[0].Change, received[1].Change = interaction.Updated, interaction.Deleted
	metrics.Add(received)
	assert.Zero(t, metrics.Collect(collected()).MetricCount())
}

func TestDelaysFallIntoTheBucketAtOrAboveThem(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(prompts(-time.Minute, time.Second, 1001*time.Millisecond, time.Hour, 7200*time.Second, 3*time.Hour))
	metric := find(t, metrics.Collect(collected()), delayName)
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
	assert.Equal(t, pcommon.NewTimestampFromTime(started()), point.StartTimestamp())
	assert.Equal(t, pcommon.NewTimestampFromTime(collected()), point.Timestamp())
	assert.Equal(t, map[string]any{
		"microsoft.copilot.app.name": "Word", "microsoft.copilot.source": "notification",
	}, point.Attributes().AsRaw())
}

func TestMinAndMaxAreThoseOfAllDelays(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	metrics.Add(prompts(8*time.Second, 3*time.Second, 5*time.Second))
	point := find(t, metrics.Collect(collected()), delayName).Histogram().DataPoints().At(0)
	assert.InDelta(t, 3, point.Min(), 0)
	assert.InDelta(t, 8, point.Max(), 0)
}

func TestAnInteractionWithoutATimeCountsWithoutADelay(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	received := prompts(time.Second)
	received[0].ID, received[0].CreatedDateTime = "r_warm", time.Time{}
	metrics.Add(received)
	got := metrics.Collect(collected())
	assert.EqualValues(t, 1, find(t, got, countName).Sum().DataPoints().At(0).IntValue())
	assert.Equal(t, 1, got.MetricCount())

	metrics.Add([]interaction.Received{created("Excel", "userPrompt", interaction.FromNotification, time.Second)})
	delays := find(t, metrics.Collect(collected()), delayName).Histogram().DataPoints()
	require.Equal(t, 1, delays.Len(), "a series without a delay has no histogram")
	assert.Equal(t, "Excel", value(t, delays.At(0).Attributes(), "microsoft.copilot.app.name"))
}

func TestTimeLeftIsAGaugeInSeconds(t *testing.T) {
	t.Parallel()
	got := newMetrics().Collect(collected(), translate.SubscriptionTimeLeft(90*time.Minute+time.Millisecond, true))
	require.Equal(t, 1, got.MetricCount())
	metric := find(t, got, timeLeftName)
	assert.Equal(t, "s", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	require.Equal(t, 1, metric.Gauge().DataPoints().Len())
	point := metric.Gauge().DataPoints().At(0)
	assert.InDelta(t, 5400.001, point.DoubleValue(), 1e-9)
	assert.Equal(t, pcommon.NewTimestampFromTime(collected()), point.Timestamp())
	assert.Zero(t, point.Attributes().Len())
}

func TestNotificationAge_IsAGaugeInSeconds(t *testing.T) {
	t.Parallel()
	got := newMetrics().Collect(collected(), translate.NotificationAge(1500*time.Millisecond, true))
	metric := find(t, got, "microsoft.copilot.notification.age")
	assert.Equal(t, "s", metric.Unit())
	assert.NotEmpty(t, metric.Description())
	require.Equal(t, 1, metric.Gauge().DataPoints().Len())
	assert.InDelta(t, 1.5, metric.Gauge().DataPoints().At(0).DoubleValue(), 1e-9)
	assert.Zero(t, newMetrics().Collect(collected(), translate.NotificationAge(0, false)).MetricCount(),
		"none has come, so none has an age")
}

func TestKnownGapsAreAGaugeByReason(t *testing.T) {
	t.Parallel()
	type reason string
	metrics := translate.NewMetrics(translate.MetricSettings{}, time.Unix(0, 0)).Collect(time.Unix(100, 0),
		translate.HistoryGap(map[reason]time.Duration{"subscription": 90 * time.Second, "empty": time.Minute, "startup": 0}),
		translate.HistoryGap(map[reason]time.Duration{}))
	require.Equal(t, 1, metrics.MetricCount(), "no reason, no metric")
	gap := metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	assert.Equal(t, "microsoft.copilot.history.gap", gap.Name())
	assert.Equal(t, "s", gap.Unit())
	points := gap.Gauge().DataPoints()
	require.Equal(t, 3, points.Len())
	assert.Equal(t, map[string]any{"microsoft.copilot.reason": "empty"}, points.At(0).Attributes().AsRaw())
	assert.InDelta(t, 60, points.At(0).DoubleValue(), 0)
	assert.Equal(t, map[string]any{"microsoft.copilot.reason": "startup"}, points.At(1).Attributes().AsRaw())
	assert.InDelta(t, 0, points.At(1).DoubleValue(), 0, "all is well is a value too")
	assert.Equal(t, map[string]any{"microsoft.copilot.reason": "subscription"}, points.At(2).Attributes().AsRaw())
	assert.InDelta(t, 90, points.At(2).DoubleValue(), 0)
}
