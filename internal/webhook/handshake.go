package webhook

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// tokenParameter marks a request as a handshake.
const tokenParameter = "validationToken"

// maxTokenLength bounds what anybody can make this endpoint echo. The tokens of Microsoft Graph are about 100 bytes.
const maxTokenLength = 4 << 10

const (
	// misdirectedInterval is the shortest time between two lines about handshakes at another path.
	misdirectedInterval = time.Hour
	// maxLoggedPath bounds the bytes of such a path that are logged.
	maxLoggedPath = 200
)

// isHandshake tells whether Microsoft Graph may have sent this to find out whose the URL is.
func isHandshake(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has(tokenParameter)
}

// warnMisdirected says that a handshake came to a path that is not served, and so failed. The path is whatever a
// stranger wrote, hence the quotation.
func (h *Handler) warnMisdirected(path string) {
	h.settings.Logger.Warn("webhook: a validation request came to a path that is not served and was answered 404",
		zap.String("requested_path", strconv.Quote(path[:min(len(path), maxLoggedPath)])),
		zap.String("served_path", h.settings.Path),
		zap.String("hint", "If Microsoft Graph sent it, make webhook.path the path that requests arrive with: that of subscription.notification_url, unless an ingress translates it."))
}

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
