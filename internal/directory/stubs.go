package directory

import (
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Licensed returns the licensed users, in order; false if they are not known. The result must not be changed.
func (d *Directory) Licensed() (users []gap.User, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.licensed, d.listed
}

// Person returns the directory's entry of a user, nil if it is not known.
func (*Directory) Person(gap.User) *interaction.Person { return nil }
