// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

var (
	// ErrUnreadable means that a successful response was not the documented JSON of Graph or Entra ID, or larger than accepted.
	ErrUnreadable = unexpected("the response is not the expected JSON, or too large")
	// ErrForeignHost means that a link in a response leads away from the configured endpoint. It was not followed, since
	// that would have sent the access token there.
	ErrForeignHost = unexpected("a link in the response leaves the scheme and host of graph.endpoint")
	// ErrTooManyPages means that a list did not end, or linked back to itself.
	ErrTooManyPages = unexpected("the list has too many pages, or its links form a cycle")
)

func unexpected(text string) error {
	return failure.With(errors.New(text), failure.New(failure.UnexpectedResponse, endpointKey))
}

const (
	// maxText is that of a message in characters, maxID that of a code or a request id.
	maxText, maxID = 500, 100
	// maxRetryAfter prevents an absurd header from stopping the receiver for good.
	maxRetryAfter = time.Hour
)

// Error is an unsuccessful response of Graph: https://learn.microsoft.com/graph/errors
type Error struct {
	// Operation is the call that failed, for example "create subscription".
	Operation string
	// Status is the HTTP status. It may be 3xx, since redirects are not followed.
	Status int
	// Code and Message are those of Graph's error, on one line, shortened and without ids. Both may be empty.
	Code, Message string
	// RequestID identifies the request in Microsoft's logs. Microsoft support asks for it.
	RequestID string
	// RetryAfter is the value of the Retry-After header, at most an hour, 0 if there was none.
	RetryAfter time.Duration
}

// Error returns one line with the fields of Graph's error and never the body of the response.
func (e *Error) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("Graph answered %d %s", e.Status, e.Code))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request-id " + e.RequestID + ")"
	}
	return text
}

// idPattern matches the id of a user, which is personal data and which a message may repeat. It matches other ids too.
var idPattern = regexp.MustCompile(`(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// newError parses an unsuccessful response. A body that is not Graph's error object is ignored, since it comes from a machine
// in between and may contain anything. The access token is removed where the response repeats it.
func newError(operation string, resp *http.Response, body []byte, token string) *Error {
	// https://learn.microsoft.com/graph/errors#json-representation
	var parsed struct {
		Error struct {
			Code       string `json:"code"`
			Message    string `json:"message"`
			InnerError struct {
				RequestID string `json:"request-id"`
			} `json:"innerError"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &parsed)
	e := &Error{
		Operation:  operation,
		Status:     resp.StatusCode,
		Code:       oneLine(parsed.Error.Code, maxID, token),
		Message:    oneLine(idPattern.ReplaceAllLiteralString(parsed.Error.Message, "[id]"), maxText, token),
		RequestID:  oneLine(cmp.Or(parsed.Error.InnerError.RequestID, resp.Header.Get("Request-Id")), maxID, token),
		RetryAfter: parseRetryAfter(resp.Header),
	}
	if operation == opHistory || operation == opUser {
		e.Message = withoutText(e.Message)
	}
	return e
}

// withoutText returns of a message about one user only the words that classify it: the rest may name the user or repeat a
// conversation, and errors are logged.
func withoutText(message string) string {
	for _, words := range []string{"valid Copilot license", "Requested API is not supported"} {
		if strings.Contains(strings.ToLower(message), strings.ToLower(words)) {
			return words
		}
	}
	return ""
}

// TokenError is a token request without a token: the endpoint refused (Code), no complete response arrived (Status 0, Err is the
// failure of the network or of a file), or the response was something else (Err is ErrUnreadable). It is no Error, since its
// status says nothing about a subscription or a user.
// See https://learn.microsoft.com/entra/identity-platform/reference-error-codes
type TokenError struct {
	// Status is the HTTP status, 0 if no complete response arrived.
	Status int
	// Code is that of Entra ID, such as AADSTS7000215, or else the OAuth error, such as invalid_client. It may be empty.
	Code string
	// Description is the endpoint's error_description, on one line and shortened. It ends with ids for Microsoft support.
	Description string
	// RetryAfter is the value of the Retry-After header, at most an hour, 0 if there was none.
	RetryAfter time.Duration
	// Err is the cause if the endpoint did not send a refusal.
	Err error
}

// Error returns one line without secret, assertion or body.
func (e *TokenError) Error() string {
	text := "get an access token"
	if e.Status != 0 {
		text += fmt.Sprintf(": the token endpoint answered %d", e.Status)
	}
	if description := cmp.Or(e.Description, e.Code); description != "" {
		text += ": " + description
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *TokenError) Unwrap() error { return e.Err }

var aadstsPattern = regexp.MustCompile(`AADSTS[0-9]{1,10}`)

// newTokenError copies from a refusal what may be logged, without the secret where the response repeats it. It does not wrap the
// refusal, which contains the request with the secret and quotes the whole response in its text.
// See https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response
func newTokenError(refused *oauth2.RetrieveError, secret string) *TokenError {
	e := &TokenError{
		Code:        oneLine(cmp.Or(aadstsPattern.FindString(refused.ErrorDescription), refused.ErrorCode), maxID, secret),
		Description: oneLine(refused.ErrorDescription, maxText, secret),
	}
	if refused.Response != nil {
		e.Status, e.RetryAfter = refused.Response.StatusCode, parseRetryAfter(refused.Response.Header)
	}
	return e
}

// oneLine makes the text of a remote host fit for a log: it removes a secret, replaces control characters and runs of white
// space by one space, and cuts the text after limit characters.
func oneLine(text string, limit int, secret string) string {
	if secret != "" {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	words := strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	runes := []rune(strings.Join(words, " "))
	if len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return string(runes)
}

// RetryAfter returns the Retry-After of Graph or Entra ID, or 0 if there was none.
func RetryAfter(err error) time.Duration {
	if failed, ok := errors.AsType[*TokenError](err); ok {
		return failed.RetryAfter
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed.RetryAfter
	}
	return 0
}

// parseRetryAfter parses both forms of Retry-After (RFC 9110, section 10.2.3). It returns at most an hour, 0 if there is no valid
// one. A date is measured from the response's Date if there is one, so that the clock of this machine does not matter.
func parseRetryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}
