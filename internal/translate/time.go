package translate

import (
	"math"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// timestamp is when the interaction was created or, where that is not known or OTLP cannot hold it (before 1970,
// after 2262), when it was taken in.
func timestamp(r *interaction.Received) pcommon.Timestamp {
	created, known := r.CreatedAt()
	if !known || created.Before(time.Unix(0, 0)) || created.After(time.Unix(0, math.MaxInt64)) {
		created = r.At
	}
	return pcommon.NewTimestampFromTime(created)
}

// ingestionDelay is the seconds from what happened to taking it in. It is never negative, though the clocks of
// Microsoft and of this machine may differ. It is false when nothing says when it happened.
func ingestionDelay(r *interaction.Received) (float64, bool) {
	happened, known := r.HappenedAt()
	if !known {
		return 0, false
	}
	return max(0, r.At.Sub(happened).Seconds()), true
}
