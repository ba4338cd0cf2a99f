package receiver

import (
	"context"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/intake"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// attempts is the intake as the webhook sees it: Graph sends again what was not taken, and that is watched.
type attempts struct {
	intake  *intake.Intake
	refused *refused
}

// Take implements webhook.Intake.
func (a *attempts) Take(ctx context.Context, received []interaction.Received) error {
	// Graph may be asked to send again long before a blocked pipeline returns.
	a.refused.failed(received, time.Now())
	err := a.intake.Take(ctx, received)
	if err == nil || webhook.Permanent(err) {
		a.refused.delivered(received)
	}
	return err
}
