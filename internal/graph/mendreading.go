package graph

import "net/http"

const grantInteractions = "Grant the app registration of auth.client_id the application permission AiEnterpriseInteraction.Read.All of Microsoft Graph, with admin consent"

// readingHint tells what to do about a refused history or list of users; "" where that is what it is for any call.
func readingHint(failed *Error) string {
	switch failed.Operation {
	case opHistory:
		return historyHint(failed)
	case opUsers:
		return usersHint(failed)
	default:
		return ""
	}
}

func historyHint(failed *Error) string {
	switch denialIn(failed) {
	case unlicensed:
		return "Nothing to do where it is one user, who has no Copilot license or is not known to Microsoft Graph; where it is every user, " +
			"check history.users and subscription.users, and the Microsoft 365 Copilot licenses of the tenant."
	case forbidden:
		return grantInteractions + "; where it is granted and only some users are refused, check their Microsoft 365 Copilot licenses."
	case unsupported:
		return "Check cloud and graph.endpoint: this installation of Microsoft Graph does not offer the history of Copilot interactions; " +
			"where it is the right one, set history.enabled: false."
	case noDenial:
	}
	if failed.Status == http.StatusBadRequest {
		return "Check that history.users and subscription.users hold object ids of users of this tenant; Microsoft support finds the call by its request-id."
	}
	return ""
}

func usersHint(failed *Error) string {
	switch failed.Status {
	case http.StatusForbidden:
		return "Grant the app registration of auth.client_id the application permission User.Read.All of Microsoft Graph, with admin consent, " +
			"or name the users in history.users; until then only users already seen are read."
	case http.StatusBadRequest, http.StatusNotFound, http.StatusNotImplemented:
		return "Name the users in history.users, and check cloud and graph.endpoint: this installation of Microsoft Graph does not list users by their license."
	default:
		return ""
	}
}
