package translate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Gauge holds values that are read at the moment of collecting. Without values it is left out.
type Gauge struct {
	name        string
	description string
	unit        string
	// values are in the order in which they are emitted.
	values []gaugeValue
}

type gaugeValue struct {
	// attribute and word are one attribute and its value, where the gauge has one.
	attribute, attributeValue string
	value                     float64
}

// SubscriptionTimeLeft is the time until the Graph subscription expires, in seconds; left out when it is not known.
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

// NotificationAge is the time since the last authentic notification, in seconds; left out while none has come.
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

// HistoryGap is the time of which interactions are known to be missing and not yet fetched, in seconds, by the reason why.
// It has a value for each reason given, 0 where nothing is missing, so that an alert can tell a recovery from a silence.
func HistoryGap[Reason ~string](missing map[Reason]time.Duration) Gauge {
	gauge := Gauge{
		name:        "microsoft.copilot.history.gap",
		description: "Time of which interactions are known to be missing and are not fetched yet.",
		unit:        "s",
	}
	for _, reason := range slices.SortedFunc(maps.Keys(missing), cmp.Compare[Reason]) {
		gauge.values = append(gauge.values, gaugeValue{attribute: attrReason, attributeValue: string(reason), value: missing[reason].Seconds()})
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
