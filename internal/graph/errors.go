package graph

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	// ErrTooLarge means that a response was larger than the limit of its call.
	ErrTooLarge = errors.New("the response is larger than this client accepts")
	// ErrUnreadable means that a successful response was not the documented JSON of Graph or Entra ID.
	ErrUnreadable = errors.New("the response is not the expected JSON")
	// ErrForeignHost means that a link in a response leads away from the configured endpoint. It was not followed, since
	// that would have sent the access token there.
	ErrForeignHost = errors.New("a link in the response leaves the scheme and host of graph.endpoint")
	// ErrTooManyPages means that a list did not end, or linked back to itself.
	ErrTooManyPages = errors.New("the list of subscriptions does not end")
)

const (
	maxMessage   = 500
	maxCode      = 100
	maxRequestID = 64
	// maxRetryAfter prevents an absurd header from stopping a caller that obeys it, and from overflowing a duration.
	maxRetryAfter = 24 * time.Hour
)

// Error is an unsuccessful response of Graph: https://learn.microsoft.com/graph/errors
type Error struct {
	// Operation is the call that failed, for example "create subscription".
	Operation string
	// Status is the HTTP status. It may be 3xx, since redirects are not followed.
	Status int
	// Code and Message are those of Graph's error, on one line and shortened. Both may be empty.
	Code, Message string
	// RequestID identifies the request in Microsoft's logs. Microsoft support asks for it.
	RequestID string
	// RetryAfter is the value of the Retry-After header, 0 if there was none.
	RetryAfter time.Duration
	// denial is the meaning of Message, derived before Message was redacted.
	denial denial
}

// Error returns one line with the fields of Graph's error and never the body of the response.
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

// newError parses an unsuccessful response. A body that is not Graph's error object is ignored, since it comes from a machine
// in between and may contain anything. A secret that the response repeats is removed.
func newError(operation string, a response, now time.Time, secrets ...string) *Error {
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
		e.Message = "a redirect, which is never followed because it could send the access token to another host"
	}
	return e
}

// retryAfter parses both forms of Retry-After (RFC 9110, section 10.2.3). A date is measured from the response's Date if
// there is one, so that the clock of this machine does not matter.
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

// oneLine makes the text of a remote host fit for a log: it removes secrets, replaces control characters and runs of white
// space by one space, and cuts the text after limit characters.
func oneLine(text string, limit int, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	// No more bytes can be needed, even if each character is four bytes long.
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

// denial is the reason for which Graph refused a user's history.
type denial int

const (
	noDenial denial = iota
	unlicensed
	forbidden
	unsupported
)

// denialOf classifies a status and its message. Graph sends the same code, Forbidden or NotFound, for several causes, so
// only the text of the message distinguishes them.
func denialOf(status int, message string) denial {
	text := strings.ToLower(message)
	switch {
	case status == http.StatusNotFound && strings.Contains(text, "requested api is not supported"):
		return unsupported
	case status == http.StatusNotFound, status == http.StatusForbidden && strings.Contains(text, "valid copilot license"):
		return unlicensed
	case status == http.StatusForbidden:
		return forbidden
	default:
		return noDenial
	}
}

func denialIn(err error) denial {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return noDenial
	case e.denial != noDenial:
		return e.denial
	default:
		return denialOf(e.Status, e.Message)
	}
}

// Unlicensed reports whether an error of History means that this user has no history: no Copilot license (403), or unknown or
// without a mailbox (404). Such a user counts as read.
func Unlicensed(err error) bool { return denialIn(err) == unlicensed }

// Forbidden reports whether Graph refused (403) for another reason than the user's license: a missing permission or consent.
func Forbidden(err error) bool { return denialIn(err) == forbidden }

// Unsupported reports whether this installation of Graph does not offer the call for any user: a cloud without Copilot, or a
// wrong graph.endpoint. It is a 404 that is not about a user.
func Unsupported(err error) bool { return denialIn(err) == unsupported }

// redact removes everything from an error of History that may name a user or repeat a conversation, since errors are logged.
// It classifies the error first, because the redacted text may no longer show the reason.
func redact(err error, user string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.denial = denialOf(e.Status, e.Message)
		e.Message = withoutValues(e.Message, user)
	}
	return err
}

const (
	redactionMark = "…"
	// quotationMarks enclose values: "User 'b2a7c9e4-...' does not have a valid Copilot license."
	quotationMarks = "'\"`‘’‚‛“”„‟«»‹›"
)

// valuePattern matches GUIDs, names with a domain such as user principal names, and URLs.
var valuePattern = regexp.MustCompile(`(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[^\s@]+@[^\s@]+|[a-z][a-z0-9+.-]*://\S+`)

func withoutValues(message, user string) string {
	message = withoutQuoted(message)
	if user != "" {
		message = regexp.MustCompile("(?i)"+regexp.QuoteMeta(user)).ReplaceAllLiteralString(message, redactionMark)
	}
	return valuePattern.ReplaceAllLiteralString(message, redactionMark)
}

// withoutQuoted removes the text between the first quotation mark and the last, since a value may contain marks of its own.
// If one has no counterpart, it removes everything from the first on.
func withoutQuoted(message string) string {
	runes := []rune(message)
	first, last, marks := -1, -1, 0
	for i := range runes {
		if !isQuotationMark(runes, i) {
			continue
		}
		if marks++; first < 0 {
			first = i
		}
		last = i
	}
	switch {
	case marks == 0:
		return message
	case marks%2 == 1:
		return string(runes[:first]) + redactionMark
	default:
		return string(runes[:first+1]) + redactionMark + string(runes[last:])
	}
}

// isQuotationMark reports whether the rune is a quotation mark. A mark between two letters is an apostrophe.
func isQuotationMark(runes []rune, i int) bool {
	inWord := i > 0 && i+1 < len(runes) && unicode.IsLetter(runes[i-1]) && unicode.IsLetter(runes[i+1])
	return strings.ContainsRune(quotationMarks, runes[i]) && !inWord
}
