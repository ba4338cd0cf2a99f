package privacy

import (
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// person returns what may leave of the directory's entry of a user, nil for none.
func (s Settings) person(p *interaction.Person) record.Person {
	if p == nil {
		return record.Person{}
	}
	return record.Person{Licensed: &p.Licensed}
}
