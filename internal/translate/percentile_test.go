package translate_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// TestMetrics_PercentileOfDelayIsClose holds the bucket bounds to their purpose: a percentile that a backend interpolates
// from them is within 10 % of the true one, over a stream whose delays lie where those of Graph do.
func TestMetrics_PercentileOfDelayIsClose(t *testing.T) {
	t.Parallel()
	stream := graphtest.NewTurns(1, graphtest.TurnSettings{TenantID: tenant})
	metrics := newMetrics()
	var delays []float64
	for range 2000 {
		for _, published := range stream.Next(takenIn()) {
			i, err := interaction.Parse(published.JSON)
			require.NoError(t, err)
			i.AppClass = "" // one series, as a query over all of them sees it
			r := interaction.Received{
				Interaction: *i, Change: interaction.Created, Source: interaction.FromNotification, At: takenIn(),
			}
			created, known := r.CreatedAt()
			require.True(t, known)
			delays = append(delays, takenIn().Sub(created).Seconds())
			metrics.Add([]interaction.Received{r})
		}
	}
	slices.Sort(delays)
	point := find(t, metrics.Collect(collected().Add(time.Hour)), delayName).Histogram().DataPoints().At(0)
	for _, quantile := range []float64{0.5, 0.9, 0.95, 0.99} {
		want := delays[int(math.Ceil(quantile*float64(len(delays))))-1]
		got := interpolatedQuantile(quantile, point)
		assert.InEpsilon(t, want, got, 0.1, "p%v", 100*quantile)
	}
}

// interpolatedQuantile is what histogram_quantile answers for buckets whose bounds are above 0:
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
