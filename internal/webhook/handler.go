// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	// defaultMaxBodySize replaces a limit of 0 or less, as in confighttp.
	defaultMaxBodySize = 20 << 20
	// AckTimeout/minWaitDivisor is the least time that decoding and delivery get, even if the body took most of the timeout to
	// arrive. Otherwise a sender on a slow connection would be told to retry every time.
	minWaitDivisor = 10
	// retryAfter is the Retry-After of a 503. Its causes end within seconds or not at all, and Microsoft Graph has its own
	// back-off: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	retryAfter = 5 * time.Second
)

// The numbers of bodies that are decoded concurrently. Decoding an unauthenticated body takes a few nanoseconds per byte, so the
// queue is short even if such bodies use up MaxInFlightBytes. Bodies of usual size do not wait for large ones.
const (
	maxDecodingSmall = 2
	maxDecodingLarge = 1
)

// handler answers Microsoft Graph at the notification URL.
//
//	handshake           200, or 400 for an empty or too long token
//	another path        404
//	another method      405
//	not JSON            415, as for compressed bodies
//	too large           413
//	not a collection    400, as for a query that cannot be decoded
//	incomplete          408 after read_timeout, 400 if the sender aborted
//	decided             202: delivered, rejected or refused permanently
//	not decided         503 with Retry-After
//
// The body of an answer is only the name of the status, since the sender is not authenticated.
type handler struct {
	settings    Settings
	maxBodySize int64
	limiter     *byteLimiter
	// decodingSmall and decodingLarge are semaphores that hold an element for each body that is being decoded.
	decodingSmall, decodingLarge chan struct{}
	deliveries                   *deliveries
}

func newHandler(settings Settings) *handler {
	settings.Logger = rarely(settings.Logger)
	maxBodySize := settings.Config.MaxRequestBodySize
	if maxBodySize <= 0 {
		maxBodySize = defaultMaxBodySize
	}
	return &handler{
		settings:      settings,
		maxBodySize:   maxBodySize,
		limiter:       newByteLimiter(settings.MaxInFlightBytes, maxBodySize),
		decodingSmall: make(chan struct{}, maxDecodingSmall),
		decodingLarge: make(chan struct{}, maxDecodingLarge),
		deliveries:    newDeliveries(),
	}
}

// ServeHTTP answers one request. An accepted request is delivered even if its sender disconnects.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	closeAfterAnswer(w, r)
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case r.URL.Path != h.settings.Path:
		if r.Method == http.MethodPost && query.Has(tokenParameter) {
			h.warnMisdirected(r.URL.Path)
		}
		h.answer(w, r, arrived, http.StatusNotFound, "")
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		h.answer(w, r, arrived, http.StatusMethodNotAllowed, "")
	case err != nil:
		h.answer(w, r, arrived, http.StatusBadRequest, Malformed)
	case query.Has(tokenParameter):
		h.settings.Telemetry.Handshake(r.Context(), echo(w, query.Get(tokenParameter)))
	default:
		status, outcome := h.accept(w, r, arrived)
		h.answer(w, r, arrived, status, outcome)
	}
}

// closeAfterAnswer closes an HTTP/1 connection after the answer, unless keepOpen is called: an unauthenticated sender need not
// keep it, and net/http would read the rest of a body before it sends the answer. In HTTP/2 only the stream is reset, and the
// header would end the other streams of the connection.
func closeAfterAnswer(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// connectionKey is the context key of a function that notes something authentic on the request's connection.
type connectionKey struct{}

// keepOpen keeps the connection of an authentic request open.
func keepOpen(w http.ResponseWriter, r *http.Request) {
	w.Header().Del("Connection")
	if noteAuthentic, ok := r.Context().Value(connectionKey{}).(func()); ok {
		noteAuthentic()
	}
}

const (
	// tokenParameter is the query parameter of a handshake.
	tokenParameter = "validationToken"
	// maxTokenLength limits in bytes what anybody can make this endpoint echo. The tokens of Microsoft Graph have about 100 bytes.
	maxTokenLength = 4 << 10
	// maxLoggedPath limits the bytes of a path that are logged.
	maxLoggedPath = 200
)

// echo answers the handshake by which Microsoft Graph validates the notification URL, with the decoded token as plain text, and
// returns the status: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
//
// It needs no state, so any replica can answer at any time, even during shutdown.
func echo(w http.ResponseWriter, token string) (status int) {
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

// warnMisdirected logs that a handshake failed because its path is not served. The path is quoted since anybody can choose it.
func (h *handler) warnMisdirected(path string) {
	h.settings.Logger.Warn("webhook: a validation request for a path that is not served was answered 404", append(
		failure.New(failure.ValidationAtOtherPath).Fields(),
		zap.String("requested_path", strconv.Quote(path[:min(len(path), maxLoggedPath)])),
		zap.String("served_path", h.settings.Path))...)
}

// accept reads a notification, starts its delivery and returns the answer. The outcome is empty if it was counted already.
func (h *handler) accept(w http.ResponseWriter, r *http.Request, arrived time.Time) (status int, outcome Outcome) {
	switch {
	case h.deliveries.stopping.Err() != nil:
		return http.StatusServiceUnavailable, Stopping
	case !isJSON(r.Header):
		return http.StatusUnsupportedMediaType, Malformed
	case r.ContentLength > h.maxBodySize:
		return h.tooLarge(r)
	}
	reservation, ok := h.limiter.reserve()
	if !ok {
		return http.StatusServiceUnavailable, Overloaded
	}
	started := false
	defer func() {
		if !started { // else the delivery releases it
			reservation.release()
		}
	}()
	body, err := h.receive(w, r, reservation)
	if err != nil {
		return h.readFailed(r, err)
	}
	collection, status, outcome := h.decode(w, r, body, reservation, arrived)
	if collection == nil {
		return status, outcome
	}
	d := &delivery{
		settings: &h.settings, collection: collection, reservation: reservation, arrived: arrived, status: make(chan int, 1),
	}
	d.pending.Store(int64(len(collection.Items)))
	if started = h.deliveries.start(r.Context(), d.run); !started {
		return http.StatusServiceUnavailable, Stopping
	}
	return d.await(r.Context(), h.timeLeft(arrived)), ""
}

// isJSON accepts uncompressed application/json, with any parameters.
func isJSON(header http.Header) bool {
	for _, encoding := range header.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(encoding), "identity") && encoding != "" {
			return false
		}
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return media == "application/json" && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter))
}

// receive reads the body. It aborts when the receiver stops, since a slow sender must not delay the shutdown.
func (h *handler) receive(w http.ResponseWriter, r *http.Request, reservation *reservation) ([]byte, error) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(h.deliveries.stopping, func() {
		defer close(interrupted)
		// A writer without support for deadlines has no connection, so there is no sender to wait for.
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			// The writer must not be used after the handler returned.
			<-interrupted
		}
	}()
	return readBody(http.MaxBytesReader(w, r.Body, h.maxBodySize), r.ContentLength, reservation)
}

func (h *handler) readFailed(r *http.Request, err error) (status int, outcome Outcome) {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, errOverloaded):
		return http.StatusServiceUnavailable, Overloaded
	case tooLarge:
		return h.tooLarge(r)
	case h.deliveries.stopping.Err() != nil:
		return http.StatusServiceUnavailable, Stopping
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, Interrupted
	default:
		return http.StatusBadRequest, Interrupted
	}
}

// tooLarge refuses a body over the limit. Microsoft Graph retries it for four hours and then drops it silently, so a log line
// says what to do. The sender is unknown, so the request has no other effect.
func (h *handler) tooLarge(r *http.Request) (status int, outcome Outcome) {
	h.settings.Logger.Warn("notification refused, its body is larger than webhook.max_request_body_size", append(
		failure.New(failure.BodyTooLarge).Fields(),
		zap.Int64("content_length", r.ContentLength), // -1 if unknown
		zap.Int64("limit_bytes", h.maxBodySize))...)
	return http.StatusRequestEntityTooLarge, TooLarge
}

// decode decodes the items with a clientState of ours after it reserved bytes for them, and only counts the others. If there is
// nothing to deliver, it returns a nil collection and the answer.
func (h *handler) decode(
	w http.ResponseWriter, r *http.Request, body []byte, reservation *reservation, arrived time.Time,
) (collection *notification.Collection, status int, outcome Outcome) {
	decoding := h.decodingSmall
	if len(body) > smallReservation {
		decoding = h.decodingLarge
	}
	select {
	case decoding <- struct{}{}:
		defer func() { <-decoding }()
	case <-time.After(h.timeLeft(arrived)):
		return nil, http.StatusServiceUnavailable, Overloaded
	}
	// A sender that disconnects does not revoke what it sent.
	ctx := context.WithoutCancel(r.Context())
	envelope, err := notification.Inspect(body, h.settings.OwnClientState)
	if err != nil {
		return nil, http.StatusBadRequest, Malformed
	}
	if envelope.Foreign > 0 {
		h.settings.Reject(ctx, []notification.Rejection{notification.ForeignItems(envelope.Foreign)})
	}
	if envelope.OwnItems() == 0 {
		return nil, http.StatusAccepted, ""
	}
	keepOpen(w, r)
	needed := int64(len(body)) + envelope.Cost()
	if needed > h.settings.MaxInFlightBytes { // however often it is sent again
		h.settings.Reject(ctx, []notification.Rejection{notification.TooManyItems(envelope.OwnItems())})
		return nil, http.StatusAccepted, ""
	}
	if !reservation.growOwn(needed) {
		return nil, http.StatusServiceUnavailable, Overloaded
	}
	return envelope.Decode(), 0, ""
}

// timeLeft returns how long the answer to a request that arrived at this time may still take.
func (h *handler) timeLeft(arrived time.Time) time.Duration {
	return max(h.settings.AckTimeout-time.Since(arrived), h.settings.AckTimeout/minWaitDivisor)
}

// answer writes the answer to a request, and counts its outcome unless that is empty.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, arrived time.Time, status int, outcome Outcome) {
	if outcome != "" {
		h.settings.Telemetry.Notifications(r.Context(), outcome, 1)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	http.Error(w, http.StatusText(status), status)
	h.settings.Telemetry.Acknowledged(r.Context(), status, time.Since(arrived))
}
