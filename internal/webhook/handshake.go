package webhook

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// tokenParameter is the query parameter of a handshake.
const tokenParameter = "validationToken"

// maxTokenLength limits in bytes what anybody can make this endpoint echo. The tokens of Microsoft Graph have about 100 bytes.
const maxTokenLength = 4 << 10

const (
	// misdirectedInterval is the least time between two log lines about handshakes at another path.
	misdirectedInterval = time.Hour
	// maxLoggedPath limits the bytes of such a path that are logged.
	maxLoggedPath = 200
)

// isHandshake reports whether Microsoft Graph may have sent this request to validate the notification URL.
func isHandshake(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has(tokenParameter)
}

// warnMisdirected logs that a handshake failed because its path is not served. The path is quoted since anybody can choose it.
func (h *Handler) warnMisdirected(path string) {
	h.settings.Logger.Warn("webhook: a validation request for a path that is not served was answered 404",
		zap.String("requested_path", strconv.Quote(path[:min(len(path), maxLoggedPath)])),
		zap.String("served_path", h.settings.Path),
		zap.String("hint", "if Microsoft Graph sent it, set webhook.path to the path that requests arrive with: that of subscription.notification_url, unless an ingress rewrites it"))
}

// echo answers the handshake by which Microsoft Graph validates the notification URL, with the decoded token as plain text, and
// returns the status: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
//
// It needs no state, so any replica can answer at any time, even during shutdown.
func echo(w http.ResponseWriter, query url.Values) int {
	token := query.Get(tokenParameter)
	if token == "" || len(token) > maxTokenLength {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "text/plain")
	// Anybody can send a handshake, so browsers must not interpret the token as a document.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	// An error means that the sender has disconnected, so there is nothing to do.
	_, _ = io.WriteString(w, token) //nolint:gosec // plain text, with nosniff
	return http.StatusOK
}
