package receiver

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// trackedIntake is the intake as the webhook sees it: Graph sends again what was not taken, and that is watched.
type trackedIntake struct {
	intake      *dedupe.Deduplicator
	undelivered *undelivered
	silence     *silenceDetector
}

// Take implements webhook.Intake.
func (a *trackedIntake) Take(ctx context.Context, received []interaction.Received) error {
	a.silence.arrived(ctx, a.undelivered.unknown(received), time.Now())
	// Graph may be asked to send again long before a blocked pipeline returns.
	a.undelivered.track(received, time.Now())
	err := a.intake.Take(ctx, received)
	if err == nil || webhook.Permanent(err) {
		a.undelivered.delivered(received)
	}
	return err
}

// deliveredCheck is what the intake knows as delivered, as the opener sees it: what comes again need not be watched any more.
type deliveredCheck struct {
	intake      *dedupe.Deduplicator
	undelivered *undelivered
}

// Known implements notification.Seen.
func (k deliveredCheck) Known(signature [sha256.Size]byte) bool {
	delivered := k.intake.Known(signature)
	if delivered {
		k.undelivered.resolve(signature)
	}
	return delivered
}
