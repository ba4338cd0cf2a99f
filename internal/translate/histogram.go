package translate

import (
	"sort"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// delayBounds returns the upper bounds of the buckets in seconds. They reach past an hour because Graph may deliver up
// to 60 minutes late: https://learn.microsoft.com/graph/change-notifications-overview
//
// Most delays lie between 2 and 10 seconds, so the buckets are narrow there: a percentile that a backend interpolates
// within a bucket is then close to the true one.
func delayBounds() [19]float64 {
	return [...]float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}
}

// histogram is a cumulative histogram of ingestion delays. Each bound belongs to the bucket below it, as
// https://opentelemetry.io/docs/specs/otel/metrics/data-model/#histogram asks.
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
