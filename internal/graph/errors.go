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

// denial is what it means that a user's history was refused.
type denial int

const (
	noDenial denial = iota
	unlicensed
	forbidden
	unsupported
)

// denialOf reads a status and what Graph said with it. Graph sends one code, Forbidden or NotFound, for several causes, so
// only its words tell them apart.
func denialOf(status int, message string) denial {
	said := strings.ToLower(message)
	switch {
	case status == http.StatusNotFound && strings.Contains(said, "requested api is not supported"):
		return unsupported
	case status == http.StatusNotFound, status == http.StatusForbidden && strings.Contains(said, "valid copilot license"):
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

// Unlicensed tells of an error of History that this one user has no history: no Copilot license (403), or not known and
// without a mailbox (404). Such a user counts as read.
func Unlicensed(err error) bool { return denialIn(err) == unlicensed }

// Forbidden tells that Graph refused (403) for another reason than the user's license: a missing permission or consent.
func Forbidden(err error) bool { return denialIn(err) == forbidden }

// Unsupported tells that this installation of Graph does not have the call at all, whoever is asked for: a cloud without
// Copilot, or a wrong graph.endpoint. It is a 404 that says nothing about a user.
func Unsupported(err error) bool { return denialIn(err) == unsupported }

// redact takes everything out of an error of History that may name a user or repeat a conversation, since errors are
// logged. What the error means is read before.
func redact(err error, user string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.denial = denialOf(e.Status, e.Message)
		e.Message = withoutValues(e.Message, user)
	}
	return err
}

const (
	redactionMark = "…"
	// quotationMarks stand around values: "User 'b2a7c9e4-...' does not have a valid Copilot license."
	quotationMarks = "'\"`‘’‚‛“”„‟«»‹›"
)

// valuePattern finds GUIDs, names with a domain such as user principal names, and URLs.
var valuePattern = regexp.MustCompile(`(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[^\s@]+@[^\s@]+|[a-z][a-z0-9+.-]*://\S+`)

func withoutValues(message, user string) string {
	message = withoutQuoted(message)
	if user != "" {
		message = regexp.MustCompile("(?i)"+regexp.QuoteMeta(user)).ReplaceAllLiteralString(message, redactionMark)
	}
	return valuePattern.ReplaceAllLiteralString(message, redactionMark)
}

// withoutQuoted leaves out what stands between the first quotation mark and the last, since a value may hold marks of its
// own; where one has no counterpart, everything after the first.
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

// isQuotationMark takes a mark between two letters for an apostrophe.
func isQuotationMark(runes []rune, i int) bool {
	inWord := i > 0 && i+1 < len(runes) && unicode.IsLetter(runes[i-1]) && unicode.IsLetter(runes[i+1])
	return strings.ContainsRune(quotationMarks, runes[i]) && !inWord
}
