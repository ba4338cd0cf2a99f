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

// defaultMaxBodySize replaces a MaxBodySize of 0 or less, as in confighttp.
const defaultMaxBodySize = 20 << 20

// Settings configure a Handler. All interfaces are required.
type Settings struct {
	// Path is the decoded path of the notification URL. Other paths are answered 404.
	Path string
	// AckTimeout is the time from the arrival of a request after which it is answered, whatever the pipeline does. Microsoft
	// Graph expects an answer within 3 s.
	AckTimeout time.Duration
	// MaxInFlightBytes limits the bytes of all bodies and of what is decoded from them, from their arrival until their
	// delivery ended; each counts at least 4 KiB. MinInFlightBytes returns what a body of MaxBodySize needs.
	MaxInFlightBytes int64
	// MaxBodySize limits the bytes of one body; 0 or less means 20 MiB.
	MaxBodySize int64

	Decrypter  Decrypter
	Intake     Intake
	Lifecycle  Lifecycle
	Rejections Rejections
	Telemetry  Telemetry
	// Logger may be nil. Each message is logged at most a few times a minute, since anybody can cause messages.
	Logger *zap.Logger
}

// Handler answers Microsoft Graph at the notification URL.
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
type Handler struct {
	settings   Settings
	limiter    *ByteLimiter
	deliveries *deliveries
	// misdirected limits the log lines about handshakes at another path, since anybody can send one.
	misdirected rate.Sometimes
	// decodingSmall and decodingLarge are semaphores that hold an element for each body that is being decoded.
	decodingSmall, decodingLarge chan struct{}
	// tooLargeLog limits the log lines about bodies over the limit, since anybody can send one.
	tooLargeLog rate.Sometimes
}

// NewHandler returns a Handler. Call Refuse, then Drain, to shut it down.
func NewHandler(settings Settings) *Handler {
	if settings.Logger == nil {
		settings.Logger = zap.NewNop()
	}
	settings.Logger = settings.Logger.WithOptions(zap.WrapCore(sampled))
	if settings.MaxBodySize <= 0 {
		settings.MaxBodySize = defaultMaxBodySize
	}
	return &Handler{
		settings:      settings,
		limiter:       NewByteLimiter(settings.MaxInFlightBytes, settings.MaxBodySize),
		deliveries:    newDeliveries(),
		decodingSmall: make(chan struct{}, maxDecodingSmall),
		decodingLarge: make(chan struct{}, maxDecodingLarge),
		tooLargeLog:   rate.Sometimes{Interval: time.Minute},
		misdirected:   rate.Sometimes{Interval: misdirectedInterval},
	}
}

// ServeHTTP answers one request. An accepted request is delivered even if its sender disconnects.
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

// Refuse makes the handler answer every notification with 503 and Retry-After, including those whose body is still arriving.
// Handshakes are still answered.
func (h *Handler) Refuse() {
	h.deliveries.stop()
}

// Drain waits until all deliveries have ended. It must be called after Refuse. If ctx ends first, it cancels the deliveries,
// waits up to one more second, and returns an error that wraps the cause of ctx.
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

// accept reads a notification, starts its delivery and returns the answer. Once started, the delivery releases the reservation.
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
	// A sender that disconnects does not revoke what it sent.
	collection, reply := h.decode(context.WithoutCancel(r.Context()), read, reservation, arrived)
	if collection == nil {
		return reply
	}
	d := newDelivery(h.settings, collection, reservation, arrived)
	started = h.deliveries.start(r.Context(), d.run)
	if !started {
		return answer{status: http.StatusServiceUnavailable, outcome: Stopping}
	}
	return answer{status: d.await(r.Context())}
}

// receive reads the body. It aborts when the receiver stops, since a slow sender must not delay the shutdown.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, reservation *Reservation) (*body, error) {
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
	return readBody(r.Body, h.settings.MaxBodySize, reservation)
}

func (h *Handler) answerToReadError(r *http.Request, err error) answer {
	_, tooLong := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, errOverloaded):
		return refuse(http.StatusServiceUnavailable, Overloaded)
	case errors.Is(err, errTooLarge) || tooLong:
		return h.tooLarge(r)
	case h.deliveries.stopping.Err() != nil:
		return refuse(http.StatusServiceUnavailable, Stopping)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, Interrupted)
	default:
		return refuse(http.StatusBadRequest, Interrupted)
	}
}

// tooLarge refuses a body over the limit. Microsoft Graph retries it for four hours and then drops it silently, so a log line
// says what to do. The sender is unknown, so the request has no other effect.
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
				"and webhook.max_in_flight_bytes with it; if these lines continue and no interactions are lost, somebody else sends such bodies"))
	})
	return refuse(http.StatusRequestEntityTooLarge, TooLarge)
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

// retryAfter is the Retry-After of a 503. Its causes end within seconds or not at all, and Microsoft Graph has its own
// back-off: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const retryAfter = 5 * time.Second

// answer is the answer to a request. Its body is only the name of the status, since the sender is not authenticated.
type answer struct {
	status int
	// outcome is empty if the request is not counted or was already counted.
	outcome Outcome
	// closeConn closes the connection after the answer: the body was not read completely or contained nothing authentic, so the
	// sender need not keep a connection.
	closeConn bool
}

// refuse returns the answer to a request whose body was not read completely.
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

// closeAfter closes an HTTP/1 connection after the answer. Otherwise net/http reads the rest of the body before it sends the
// answer, which delays the answer to a slow sender. In HTTP/2 only the stream is reset, and the header would end the other
// streams of the connection.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// The numbers of bodies that are decoded concurrently. Decoding an unauthenticated body takes a few nanoseconds per byte, so the
// queue is short even if such bodies use up MaxInFlightBytes. Bodies of usual size do not wait for large ones.
const (
	maxDecodingSmall = 2
	maxDecodingLarge = 1
)

// decoders returns the semaphore for decoding a body of this length.
func (h *Handler) decoders(length int) chan struct{} {
	if length > smallReservation {
		return h.decodingLarge
	}
	return h.decodingSmall
}

// decode decodes the items with a clientState of ours after it reserved bytes for them, and only counts the others. If there is
// nothing to deliver, it returns a nil collection and the answer.
func (h *Handler) decode(ctx context.Context, read *body, reservation *Reservation, arrived time.Time) (*notification.Collection, answer) {
	defer read.release()
	waiting, cancel := context.WithTimeout(ctx, h.settings.timeLeft(arrived))
	defer cancel()
	decoders := h.decoders(read.length)
	select {
	case decoders <- struct{}{}:
	case <-waiting.Done():
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Overloaded}
	}
	defer func() { <-decoders }()
	ours := h.settings.Decrypter.ClientStates()
	var collection *notification.Collection
	var reply answer
	read.withBytes(func(all []byte) { collection, reply = h.decodeBytes(ctx, all, ours, reservation) })
	return collection, reply
}

func (h *Handler) decodeBytes(
	ctx context.Context, all []byte, ours func([]byte) bool, reservation *Reservation,
) (*notification.Collection, answer) {
	envelope, err := notification.Inspect(all, ours)
	if err != nil {
		return nil, answer{status: http.StatusBadRequest, outcome: Malformed, closeConn: true}
	}
	if envelope.Foreign > 0 {
		h.settings.Rejections.Reject(ctx, []notification.Rejection{notification.ForeignItems(envelope.Foreign)})
	}
	if envelope.OwnItems() == 0 {
		return nil, answer{status: http.StatusAccepted, closeConn: true}
	}
	if !reservation.deliver(int64(len(all)) + envelope.Cost()) {
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Overloaded}
	}
	return envelope.Decode(), answer{}
}
