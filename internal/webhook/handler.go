package webhook

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// defaultMaxBodySize is what a MaxBodySize of 0 or less means, as in confighttp.
const defaultMaxBodySize = 20 << 20

// Settings are what a Handler needs. All interfaces are required.
type Settings struct {
	// Path is the URL path of the notification URL; the path of a request must equal it, decoded.
	Path string
	// AckTimeout is how long after its arrival a request is answered, whatever the pipeline does. Microsoft Graph
	// expects an answer within 3 s.
	AckTimeout time.Duration
	// MaxInFlightBytes bounds the bytes of all bodies, and of what is decoded of them, from their arrival until their
	// delivery ended, with at least 4 KiB for each. LeastInFlightBytes says what a body of MaxBodySize needs.
	MaxInFlightBytes int64
	// MaxBodySize bounds the bytes of one body; 0 or less means 20 MiB.
	MaxBodySize int64

	Decrypter  Decrypter
	Intake     Intake
	Lifecycle  Lifecycle
	Rejections Rejections
	Telemetry  Telemetry
	// Overloaded is told of each notification that was turned away because there was no room for it, where that is the
	// pipeline's doing: it had a clientState of ours, or it was not read and deliveries held at least half of
	// MaxInFlightBytes. A flood of what is not authentic is not told of. It must not block. It may be nil.
	Overloaded func(at time.Time)
	// Logger may be nil. Senders decide how often something is logged, so each message is logged a few times a minute at most.
	Logger *zap.Logger
}

// Handler answers Microsoft Graph at the notification URL.
//
//	handshake           200, or 400 for an empty or overlong token
//	another path        404
//	another method      405
//	not JSON            415, as are compressed bodies
//	too long            413
//	not a collection    400, as is a query that cannot be decoded
//	incomplete          408 after read_timeout, 400 when the sender broke off
//	decided             202: delivered, rejected or refused for good
//	not now             503 with Retry-After
type Handler struct {
	settings   Settings
	limiter    *ByteLimiter
	deliveries *deliveries
	// misdirected limits the lines about handshakes at another path, since anybody can send one.
	misdirected rate.Sometimes
	// decodingSmall and decodingLarge hold an element for each body that is being decoded.
	decodingSmall, decodingLarge chan struct{}
	// tooLargeLog limits log lines about bodies over the limit, which strangers can send as often as they like.
	tooLargeLog rate.Sometimes
}

// NewHandler returns a Handler. Refuse and Drain end it.
func NewHandler(settings Settings) *Handler {
	if settings.Overloaded == nil {
		settings.Overloaded = func(time.Time) {}
	}
	if settings.Logger == nil {
		settings.Logger = zap.NewNop()
	}
	settings.Logger = settings.Logger.WithOptions(zap.WrapCore(sampled))
	if settings.MaxBodySize <= 0 {
		settings.MaxBodySize = defaultMaxBodySize
	}
	return &Handler{
		settings:      settings,
		limiter:       NewByteLimiter(settings.MaxInFlightBytes),
		deliveries:    newDeliveries(),
		decodingSmall: make(chan struct{}, maxDecodingSmall),
		decodingLarge: make(chan struct{}, maxDecodingLarge),
		tooLargeLog:   rate.Sometimes{Interval: time.Minute},
		misdirected:   rate.Sometimes{Interval: misdirectedInterval},
	}
}

// ServeHTTP answers one request. A request that was taken in is delivered even if its sender does not wait for it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	status := h.route(r)
	if status == http.StatusNotFound && isHandshake(r) {
		h.misdirected.Do(func() { h.warnMisdirected(r.URL.Path) })
	}
	if status != 0 {
		h.respond(w, r, refuse(status, ""), arrived)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		h.respond(w, r, refuse(http.StatusBadRequest, Malformed), arrived)
	case query.Has(tokenParameter):
		closeAfter(w, r)
		h.settings.Telemetry.Handshake(r.Context(), echo(w, query))
	default:
		h.respond(w, r, h.accept(w, r, arrived), arrived)
	}
}

// Refuse makes every notification from now on be answered 503 with Retry-After, those whose body is still arriving
// included. Handshakes are still answered.
func (h *Handler) Refuse() {
	h.deliveries.stop()
}

// Drain waits until the deliveries under way have ended; Refuse comes first. When ctx ends before that it cancels them,
// waits a second more, and returns an error that wraps the cause of ctx.
func (h *Handler) Drain(ctx context.Context) error {
	return h.deliveries.wait(ctx)
}

func (h *Handler) route(r *http.Request) (status int) {
	switch {
	case r.URL.Path != h.settings.Path:
		return http.StatusNotFound
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed
	default:
		return 0
	}
}

func (h *Handler) respond(w http.ResponseWriter, r *http.Request, a answer, arrived time.Time) {
	if a.outcome != "" {
		h.settings.Telemetry.Notifications(r.Context(), a.outcome, 1)
	}
	a.write(w, r)
	h.settings.Telemetry.Acknowledged(r.Context(), a.status, time.Since(arrived))
}

// accept reads a notification, hands it to a delivery, and returns the answer. The share is the delivery's from the moment
// that it starts.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, arrived time.Time) answer {
	if h.deliveries.stopping.Err() != nil {
		return refuse(http.StatusServiceUnavailable, Stopping)
	}
	if !isJSON(r.Header) {
		return refuse(http.StatusUnsupportedMediaType, Malformed)
	}
	if r.ContentLength > h.settings.MaxBodySize {
		return h.tooLarge(r)
	}
	reservation, ok := h.limiter.Reserve()
	if !ok {
		h.overloaded(arrived)
		return refuse(http.StatusServiceUnavailable, Overloaded)
	}
	started := false
	defer func() {
		if !started {
			reservation.Release()
		}
	}()
	read, err := h.receive(w, r, reservation)
	if err != nil {
		return h.answerToReadError(r, err)
	}
	// A sender that does not wait for its answer has not taken back what it sent.
	collection, instead := h.decode(context.WithoutCancel(r.Context()), read, reservation, arrived)
	if collection == nil {
		return instead
	}
	d := newDelivery(h.settings, collection, reservation, arrived)
	started = h.deliveries.start(r.Context(), d.run)
	if !started {
		return answer{status: http.StatusServiceUnavailable, outcome: Stopping}
	}
	return answer{status: d.await(r.Context())}
}

// receive reads the body, and gives up when the receiver stops: a slow sender must not hold the shutdown up.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, reservation *Reservation) (*body, error) {
	interrupted := make(chan struct{})
	unhook := context.AfterFunc(h.deliveries.stopping, func() {
		defer close(interrupted)
		// A writer that knows no deadline has no connection behind it, and no sender to wait for.
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !unhook() {
			// The writer must not be used once the handler has returned.
			<-interrupted
		}
	}()
	return readBody(r.Body, h.settings.MaxBodySize, reservation)
}

func (h *Handler) answerToReadError(r *http.Request, err error) answer {
	_, overLimit := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, errOverloaded):
		h.overloaded(time.Now())
		return refuse(http.StatusServiceUnavailable, Overloaded)
	case errors.Is(err, errTooLarge) || overLimit:
		return h.tooLarge(r)
	case h.deliveries.stopping.Err() != nil:
		return refuse(http.StatusServiceUnavailable, Stopping)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, Interrupted)
	default:
		return refuse(http.StatusBadRequest, Interrupted)
	}
}

// tooLarge refuses a body over the limit. Microsoft Graph sends it again for four hours and then gives up without a word,
// so the log says what to do. Nobody knows who sent it, so nothing else may follow from it.
func (h *Handler) tooLarge(r *http.Request) answer {
	h.tooLargeLog.Do(func() {
		limit := strconv.FormatInt(h.settings.MaxBodySize, 10)
		size := "more than " + limit
		if r.ContentLength > h.settings.MaxBodySize {
			size = strconv.FormatInt(r.ContentLength, 10)
		}
		h.settings.Logger.Warn("notification refused, its body is larger than webhook.max_request_body_size",
			zap.String("size_bytes", size), zap.Int64("limit_bytes", h.settings.MaxBodySize),
			zap.String("hint", "if Microsoft Graph sent it, it is lost after 4 hours of retries: raise webhook.max_request_body_size, "+
				"and webhook.max_in_flight_bytes with it; if these lines go on without lost interactions, somebody else sends them"))
	})
	return refuse(http.StatusRequestEntityTooLarge, TooLarge)
}

// overloaded notes that a request was turned away unread.
func (h *Handler) overloaded(at time.Time) {
	if h.limiter.mostlyDelivering() {
		h.settings.Overloaded(at)
	}
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

// retryAfter is what a 503 asks for. The causes pass within seconds or not at all, and Microsoft Graph backs off by
// itself: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const retryAfter = 5 * time.Second

// answer is what a request is told. Its body is the name of the status and nothing more: the sender is not known yet.
type answer struct {
	status int
	// outcome is empty where the request is not counted, or has been.
	outcome Outcome
	// closeConn: the request's body was not read to its end, or nothing in it was authentic. Whoever sent it need not hold a
	// connection.
	closeConn bool
}

// refuse is the answer to a request of which the body was not read, or not in full.
func refuse(status int, outcome Outcome) answer {
	return answer{status: status, outcome: outcome, closeConn: true}
}

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	switch a.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	}
	if a.closeConn {
		closeAfter(w, r)
	}
	http.Error(w, http.StatusText(a.status), a.status)
}

// closeAfter makes an HTTP/1 connection end with the answer. Without it net/http also reads the rest of a body before it
// sends the answer, so a slow sender would wait for it. In HTTP/2 the stream alone is reset, and the header would end the
// other streams of the connection.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// How many bodies are decoded at once. Those of strangers are gone after a few nanoseconds for each of their bytes, so the
// queue is short even if they fill all the room there is; and those of usual size do not wait for large ones.
const (
	maxDecodingSmall = 2
	maxDecodingLarge = 1
)

// decoders returns where an element is held while a body of this length is decoded.
func (h *Handler) decoders(length int) chan struct{} {
	if length > smallReservation {
		return h.decodingLarge
	}
	return h.decodingSmall
}

// decode reads the items that are ours, and charges the share for them before it makes them. What belongs to strangers is
// counted and leaves nothing. The collection is nil where there is nothing to deliver, and then there is the answer.
func (h *Handler) decode(ctx context.Context, read *body, reservation *Reservation, arrived time.Time) (*notification.Collection, answer) {
	defer read.release()
	waiting, cancel := context.WithTimeout(ctx, h.settings.timeLeft(arrived))
	defer cancel()
	ours, err := h.settings.Decrypter.ClientStates(waiting)
	if err != nil {
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Failed}
	}
	decoders := h.decoders(read.length)
	select {
	case decoders <- struct{}{}:
	case <-waiting.Done():
		h.overloaded(arrived)
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Overloaded}
	}
	defer func() { <-decoders }()
	var collection *notification.Collection
	var instead answer
	read.withBytes(func(all []byte) { collection, instead = h.decodeBytes(ctx, all, ours, reservation, arrived) })
	return collection, instead
}

func (h *Handler) decodeBytes(
	ctx context.Context, all []byte, ours func([]byte) bool, reservation *Reservation, arrived time.Time,
) (*notification.Collection, answer) {
	envelope, err := notification.Inspect(all, ours)
	if err != nil {
		if limit, ok := errors.AsType[*notification.LimitError](err); ok {
			h.settings.Rejections.Reject(ctx, limit.Rejected)
		}
		return nil, answer{status: http.StatusBadRequest, outcome: Malformed, closeConn: true}
	}
	if envelope.Foreign > 0 {
		h.settings.Rejections.Reject(ctx, []notification.Rejection{notification.ForeignItems(envelope.Foreign)})
	}
	if envelope.OwnItems() == 0 {
		return nil, answer{status: http.StatusAccepted, closeConn: true}
	}
	if !reservation.deliver(int64(len(all)) + envelope.Cost()) {
		h.settings.Overloaded(arrived)
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Overloaded}
	}
	return envelope.Decode(), answer{}
}
