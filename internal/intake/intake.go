// Package intake is the one way in: whatever brought an interaction, here it learns whose it is before it goes out.
package intake

import (
	"context"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Outlet hands interactions to the pipelines. It returns nil only when they were taken;
// after that the interactions are not touched again.
type Outlet interface {
	Deliver(ctx context.Context, received []interaction.Received) error
}

// Intake takes interactions in. It is safe for concurrent use.
type Intake struct {
	attribution *attribution
	outlet      Outlet
}

// New makes an intake in front of an outlet. It remembers the users of at most maxOpen requests and of as many
// conversations, the oldest forgotten first.
func New(outlet Outlet, maxOpen int) (*Intake, error) {
	attribution, err := newAttribution(maxOpen)
	if err != nil {
		return nil, err
	}
	return &Intake{attribution: attribution, outlet: outlet}, nil
}

// Take attributes the interactions and delivers them. It returns nil once the outlet took all of them, else the
// outlet's error as it is. It may write to the elements of received.
func (i *Intake) Take(ctx context.Context, received []interaction.Received) error {
	if len(received) == 0 {
		return nil
	}
	i.attribution.attribute(received)
	return i.outlet.Deliver(ctx, received)
}
