package interaction

import "strings"

// App is the last part of AppClass, in its own case: Teams for IPM.SkypeTeams.Message.Copilot.Teams.
// It is empty when AppClass is.
//
// The set is open and grows by the apps of the tenant: a registered third-party app is named by its application id
// (IPM.SkypeTeams.Message.ConnectedAIApp.Entra.{id}). Compare without regard to case: Graph writes PowerPoint and
// Powerpoint.
func (i *Interaction) App() string {
	class := strings.TrimRight(strings.TrimSpace(i.AppClass), ".")
	return class[strings.LastIndexByte(class, '.')+1:]
}
