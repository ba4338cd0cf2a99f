package translate

import (
	"crypto/sha256"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// The labels keep the two ids apart, and give a later way of deriving them a place.
const (
	traceLabel = "m365_copilot trace v1"
	spanLabel  = "m365_copilot span v1"
)

// turnIDs derives the trace and the span id of the turn that an interaction belongs to, so that a prompt and its
// response share them, whichever replica sees either. It is false while the turn is not known.
func turnIDs(r *interaction.Received) (pcommon.TraceID, pcommon.SpanID, bool) {
	if r.SessionID == "" || r.Turn == "" {
		return pcommon.TraceID{}, pcommon.SpanID{}, false
	}
	trace := turnHash(traceLabel, r)
	span := turnHash(spanLabel, r)
	return pcommon.TraceID(trace[:16]), pcommon.SpanID(span[:8]), true
}

// turnHash is SHA-256 of the label, tenant, session and turn, joined by the unit separator.
func turnHash(label string, r *interaction.Received) [sha256.Size]byte {
	return sha256.Sum256([]byte(label + "\x1f" + r.TenantID + "\x1f" + r.SessionID + "\x1f" + r.Turn))
}
