package webhook

import (
	"io"
	"net/http"
	"net/url"
)

// tokenParameter marks a request as a handshake.
const tokenParameter = "validationToken"

// maxTokenLength bounds what anybody can make this endpoint echo. The tokens of Microsoft Graph are about 100 bytes.
const maxTokenLength = 4 << 10

// echo answers the handshake that proves to Microsoft Graph that the notification URL is ours: the decoded token in
// plain text, byte for byte: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
//
// It needs no state, so any replica can answer it at any time, even while shutting down. It returns the status.
func echo(w http.ResponseWriter, query url.Values) int {
	token := query.Get(tokenParameter)
	if token == "" || len(token) > maxTokenLength {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "text/plain")
	// Anybody can call this: no browser may take the token for a document.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	// An error means that the caller is gone; it will find out by itself.
	_, _ = io.WriteString(w, token) //nolint:gosec // plain text that no browser may sniff
	return http.StatusOK
}
