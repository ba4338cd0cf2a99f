package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// broken is a body that ends before its sender said so.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type counts = map[webhook.Outcome]int

func TestAnswers(t *testing.T) {
	t.Parallel()
	takes := func(err error) func(*harness) {
		return func(h *harness) {
			h.take = func(context.Context, []interaction.Received) error { return err }
		}
	}
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	tests := map[string]struct {
		body    string
		around  func(*harness)
		request func(*http.Request)
		limit   int64
		status  int
		counted counts
	}{
		"delivered":                       {body: oneItem, status: 202, counted: counts{webhook.Delivered: 1}},
		"delivered, two items":            {body: `{"value":[{},{}]}`, status: 202, counted: counts{webhook.Delivered: 2}},
		"a charset is fine":               {body: oneItem, request: header("Content-Type", "Application/JSON; charset=utf-8"), status: 202, counted: counts{webhook.Delivered: 1}},
		"a broken parameter is forgiven":  {body: oneItem, request: header("Content-Type", "application/json; x"), status: 202, counted: counts{webhook.Delivered: 1}},
		"an identity encoding is none":    {body: oneItem, request: header("Content-Encoding", "Identity"), status: 202, counted: counts{webhook.Delivered: 1}},
		"an empty collection":             {body: `{"value":[]}`, status: 202, counted: counts{}},
		"refused for good":                {body: oneItem, around: takes(consumererror.NewPermanent(errors.New("no"))), status: 202, counted: counts{webhook.Refused: 1}},
		"refused for now":                 {body: oneItem, around: takes(errors.New("queue is full")), status: 503, counted: counts{webhook.Failed: 1}},
		"keys that cannot be had":         {body: oneItem, around: opens(notification.ErrKeysUnavailable), status: 503, counted: counts{webhook.Failed: 1}},
		"too many bytes under way":        {body: oneItem, limit: minimumShare - 1, status: 503, counted: counts{webhook.Overloaded: 1}},
		"another path":                    {body: oneItem, request: func(r *http.Request) { r.URL.Path += "/" }, status: 404, counted: counts{}},
		"a path in another case":          {body: oneItem, request: func(r *http.Request) { r.URL.Path = strings.ToUpper(path) }, status: 404, counted: counts{}},
		"another method":                  {request: func(r *http.Request) { r.Method = http.MethodGet }, status: 405, counted: counts{}},
		"a handshake by GET":              {request: func(r *http.Request) { r.Method, r.URL.RawQuery = "GET", "validationToken=a" }, status: 405, counted: counts{}},
		"a query that cannot be decoded":  {body: oneItem, request: func(r *http.Request) { r.URL.RawQuery = "validationToken=%zz" }, status: 400, counted: counts{webhook.Malformed: 1}},
		"another content type":            {body: oneItem, request: header("Content-Type", "text/plain"), status: 415, counted: counts{webhook.Malformed: 1}},
		"no content type":                 {body: oneItem, request: header("Content-Type"), status: 415, counted: counts{webhook.Malformed: 1}},
		"a compressed body":               {body: oneItem, request: header("Content-Encoding", "gzip"), status: 415, counted: counts{webhook.Malformed: 1}},
		"a compressed body, second field": {body: oneItem, request: header("Content-Encoding", "identity", "gzip"), status: 415, counted: counts{webhook.Malformed: 1}},
		"a body at the limit":             {body: padded(megabytes), limit: 3 * megabytes, status: 202, counted: counts{webhook.Delivered: 1}},
		"a body over the limit": {
			body: padded(megabytes + 1), request: func(r *http.Request) { r.ContentLength = -1 },
			status: 413, counted: counts{webhook.TooLarge: 1},
		},
		"a body announced over the limit": {
			request: func(r *http.Request) { r.ContentLength, r.Body = megabytes+1, io.NopCloser(&untouched{}) },
			status:  413, counted: counts{webhook.TooLarge: 1},
		},
		"a body that the listener finds too long": {
			body: oneItem, request: func(r *http.Request) { r.Body = http.MaxBytesReader(nil, r.Body, 5) },
			status: 413, counted: counts{webhook.TooLarge: 1},
		},
		"a body that breaks off": {
			request: func(r *http.Request) { r.Body = io.NopCloser(broken{}) },
			status:  400, counted: counts{webhook.Interrupted: 1},
		},
		"not a collection":  {body: `{"hello":1}`, status: 400, counted: counts{webhook.Malformed: 1}},
		"not JSON":          {body: `hello`, status: 400, counted: counts{webhook.Malformed: 1}},
		"no body":           {body: ``, status: 400, counted: counts{webhook.Malformed: 1}},
		"nesting too deep":  {body: `{"value":` + strings.Repeat("[", 100_000), status: 400, counted: counts{webhook.Malformed: 1}},
		"nothing authentic": {body: oneItem, around: opensTo(notification.Opened{}), status: 202, counted: counts{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			around := newHarness()
			if test.around != nil {
				test.around(around)
			}
			settings := around.settings()
			settings.MaxBodySize = megabytes
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
			assert.Equal(t, test.counted, around.counted())
			assert.Equal(t, map[int]int{test.status: 1}, around.statuses)
			assert.Zero(t, handler.InFlightBytes())
			assertPlain(t, answer)
		})
	}
}

func TestNoLimitOfABodyIsTheDefaultOf20MiB(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{0, -1} {
		settings := newHarness().settings()
		settings.MaxBodySize = limit
		handler := webhook.NewHandler(settings)
		r := notify(t.Context(), oneItem)
		assert.Equal(t, http.StatusAccepted, answerTo(handler, r).StatusCode)
		r = notify(t.Context(), oneItem)
		r.ContentLength, r.Body = 20*megabytes+1, io.NopCloser(&untouched{})
		assert.Equal(t, http.StatusRequestEntityTooLarge, answerTo(handler, r).StatusCode)
	}
}

// assertPlain holds the parts of every answer that do not depend on its cause.
func assertPlain(t *testing.T, answer *http.Response) {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusText(answer.StatusCode)+"\n", string(body), "no details for strangers")
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

func TestHandler_EndsConnectionOfStranger(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		request func() *http.Request
		major   int
		want    string
	}{
		"a body that is not read ends it": {
			request: func() *http.Request {
				return httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &untouched{})
			},
			major: 1, want: "close",
		},
		"in HTTP/2 that ends the stream alone": {
			request: func() *http.Request {
				return httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &untouched{})
			},
			major: 2,
		},
		"what is no collection ends it": {
			request: func() *http.Request { return notify(t.Context(), "[]") }, major: 1, want: "close",
		},
		"a collection of nothing ends it": {
			request: func() *http.Request { return notify(t.Context(), `{"value":[]}`) }, major: 1, want: "close",
		},
		"a handshake, which anybody can send, ends it": {
			request: func() *http.Request {
				return httptest.NewRequestWithContext(t.Context(), http.MethodPost, path+"?validationToken=abc", http.NoBody)
			},
			major: 1, want: "close",
		},
		"an authentic notification keeps it": {
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

// padded is a notification of one item in length bytes.
func padded(length int) string {
	return oneItem + strings.Repeat(" ", length-len(oneItem))
}

func opens(err error) func(*harness) {
	return func(h *harness) {
		h.open = func(context.Context, *notification.Collection) (notification.Opened, error) {
			return notification.Opened{}, err
		}
	}
}

func opensTo(decrypted notification.Opened) func(*harness) {
	return func(h *harness) {
		h.open = func(context.Context, *notification.Collection) (notification.Opened, error) { return decrypted, nil }
	}
}
