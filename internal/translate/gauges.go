package translate

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Gauge is a value that is read at the moment of collecting. The zero value is not known, and left out.
type Gauge struct {
	known       bool
	name        string
	description string
	unit        string
	value       float64
}

// SubscriptionTimeLeft is the time until the Graph subscription expires, in seconds; left out when it is not known.
func SubscriptionTimeLeft(left time.Duration, known bool) Gauge {
	return Gauge{
		known:       known,
		name:        "microsoft.copilot.subscription.time_left",
		description: "Time until the Graph subscription expires unless it is renewed.",
		unit:        "s",
		value:       left.Seconds(),
	}
}

func (g Gauge) emit(metrics pmetric.MetricSlice, at pcommon.Timestamp) {
	if !g.known {
		return
	}
	metric := metrics.AppendEmpty()
	metric.SetName(g.name)
	metric.SetDescription(g.description)
	metric.SetUnit(g.unit)
	point := metric.SetEmptyGauge().DataPoints().AppendEmpty()
	point.SetTimestamp(at)
	point.SetDoubleValue(g.value)
}
