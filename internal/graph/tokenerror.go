package graph

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const maxDescription = 300

// TokenError says that the token endpoint gave no token: it refused (Code, AADSTS), no whole answer came (Status 0, Err is
// the failure of the transport or ErrTooLarge), or it answered with something else (Err is ErrUnreadable).
// See https://learn.microsoft.com/entra/identity-platform/reference-error-codes
type TokenError struct {
	// Status is the HTTP status, 0 where no whole answer came.
	Status int
	// Code is OAuth's error, such as invalid_client, and AADSTS that of Entra ID, such as AADSTS7000215. Both may be empty.
	Code, AADSTS string
	// Description is the first line of what the endpoint said, shortened.
	Description string
	// RetryAfter is how long the endpoint asked to stay away, 0 where it did not say.
	RetryAfter time.Duration
	// Err is the cause where the endpoint did not refuse by itself.
	Err error
}

// Error returns one line without secret, assertion or body.
func (e *TokenError) Error() string {
	var b strings.Builder
	b.WriteString("get an access token")
	if e.Status != 0 {
		fmt.Fprintf(&b, ": the token endpoint answered %d", e.Status)
	}
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	} else if e.AADSTS != "" {
		b.WriteString(": " + e.AADSTS)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *TokenError) Unwrap() error { return e.Err }

// tokenErrorBody is https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response
type tokenErrorBody struct {
	Code        string        `json:"error"`
	Description string        `json:"error_description"`
	Codes       []json.Number `json:"error_codes"`
}

// newTokenError takes from a refusal what may be shown. The refusal itself is not kept: it holds the request, with the
// secret in it, and its text quotes the whole answer.
func newTokenError(refused *oauth2.RetrieveError, now time.Time, secrets ...string) *TokenError {
	e := &TokenError{}
	if refused.Response != nil {
		e.Status = refused.Response.StatusCode
		e.RetryAfter = retryAfter(refused.Response.Header, now)
	}
	body := tokenErrorBody{Code: refused.ErrorCode, Description: refused.ErrorDescription}
	var parsed tokenErrorBody
	if json.Unmarshal(refused.Body, &parsed) == nil && parsed.Code != "" {
		body = parsed
	}
	e.Code = oneLine(body.Code, maxCode, secrets...)
	e.AADSTS = aadsts(body)
	e.Description = oneLine(firstLine(body.Description), maxDescription, secrets...)
	if e.Status/100 == 3 {
		e.Description = "a redirect, which is never followed: it could carry the credential to another host"
	}
	return e
}

// aadsts finds the number of Entra ID's error in the description, else in the list of codes.
func aadsts(body tokenErrorBody) string {
	const prefix = "AADSTS"
	if _, after, found := strings.Cut(body.Description, prefix); found {
		digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
		if digits != "" && len(digits) <= 10 {
			return prefix + digits
		}
	}
	for _, code := range body.Codes {
		if n, err := strconv.ParseUint(code.String(), 10, 32); err == nil {
			return prefix + strconv.FormatUint(n, 10)
		}
	}
	return ""
}

// firstLine is the description without the ids of the request, which follow it on the same line or on lines of their own.
func firstLine(description string) string {
	description = strings.TrimSpace(description)
	line, _, _ := strings.Cut(description, "\n")
	line, _, _ = strings.Cut(line, "Trace ID:")
	return line
}
