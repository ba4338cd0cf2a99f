package receiver

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/intake"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// attempts is the intake as the webhook sees it: Graph sends again what was not taken, and that is watched.
type attempts struct {
	intake  *intake.Intake
	refused *refused
	silence *silence
}

// Take implements webhook.Intake.
func (a *attempts) Take(ctx context.Context, received []interaction.Received) error {
	a.silence.arrived(ctx, a.refused.unknown(received), time.Now())
	// Graph may be asked to send again long before a blocked pipeline returns.
	a.refused.failed(received, time.Now())
	err := a.intake.Take(ctx, received)
	if err == nil || webhook.Permanent(err) {
		a.refused.delivered(received)
	}
	return err
}

// known is what the intake knows as delivered, as the opener sees it: what comes again need not be watched any more.
type known struct {
	intake  *intake.Intake
	refused *refused
}

// Known implements notification.Seen.
func (k known) Known(signature [sha256.Size]byte) bool {
	delivered := k.intake.Known(signature)
	if delivered {
		k.refused.decided(signature)
	}
	return delivered
}
