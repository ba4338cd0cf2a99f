// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// truncatedBody is a body that ends before the announced length.
type truncatedBody struct{}

func (truncatedBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type counts = map[webhook.Outcome]int

func TestHandler_StatusAndOutcome(t *testing.T) {
	t.Parallel()
	deliverReturns := func(err error) func(*harness) {
		return func(h *harness) {
			h.deliver = func(context.Context, []interaction.Received) error { return err }
		}
	}
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	tests := map[string]struct {
		body    string
		setup   func(*harness)
		request func(*http.Request)
		limit   int64
		status  int
		counted counts
	}{
		"an accepted item":                {body: oneItem, status: 202, counted: counts{webhook.Delivered: 1}},
		"two accepted items":              {body: `{"value":[{},{}]}`, status: 202, counted: counts{webhook.Delivered: 2}},
		"a charset":                       {body: oneItem, request: header("Content-Type", "Application/JSON; charset=utf-8"), status: 202, counted: counts{webhook.Delivered: 1}},
		"an invalid media type parameter": {body: oneItem, request: header("Content-Type", "application/json; x"), status: 202, counted: counts{webhook.Delivered: 1}},
		"an identity encoding":            {body: oneItem, request: header("Content-Encoding", "Identity"), status: 202, counted: counts{webhook.Delivered: 1}},
		"an empty collection":             {body: `{"value":[]}`, status: 202, counted: counts{}},
		"refused permanently":             {body: oneItem, setup: deliverReturns(consumererror.NewPermanent(errors.New("no"))), status: 202, counted: counts{webhook.Refused: 1}},
		"refused temporarily":             {body: oneItem, setup: deliverReturns(errors.New("queue is full")), status: 503, counted: counts{webhook.Failed: 1}},
		"unavailable signing keys":        {body: oneItem, setup: decryptFails(errors.New("no keys")), status: 503, counted: counts{webhook.Failed: 1}},
		"too many bytes in flight":        {body: oneItem, limit: webhook.MinReservation - 1, status: 503, counted: counts{webhook.Overloaded: 1}},
		"another path":                    {body: oneItem, request: func(r *http.Request) { r.URL.Path += "/" }, status: 404, counted: counts{}},
		"a path in another case":          {body: oneItem, request: func(r *http.Request) { r.URL.Path = strings.ToUpper(path) }, status: 404, counted: counts{}},
		"another method":                  {request: func(r *http.Request) { r.Method = http.MethodGet }, status: 405, counted: counts{}},
		"a handshake by GET":              {request: func(r *http.Request) { r.Method, r.URL.RawQuery = "GET", "validationToken=a" }, status: 405, counted: counts{}},
		"a query that cannot be decoded":  {body: oneItem, request: func(r *http.Request) { r.URL.RawQuery = "validationToken=%zz" }, status: 400, counted: counts{webhook.Malformed: 1}},
		"another content type":            {body: oneItem, request: header("Content-Type", "text/plain"), status: 415, counted: counts{webhook.Malformed: 1}},
		"no content type":                 {body: oneItem, request: header("Content-Type"), status: 415, counted: counts{webhook.Malformed: 1}},
		"a compressed body":               {body: oneItem, request: header("Content-Encoding", "gzip"), status: 415, counted: counts{webhook.Malformed: 1}},
		"a compressed body, second field": {body: oneItem, request: header("Content-Encoding", "identity", "gzip"), status: 415, counted: counts{webhook.Malformed: 1}},
		"a body at the limit":             {body: padded(mebibyte), limit: 3 * mebibyte, status: 202, counted: counts{webhook.Delivered: 1}},
		"a body over the limit": {
			body: padded(mebibyte + 1), request: func(r *http.Request) { r.ContentLength = -1 },
			status: 413, counted: counts{webhook.TooLarge: 1},
		},
		"a body announced over the limit": {
			request: func(r *http.Request) { r.ContentLength, r.Body = mebibyte+1, io.NopCloser(&unreadBody{}) },
			status:  413, counted: counts{webhook.TooLarge: 1},
		},
		"a body over the limit of the listener": {
			body: oneItem, request: func(r *http.Request) { r.Body = http.MaxBytesReader(nil, r.Body, 5) },
			status: 413, counted: counts{webhook.TooLarge: 1},
		},
		"a truncated body": {
			request: func(r *http.Request) { r.Body = io.NopCloser(truncatedBody{}) },
			status:  400, counted: counts{webhook.Interrupted: 1},
		},
		"not a collection":  {body: `{"hello":1}`, status: 400, counted: counts{webhook.Malformed: 1}},
		"not JSON":          {body: `hello`, status: 400, counted: counts{webhook.Malformed: 1}},
		"no body":           {body: ``, status: 400, counted: counts{webhook.Malformed: 1}},
		"nesting too deep":  {body: `{"value":` + strings.Repeat("[", 100_000), status: 400, counted: counts{webhook.Malformed: 1}},
		"nothing authentic": {body: oneItem, setup: decryptsTo(notification.Decrypted{}), status: 202, counted: counts{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness()
			if test.setup != nil {
				test.setup(h)
			}
			settings := h.settings()
			settings.Config.MaxRequestBodySize = mebibyte
			if test.limit != 0 {
				settings.MaxInFlightBytes = test.limit
			}
			handler := webhook.NewHandler(settings)
			r := notify(t.Context(), test.body)
			if test.request != nil {
				test.request(r)
			}

			answer := answerTo(handler, r)

			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, test.counted, h.counted())
			assert.Equal(t, map[int]int{test.status: 1}, h.statuses)
			assert.Zero(t, handler.InFlightBytes())
			assertPlain(t, answer)
		})
	}
}

func TestHandler_DefaultBodyLimitIs20MiB(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{0, -1} {
		settings := newHarness().settings()
		settings.Config.MaxRequestBodySize = limit
		handler := webhook.NewHandler(settings)
		r := notify(t.Context(), oneItem)
		assert.Equal(t, http.StatusAccepted, answerTo(handler, r).StatusCode)
		r = notify(t.Context(), oneItem)
		r.ContentLength, r.Body = 20*mebibyte+1, io.NopCloser(&unreadBody{})
		assert.Equal(t, http.StatusRequestEntityTooLarge, answerTo(handler, r).StatusCode)
	}
}

// assertPlain checks what is the same for all answers with a status.
func assertPlain(t *testing.T, answer *http.Response) {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusText(answer.StatusCode)+"\n", string(body), "no details for unauthenticated senders")
	assert.Equal(t, "text/plain; charset=utf-8", answer.Header.Get("Content-Type"))
	retryAfter, allow := "", ""
	switch answer.StatusCode {
	case http.StatusServiceUnavailable:
		retryAfter = "5"
	case http.StatusMethodNotAllowed:
		allow = http.MethodPost
	}
	assert.Equal(t, retryAfter, answer.Header.Get("Retry-After"))
	assert.Equal(t, allow, answer.Header.Get("Allow"))
}

func TestHandler_ClosesUnauthenticatedConnection(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		request func() *http.Request
		major   int
		want    string
	}{
		"a body that is not read closes it": {
			request: func() *http.Request {
				return httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &unreadBody{})
			},
			major: 1, want: "close",
		},
		"in HTTP/2 only the stream ends": {
			request: func() *http.Request {
				return httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &unreadBody{})
			},
			major: 2,
		},
		"a body that is not a collection closes it": {
			request: func() *http.Request { return notify(t.Context(), "[]") }, major: 1, want: "close",
		},
		"an empty collection closes it": {
			request: func() *http.Request { return notify(t.Context(), `{"value":[]}`) }, major: 1, want: "close",
		},
		"a handshake, which anybody can send, closes it": {
			request: func() *http.Request {
				return httptest.NewRequestWithContext(t.Context(), http.MethodPost, path+"?validationToken=abc", http.NoBody)
			},
			major: 1, want: "close",
		},
		"an authentic notification keeps it open": {
			request: func() *http.Request { return notify(t.Context(), oneItem) }, major: 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := test.request()
			r.ProtoMajor = test.major
			assert.Equal(t, test.want, answerTo(newHarness().handler(), r).Header.Get("Connection"))
		})
	}
}

// padded returns a notification with one item and a length of length bytes.
func padded(length int) string {
	return oneItem + strings.Repeat(" ", length-len(oneItem))
}

func decryptFails(err error) func(*harness) {
	return func(h *harness) {
		h.decrypt = func(context.Context, *notification.Collection) (notification.Decrypted, error) {
			return notification.Decrypted{}, err
		}
	}
}

func decryptsTo(decrypted notification.Decrypted) func(*harness) {
	return func(h *harness) {
		h.decrypt = func(context.Context, *notification.Collection) (notification.Decrypted, error) { return decrypted, nil }
	}
}

// sender is a request whose body arrives in chunks.
type sender struct {
	body   *io.PipeWriter
	answer chan *http.Response
}

// send starts a request with this Content-Length, -1 for none.
func send(t *testing.T, handler http.Handler, length int64) *sender {
	t.Helper()
	reader, writer := io.Pipe()
	s := &sender{body: writer, answer: make(chan *http.Response, 1)}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, reader)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = length
	go func() {
		s.answer <- answerTo(handler, r)
		// Like net/http after the handler returned: writes of the sender fail.
		_ = reader.Close()
	}()
	return s
}

func (s *sender) write(t *testing.T, chunk string) {
	t.Helper()
	_, err := io.WriteString(s.body, chunk)
	require.NoError(t, err)
}

// decodedItemCost is the number of bytes reserved for a decoded item in addition to its size.
const decodedItemCost = 1024

func TestHandler_ReservesOnlyReceivedBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		handler := h.handler()
		slow := send(t, handler, 10*mebibyte)
		synctest.Wait()
		assert.EqualValues(t, webhook.MinReservation, handler.InFlightBytes(), "a header reserves nothing")

		body := padded(100_000)
		slow.write(t, body[:10])
		synctest.Wait()
		assert.EqualValues(t, webhook.MinReservation, handler.InFlightBytes())
		for sent := 10; sent < len(body); sent += 9_999 {
			slow.write(t, body[sent:min(sent+9_999, len(body))])
			synctest.Wait()
			assert.EqualValues(t, max(webhook.MinReservation, min(sent+9_999, len(body))), handler.InFlightBytes())
		}
		require.NoError(t, slow.body.Close())

		assert.Equal(t, http.StatusAccepted, (<-slow.answer).StatusCode)
		assert.Zero(t, handler.InFlightBytes())
	})
}

func TestHandler_RefusesImmediatelyWhenOverloaded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		unblock := h.blockDeliver(nil)
		settings := h.settings()
		settings.MaxInFlightBytes = 4 * mebibyte
		handler := webhook.NewHandler(settings)

		start := time.Now()
		var blocked []*sender
		for range 3 {
			one := send(t, handler, -1)
			one.write(t, padded(mebibyte))
			require.NoError(t, one.body.Close())
			blocked = append(blocked, one)
			synctest.Wait()
		}
		growing := send(t, handler, -1)
		growing.write(t, padded(50_000))
		synctest.Wait()

		_, err := io.WriteString(growing.body, padded(2*mebibyte))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the rest is not read")
		refused := <-growing.answer

		assert.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
		assert.Equal(t, "5", refused.Header.Get("Retry-After"))
		assert.Equal(t, "close", refused.Header.Get("Connection"))
		assert.Zero(t, time.Since(start), "without waiting")
		assert.EqualValues(t, 3*(mebibyte+decodedItemCost), handler.InFlightBytes(), "a refused request holds nothing")
		assert.Equal(t, counts{webhook.Overloaded: 1}, h.counted())

		unblock()
		for _, one := range blocked {
			assert.Equal(t, http.StatusAccepted, (<-one.answer).StatusCode)
		}
		assert.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), padded(2*mebibyte))).StatusCode, "all bytes were released")
	})
}

func TestHandler_LimitsNumberOfSmallBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		unblock := h.blockDeliver(nil)
		settings := h.settings()
		settings.MaxInFlightBytes = 10 * webhook.MinReservation
		handler := webhook.NewHandler(settings)
		statuses := map[int]int{}
		var answers []chan *http.Response
		for range 15 {
			s := send(t, handler, -1)
			answers = append(answers, s.answer)
			_, _ = io.WriteString(s.body, oneItem)
			_ = s.body.Close()
		}
		synctest.Wait()
		unblock()
		for _, answer := range answers {
			statuses[(<-answer).StatusCode]++
		}
		assert.Equal(t, map[int]int{http.StatusAccepted: 10, http.StatusServiceUnavailable: 5}, statuses)
	})
}

// The body takes longer than the timeout to arrive. Its delivery still gets a tenth of the timeout, so that the sender can be
// told of a success.
func TestHandler_DeliversBodyThatArrivesLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pipeline time.Duration
		status   int
		answered time.Duration
	}{
		"a fast pipeline accepts it": {100 * time.Millisecond, http.StatusAccepted, 5100 * time.Millisecond},
		"a slow pipeline times out":  {time.Second, http.StatusServiceUnavailable, 5250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.slowDeliver(test.pipeline)
				start := time.Now()
				slow := send(t, h.handler(), -1)
				time.Sleep(5 * time.Second)
				slow.write(t, oneItem)
				require.NoError(t, slow.body.Close())

				assert.Equal(t, test.status, (<-slow.answer).StatusCode)
				assert.Equal(t, test.answered, time.Since(start))
				time.Sleep(time.Minute)
				assert.Contains(t, h.calls(), call("deliver"))
			})
		})
	}
}

// Microsoft Graph would send it again for four hours in vain.
func TestHandler_RejectsOwnItemsThatNeverFit(t *testing.T) {
	t.Parallel()
	for state, rejected := range map[string][]notification.Rejection{
		"ours": {notification.TooManyItems(1)}, "theirs": {notification.ForeignItems(1)}, // which need no bytes
	} {
		h := newHarness()
		h.ours = isOurs
		settings := h.settings()
		settings.MaxInFlightBytes = webhook.MinReservation
		body := `{"value":[{"clientState":"` + state + `"}]}`
		body += strings.Repeat(" ", webhook.MinReservation-len(body))
		handler := webhook.NewHandler(settings)
		assert.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), body)).StatusCode)
		assert.Equal(t, rejected, h.rejected)
		assert.Zero(t, handler.InFlightBytes())
	}
}

func isOurs(state []byte) bool { return string(state) == "ours" }

func TestHandler_DecryptsOnlyOwnItems(t *testing.T) {
	t.Parallel()
	h := newHarness()
	h.ours = isOurs
	answer := answerTo(h.handler(), notify(t.Context(), `{"value":[{},{"clientState":"ours"},{"clientState":"x"},7]}`))
	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assert.Equal(t, []call{"reject client_state", "decrypt", "deliver"}, h.calls())
	assert.Equal(t, []notification.Rejection{notification.ForeignItems(3)}, h.rejected)
	assert.Equal(t, counts{webhook.Delivered: 1}, h.counted())
}

func TestHandler_AnswersForeignItemsLikeOthers(t *testing.T) {
	t.Parallel()
	h := newHarness()
	h.ours = isOurs
	handler := h.handler()
	answer := answerTo(handler, notify(t.Context(), `{"value":[{},{}]}`))
	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assertPlain(t, answer)
	assert.Equal(t, []call{"reject client_state"}, h.calls(), "one call for all items, and nothing is decrypted")
	assert.Zero(t, handler.InFlightBytes())
}

// Decoding and keeping each of 60 KB of empty items took 38 MB. The test is not parallel, since it measures the allocations of
// the process.
func TestHandler_AllocatesLittleForForeignItems(t *testing.T) {
	h := newHarness()
	h.ours = isOurs
	decryptsTo(notification.Decrypted{})(h)
	handler := h.handler()
	body := `{"value":[` + strings.TrimSuffix(strings.Repeat("{},", 19_999), ",") + `]}`
	const posts = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range posts {
		require.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), body)).StatusCode)
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, (after.TotalAlloc-before.TotalAlloc)/posts, uint64(mebibyte))
}

// Bytes for decoded items are reserved before decoding, so that MaxInFlightBytes limits them too.
func TestHandler_ReservesBytesForDecoding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.ours = isOurs
		unblock := h.blockDeliver(nil)
		settings := h.settings()
		settings.MaxInFlightBytes = 2 * mebibyte
		handler := webhook.NewHandler(settings)
		items := func(n int) string {
			return `{"value":[` + strings.TrimSuffix(strings.Repeat(`{"clientState":"ours"},{},`, n), ",") + `]}`
		}
		body := items(1000)
		blocked := send(t, handler, -1)
		blocked.write(t, body)
		require.NoError(t, blocked.body.Close())
		synctest.Wait()
		assert.EqualValues(t, len(body)+1000*decodedItemCost, handler.InFlightBytes())

		answer := answerTo(handler, notify(t.Context(), items(1100)))
		assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
		assert.Equal(t, counts{webhook.Overloaded: 1}, h.counted())
		assert.EqualValues(t, len(body)+1000*decodedItemCost, handler.InFlightBytes())
		unblock()
		<-blocked.answer
		assert.Zero(t, handler.InFlightBytes())
	})
}

// The largest allowed body is accepted with the smallest allowed limit.
func TestMinInFlightBytes_FitsLargestBody(t *testing.T) {
	t.Parallel()
	for _, size := range []int{len(oneItem), 100, 4096, 30 << 10, 64 << 10, 100_000, mebibyte, 20 * mebibyte} {
		body := padded(max(size, len(oneItem)))
		settings := newHarness().settings()
		settings.Config.MaxRequestBodySize = int64(len(body))
		settings.MaxInFlightBytes = webhook.MinInFlightBytes(settings.Config.MaxRequestBodySize)
		assert.Equal(t, http.StatusAccepted, answerTo(webhook.NewHandler(settings), notify(t.Context(), body)).StatusCode, "%d bytes", len(body))
	}
	assert.Positive(t, webhook.MinInFlightBytes(1<<63-1))
}

// Bodies that wait for decoding are answered within the timeout, and bodies of usual size do not wait for large ones.
func TestHandler_LimitsConcurrentDecoding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		var decoding, most atomic.Int32
		release := make(chan struct{})
		h.ours = func([]byte) bool {
			most.Store(max(most.Load(), decoding.Add(1)))
			<-release
			decoding.Add(-1)
			return false
		}
		handler := h.handler()
		start := time.Now()
		answers := map[int]int{}
		var senders []*sender
		for i := range 20 {
			s := send(t, handler, -1)
			senders = append(senders, s)
			s.write(t, padded([]int{len(oneItem), 100_000}[i%2]))
			require.NoError(t, s.body.Close())
			synctest.Wait()
		}
		assert.EqualValues(t, 3, most.Load(), "two small bodies and a large one")
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		close(release)
		for _, s := range senders {
			answers[(<-s.answer).StatusCode]++
		}
		assert.Equal(t, map[int]int{http.StatusAccepted: 3, http.StatusServiceUnavailable: 17}, answers)
		assert.Equal(t, 2500*time.Millisecond, time.Since(start))
		assert.Equal(t, counts{webhook.Overloaded: 17}, h.counted())
		assert.Zero(t, handler.InFlightBytes())
	})
}

// Microsoft Graph drops such a notification silently, so the log says what to do. Unauthenticated senders cannot fill the log.
func TestHandler_LogsBodyOverLimitOnceAMinute(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		announced int64
	}{
		"an announced size": {mebibyte + 7},
		"no announced size": {-1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				settings := h.settings()
				core, lines := observer.New(zap.DebugLevel)
				settings.Logger, settings.Config.MaxRequestBodySize = zap.New(core), mebibyte
				handler := webhook.NewHandler(settings)
				post := func() {
					r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(make([]byte, mebibyte+7)))
					r.Header.Set("Content-Type", "application/json")
					r.ContentLength = test.announced
					assert.Equal(t, http.StatusRequestEntityTooLarge, answerTo(handler, r).StatusCode)
				}
				post()
				time.Sleep(59 * time.Second)
				post()
				require.Equal(t, 1, lines.Len())
				time.Sleep(time.Second)
				post()
				require.Equal(t, 2, lines.Len())
				line := lines.All()[0]
				assert.Equal(t, zap.WarnLevel, line.Level)
				assert.Contains(t, line.Message, "webhook.max_request_body_size")
				fields := line.ContextMap()
				assert.Equal(t, test.announced, fields["content_length"])
				assert.EqualValues(t, mebibyte, fields["limit_bytes"])
				assert.Contains(t, fields["hint"], "raise webhook.max_request_body_size")
				assert.Equal(t, counts{webhook.TooLarge: 3}, h.counted())
				assert.Empty(t, h.calls(), "no gap is opened, since the sender is unknown")
			})
		})
	}
}

func TestHandler_PanicCostsOneDelivery(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*harness){
		"during decryption": func(h *harness) {
			h.decrypt = func(context.Context, *notification.Collection) (notification.Decrypted, error) { panic("a text") }
		},
		"during delivery": func(h *harness) {
			h.deliver = func(context.Context, []interaction.Received) error { panic("a text") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness()
			setup(h)
			core, lines := observer.New(zapcore.WarnLevel)
			settings := h.settings()
			settings.Logger = zap.New(core)
			handler := webhook.NewHandler(settings)

			answer := answerTo(handler, notify(t.Context(), oneItem))

			assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
			assert.Equal(t, counts{webhook.Failed: 1}, h.counted())
			assert.Zero(t, handler.InFlightBytes())
			require.Equal(t, 1, lines.Len())
			line := lines.All()[0]
			assert.Equal(t, zapcore.ErrorLevel, line.Level)
			assert.Contains(t, line.ContextMap()["stack"], "PanicCostsOneDelivery")
			assert.Equal(t, "panic: a value of type string", line.ContextMap()["error"])
			for range 20 {
				answerTo(handler, notify(t.Context(), oneItem))
			}
			assert.LessOrEqual(t, lines.Len(), 10, "stacks are long, and senders can cause any number")
			handler.Refuse()
			require.NoError(t, handler.Drain(t.Context()))
		})
	}
}

func TestHandler_AnswersUnavailableAfterRefuse(t *testing.T) {
	t.Parallel()
	h := newHarness()
	handler := h.handler()
	handler.Refuse()
	handler.Refuse()

	body := &unreadBody{}
	r := notify(t.Context(), "")
	r.Body = io.NopCloser(body)
	answer := answerTo(handler, r)

	assert.False(t, body.read)
	assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	assert.Equal(t, "5", answer.Header.Get("Retry-After"))
	assert.Equal(t, counts{webhook.Stopping: 1}, h.counted())
	assert.Empty(t, h.calls())
	require.NoError(t, handler.Drain(t.Context()))
	require.NoError(t, handler.Drain(t.Context()), "a second call returns too")
}

func TestHandler_DoesNotDeliverBodyArrivingDuringRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		handler := h.handler()
		slow := send(t, handler, -1)
		slow.write(t, oneItem[:10])
		synctest.Wait()
		handler.Refuse()
		slow.write(t, oneItem[10:])
		require.NoError(t, slow.body.Close())

		assert.Equal(t, http.StatusServiceUnavailable, (<-slow.answer).StatusCode)
		assert.Equal(t, counts{webhook.Stopping: 1}, h.counted())
		assert.Zero(t, handler.InFlightBytes())
	})
}

func TestHandler_DrainWaitsForTimedOutDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.slowDeliver(10 * time.Second)
		handler := h.handler()
		start := time.Now()
		assert.Equal(t, http.StatusServiceUnavailable, answerTo(handler, notify(t.Context(), oneItem)).StatusCode)

		handler.Refuse()
		require.NoError(t, handler.Drain(t.Context()))

		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.Equal(t, counts{webhook.TimedOut: 1, webhook.DeliveredLate: 1}, h.counted())
	})
}

func TestHandler_DrainCancelsDeliveriesWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.blockDeliver(nil)
		handler := h.handler()
		running := send(t, handler, -1)
		running.write(t, oneItem)
		require.NoError(t, running.body.Close())
		synctest.Wait()

		handler.Refuse()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := handler.Drain(ctx)

		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "deliveries were canceled")
		assert.Equal(t, time.Second, time.Since(start))
		assert.Equal(t, http.StatusServiceUnavailable, (<-running.answer).StatusCode)
		assert.Equal(t, counts{webhook.Failed: 1}, h.counted())
		assert.Zero(t, handler.InFlightBytes())
		require.NoError(t, handler.Drain(ctx), "nothing is left to wait for")
	})
}

func TestHandler_DrainReturnsWhenPipelineIgnoresCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.slowDeliver(time.Hour)
		handler := h.handler()
		answerTo(handler, notify(t.Context(), oneItem))
		handler.Refuse()
		start := time.Now()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(http.ErrServerClosed)

		require.ErrorIs(t, handler.Drain(ctx), http.ErrServerClosed)
		assert.Equal(t, time.Second, time.Since(start))

		time.Sleep(time.Hour)
		require.NoError(t, handler.Drain(ctx), "the pipeline has returned")
	})
}

func TestHandler_DrainLetsDeliveriesFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		var ended error
		h.deliver = func(ctx context.Context, _ []interaction.Received) error {
			time.Sleep(time.Second)
			ended = ctx.Err()
			return nil
		}
		handler := h.handler()
		running := send(t, handler, -1)
		running.write(t, oneItem)
		require.NoError(t, running.body.Close())
		synctest.Wait()
		handler.Refuse()
		require.NoError(t, handler.Drain(t.Context()))

		require.NoError(t, ended)
		assert.Equal(t, http.StatusAccepted, (<-running.answer).StatusCode)
	})
}
