package graph

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	// ErrTooLarge says that an answer was longer than any that this package asks for.
	ErrTooLarge = errors.New("the answer is larger than this client accepts")
	// ErrUnreadable says that a successful answer was not the JSON that Graph or Entra ID is documented to send.
	ErrUnreadable = errors.New("the answer is not the JSON that was expected")
	// ErrForeignHost says that a link in an answer leads away from the configured endpoint. It was not followed,
	// since the access token would have gone there.
	ErrForeignHost = errors.New("a link in the answer leaves the scheme and host of graph.endpoint")
	// ErrTooManyPages says that a list did not end, or linked back to itself.
	ErrTooManyPages = errors.New("the list of subscriptions does not end")
)

const (
	maxMessage   = 500
	maxCode      = 100
	maxRequestID = 64
	// maxRetryAfter keeps an absurd header from stopping a caller that obeys it, and from overflowing a duration.
	maxRetryAfter = 24 * time.Hour
)

// Error is an answer of Graph that is not a success: https://learn.microsoft.com/graph/errors
type Error struct {
	// Operation is what was being done, for example "create subscription".
	Operation string
	// Status is the HTTP status; 3xx is here too, since redirects are not followed.
	Status int
	// Code and Message are what Graph said, on one line and shortened; both may be empty.
	Code, Message string
	// RequestID finds this request in Microsoft's logs: support asks for it.
	RequestID string
	// RetryAfter is how long Graph asked to stay away, 0 where it did not say.
	RetryAfter time.Duration
	// denial is kept of a Message that was made anonymous.
	denial denial
}

// Error returns one line with what Graph said and never the body of an answer.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: Graph answered %d", e.Operation, e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.RequestID != "" {
		b.WriteString(" (request-id " + e.RequestID + ")")
	}
	return b.String()
}

// errorBody is https://learn.microsoft.com/graph/errors#json-representation
type errorBody struct {
	Error struct {
		Code       string `json:"code"`
		Message    string `json:"message"`
		InnerError struct {
			RequestID string `json:"request-id"`
		} `json:"innerError"`
	} `json:"error"`
}

// newError reads an unsuccessful answer. A body that is not Graph's error object adds nothing, as it comes from a machine
// in between and could hold anything. Where the answer repeats a secret, that is taken out.
func newError(operation string, a answer, now time.Time, secrets ...string) *Error {
	e := &Error{Operation: operation, Status: a.status, RetryAfter: retryAfter(a.header, now)}
	var parsed errorBody
	if json.Unmarshal(a.body, &parsed) == nil {
		e.Code = oneLine(parsed.Error.Code, maxCode, secrets...)
		e.Message = oneLine(parsed.Error.Message, maxMessage, secrets...)
		e.RequestID = oneLine(parsed.Error.InnerError.RequestID, maxRequestID, secrets...)
	}
	if e.RequestID == "" {
		e.RequestID = oneLine(a.header.Get("Request-Id"), maxRequestID, secrets...)
	}
	if a.status/100 == 3 {
		e.Message = "a redirect, which is never followed: it could carry the access token to another host"
	}
	return e
}

// retryAfter reads Retry-After in both of its forms (RFC 9110, section 10.2.3). A date is measured from the answer's own
// Date where there is one, so that the clock of this machine does not matter.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}

// oneLine makes text of a remote host fit for a log: secrets are taken out, control characters and runs of white space
// become one space, and what is over the limit of characters is cut.
func oneLine(text string, limit int, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	// Only so much can be needed, even where each character is four bytes wide.
	if most := limit * 8; len(text) > most {
		text = text[:most]
	}
	words := strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	runes := []rune(strings.Join(words, " "))
	if len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return string(runes)
}
