package translate

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// traceLabel keeps the trace id of a turn apart from its other ids, and leaves room for another derivation.
const traceLabel = "m365_copilot trace v1"

// turnID is the trace id of the turn that an interaction belongs to, 32 hexadecimal digits: the first 16 bytes of SHA-256
// of label, tenant, session and turn, joined by the unit separator. A prompt and its responses share it, whichever replica
// sees either. It is empty while the turn is not known.
func turnID(r *interaction.Received) string {
	if r.SessionID == "" || r.Turn == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(traceLabel + "\x1f" + r.TenantID + "\x1f" + r.SessionID + "\x1f" + r.Turn))
	return hex.EncodeToString(sum[:16])
}
