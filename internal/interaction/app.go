package interaction

import "strings"

// App is the last part of AppClass, in its own case: Teams for IPM.SkypeTeams.Message.Copilot.Teams. Where that is a
// GUID it is the two parts before it, so that the number of names stays small: a registered third-party app is named by
// its application id, and IPM.SkypeTeams.Message.ConnectedAIApp.Entra.{id} gives ConnectedAIApp.Entra. It is empty when
// AppClass is.
//
// The set is open. Compare without regard to case: Graph writes PowerPoint and Powerpoint.
func (i *Interaction) App() string {
	parts := strings.Split(strings.TrimRight(strings.TrimSpace(i.AppClass), "."), ".")
	last := len(parts) - 1
	if last > 0 && isGUID(parts[last]) {
		return strings.Join(parts[max(last-2, 0):last], ".")
	}
	return parts[last]
}

// isGUID reports whether s has the usual form of a GUID, 8-4-4-4-12 hexadecimal digits.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
				return false
			}
		}
	}
	return true
}
