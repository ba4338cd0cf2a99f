// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// errorForResponse returns the error of a call that receives this response.
func errorForResponse(t *testing.T, telemetry *recordingTelemetry, resp *http.Response) *graph.Error {
	t.Helper()
	client := newGraph(graph.Settings{
		Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"), Telemetry: telemetry,
		HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) { return resp, nil }).client(),
	})
	_, err := client.CreateSubscription(t.Context(), graph.Subscription{})
	refused, ok := errors.AsType[*graph.Error](err)
	require.True(t, ok, "%v", err)
	return refused
}

func TestError_ForEveryFailureStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []int{300, 304, 400, 402, 403, 404, 405, 409, 410, 412, 429, 500, 501, 502, 503, 504, 509} {
		telemetry := &recordingTelemetry{}
		got := errorForResponse(t, telemetry, jsonReply(status, `{"error":{"code":"Forbidden","message":"User 'x' does not have a valid Copilot license.",
			"innerError":{"date":"2025-12-01T14:31:00","request-id":"8e6a","client-request-id":"9f7b"}}}`))
		assert.Equal(t, status, got.Status)
		assert.Equal(t, "Forbidden", got.Code)
		assert.Equal(t, "8e6a", got.RequestID)
		assert.Equal(t, "create subscription", got.Operation)
		assert.Equal(t, []recordedRequest{{"create subscription", status}}, telemetry.requests)
		assert.Empty(t, telemetry.waits)
		if status >= 400 {
			assert.Contains(t, got.Error(), " Forbidden: User 'x' does not have a valid Copilot license. (request-id 8e6a)")
		}
	}
}

func TestError_ParsesBody(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("wörd ", 400)
	for name, test := range map[string]struct {
		body string
		want graph.Error
	}{
		"nothing":                       {body: ""},
		"an HTML page of a proxy":       {body: "<html>who@example.com asked</html>"},
		"another JSON object":           {body: `{"message":"who@example.com asked"}`},
		"an error that is text":         {body: `{"error":"invalid_request"}`},
		"null members":                  {body: `{"error":{"code":null,"message":null,"innerError":null}}`},
		"an old spelling of innerError": {body: `{"error":{"code":"A","innererror":{"request-id":"7"}}}`, want: graph.Error{Code: "A", RequestID: "7"}},
		"several lines": {
			body: `{"error":{"code":"A\nB","message":" one\r\n\u001b[31mtwo\u0000\tthree "}}`,
			want: graph.Error{Code: "A B", Message: "one [31mtwo three"},
		},
		"the id of a user": {
			body: `{"error":{"message":"User '0BBBBBBB-0000-4000-8000-00000000000b' has no license"}}`,
			want: graph.Error{Message: "User '[id]' has no license"},
		},
		"a token": {body: `{"error":{"message":"bearer a-token is bad"}}`, want: graph.Error{Message: "bearer [secret] is bad"}},
		"a long message": {
			body: `{"error":{"message":"` + long + `"}}`, want: graph.Error{Message: string([]rune(long)[:499]) + "…"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := errorForResponse(t, &recordingTelemetry{}, reply(400, test.body, "request-id", "from the header"))
			if test.want.RequestID == "" {
				test.want.RequestID = "from the header"
			}
			test.want.Status, test.want.Operation = 400, "create subscription"
			assert.Equal(t, test.want, *got)
			assert.NotContains(t, got.Error(), "who@example.com")
		})
	}
}

func TestError_ParsesRetryAfter(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		header []string
		want   time.Duration
	}{
		"absent":                 {},
		"seconds":                {header: []string{"Retry-After", "17"}, want: 17 * time.Second},
		"seconds in white space": {header: []string{"Retry-After", " 17 "}, want: 17 * time.Second},
		"zero":                   {header: []string{"Retry-After", "0"}},
		"negative":               {header: []string{"Retry-After", "-5"}},
		"a word":                 {header: []string{"Retry-After", "soon"}},
		"absurdly many seconds":  {header: []string{"Retry-After", "9223372036854775807"}, want: time.Hour},
		"a date with a Date":     {header: []string{"Retry-After", date.Add(90 * time.Second).Format(http.TimeFormat), "Date", date.Format(http.TimeFormat)}, want: 90 * time.Second},
		"a date that has passed": {header: []string{"Retry-After", date.Add(-time.Second).Format(http.TimeFormat), "Date", date.Format(http.TimeFormat)}},
		"a date in another year": {header: []string{"Retry-After", date.AddDate(1, 0, 0).Format(http.TimeFormat), "Date", date.Format(http.TimeFormat)}, want: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, status := range []int{429, 503} {
				telemetry := &recordingTelemetry{}
				assert.Equal(t, test.want, errorForResponse(t, telemetry, jsonReply(status, `{}`, test.header...)).RetryAfter)
				if test.want == 0 {
					assert.Empty(t, telemetry.waits)
				} else {
					assert.Equal(t, []time.Duration{test.want}, telemetry.waits)
				}
			}
		})
	}
}

func TestError_RetryAfterDateUsesLocalClock(t *testing.T) {
	t.Parallel()
	got := errorForResponse(t, &recordingTelemetry{}, jsonReply(429, `{}`, "Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)))
	assert.InDelta(t, 60, got.RetryAfter.Seconds(), 5)
}

func FuzzErrorBodies(f *testing.F) {
	f.Add([]byte(`{"error":{"code":"A","message":"b"}}`), "3")
	f.Add([]byte("\xff\xfe{"), "Mon, 02 Jan 2006 15:04:05 GMT")
	f.Fuzz(func(t *testing.T, body []byte, after string) {
		got := errorForResponse(t, &recordingTelemetry{}, jsonReply(400, string(body), "Retry-After", after))
		line := got.Error()
		assert.True(t, utf8.ValidString(line))
		assert.NotContains(t, line, "\n")
		assert.LessOrEqual(t, utf8.RuneCountInString(got.Message), 500)
		assert.GreaterOrEqual(t, got.RetryAfter, time.Duration(0))
		assert.LessOrEqual(t, got.RetryAfter, time.Hour)
		assert.NotEmpty(t, failure.Of(got).Code)
	})
}

func TestRetryAfter_OfEitherService(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want time.Duration
	}{
		"by Graph":            {&graph.Error{RetryAfter: 7 * time.Second}, 7 * time.Second},
		"by Entra ID":         {fmt.Errorf("list: %w", &graph.TokenError{RetryAfter: 8 * time.Second}), 8 * time.Second},
		"without Retry-After": {errors.New("connection reset"), 0},
		"without a failure":   {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, graph.RetryAfter(test.err))
		})
	}
}

// historyError returns the error of History when Graph answers with this status and message.
func historyError(t *testing.T, status int, message string) *graph.Error {
	t.Helper()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		write(w, `{"error": {"code": "Forbidden", "message": %s}}`, jsonString(message))
	})
	_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	var refused *graph.Error
	require.ErrorAs(t, err, &refused)
	return refused
}

func jsonString(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Of Graph's message only the words that classify the error stay.
func TestHistory_ErrorHasNoText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status        int
		message, want string
	}{
		"no license":        {403, "User '" + historyUser + "' does not have a valid Copilot license in 'b'.", "valid Copilot license"},
		"another cloud":     {404, "'x': Requested API is not supported. Please check the path 'y'.", "Requested API is not supported"},
		"an unknown user":   {404, "No mailbox of jo@contoso.com.", ""},
		"a quoted prompt":   {400, `Can't parse "what's in Orion" at 3.`, ""},
		"a prompt of words": {404, `Requested API is not supported by Orion`, "Requested API is not supported"},
		"a redirect":        {302, "Go to https://contoso.sharepoint.com/plan.docx", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := historyError(t, test.status, test.message)
			assert.Equal(t, test.want, got.Message)
			assert.Equal(t, test.status, got.Status)
			assert.Equal(t, "Forbidden", got.Code)
		})
	}
}

func TestUnlicensed_FalseForOtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, graph.ErrUnreadable, &graph.TokenError{Status: 403}} {
		assert.False(t, graph.Unlicensed(err) || graph.Forbidden(err) || graph.Unsupported(err), "%v", err)
	}
}

func FuzzRedactedErrors(f *testing.F) {
	f.Add("User ", "' does not have a valid Copilot license.")
	f.Add("a \"b", "c' d")
	f.Fuzz(func(t *testing.T, before, after string) {
		client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
			return jsonReply(403, `{"error":{"message":`+jsonString(before+" 'the secret plan' "+historyUser+" "+after)+`}}`), nil
		}).client()})
		_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
		assert.NotContains(t, err.Error(), "secret p")
		assert.NotContains(t, err.Error(), historyUser)
		assert.NotEqual(t, graph.Unlicensed(err), graph.Forbidden(err))
	})
}
