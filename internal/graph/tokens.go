package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// TokenSource returns a valid access token. Its error is a *TokenError, a *CredentialError or the error of the context.
type TokenSource interface {
	Token(ctx context.Context) (string, error)
}

const (
	// renewalMargin is how long before its expiry a token is replaced, at most a fifth of its lifetime.
	renewalMargin = 5 * time.Minute
	// defaultTokenLifetime is assumed where the response does not state a lifetime.
	defaultTokenLifetime = 5 * time.Minute
	// renewalRetryDelay is the time between a failed renewal and the next attempt; the current token is used meanwhile.
	renewalRetryDelay = 30 * time.Second
	// freshTokenAge is the age up to which Fresh accepts a token.
	freshTokenAge = time.Minute
)

// Tokens caches an access token until shortly before it expires. Concurrent callers that need a new one share one request.
type Tokens struct {
	fetch     func(ctx context.Context) (*oauth2.Token, error)
	telemetry Telemetry

	mu       sync.Mutex
	cached   cachedToken
	inFlight *refreshCall // nil while no request is in flight
}

// NewTokens returns a token source for one credential. It reads no files; each token request does.
func NewTokens(s CredentialSettings) *Tokens {
	return &Tokens{fetch: newCredential(s).fetch, telemetry: orNoop(s.Telemetry)}
}

// cachedToken is a token with its times; the zero value is no token.
type cachedToken struct {
	token          string
	requestedAt    time.Time // time of the last request, successful or not
	refreshAt      time.Time // when the token is to be replaced
	retryNotBefore time.Time // after a failure, the earliest time of the next request
	expiry         time.Time
}

func newCachedToken(t *oauth2.Token, now time.Time) cachedToken {
	end := t.Expiry
	if end.IsZero() {
		end = now.Add(defaultTokenLifetime)
	}
	margin := min(renewalMargin, end.Sub(now)/5)
	return cachedToken{token: t.AccessToken, requestedAt: now, refreshAt: end.Add(-margin), expiry: end}
}

// refreshCall is one token request and its result, which may be read once done is closed.
type refreshCall struct {
	done  chan struct{}
	token string
	err   error
	// abandoned means that the caller that made the request was canceled. The callers that waited for it then try again.
	abandoned bool
}

// Token returns the cached token, or waits for a new one. A failed renewal is not an error while the cached token is valid.
func (t *Tokens) Token(ctx context.Context) (string, error) { return t.get(ctx, false) }

// get returns the cached token; with force, or where it is to be replaced, it requests another.
func (t *Tokens) get(ctx context.Context, force bool) (string, error) {
	for {
		t.mu.Lock()
		if !force && time.Now().Before(t.cached.refreshAt) {
			defer t.mu.Unlock()
			return t.cached.token, nil
		}
		current := t.inFlight
		if current == nil {
			current = &refreshCall{done: make(chan struct{})}
			t.inFlight = current
			t.mu.Unlock()
			t.refresh(ctx, current)
			return current.token, current.err
		}
		t.mu.Unlock()
		select {
		case <-current.done:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for an access token: %w", ctx.Err())
		}
		if !current.abandoned {
			return current.token, current.err
		}
	}
}

// Fresh is like Token but returns a token that was obtained within the last minute, if possible: Graph stores the token of
// some calls and requires a reauthorization when it expires.
func (t *Tokens) Fresh(ctx context.Context) (string, error) {
	t.mu.Lock()
	now := time.Now()
	old := now.Sub(t.cached.requestedAt) >= freshTokenAge && !now.Before(t.cached.retryNotBefore)
	t.mu.Unlock()
	return t.get(ctx, old)
}

// refresh makes the request on the goroutine of the first caller, with its context.
func (t *Tokens) refresh(ctx context.Context, f *refreshCall) {
	token, err := t.fetch(ctx)
	t.telemetry.TokenRefresh(ctx, err)

	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		t.cached = newCachedToken(token, now)
		f.token = t.cached.token
	case now.Before(t.cached.expiry):
		wait := renewalRetryDelay
		if failed, ok := errors.AsType[*TokenError](err); ok {
			wait = max(wait, failed.RetryAfter)
		}
		if t.cached.retryNotBefore = now.Add(wait); ctx.Err() == nil {
			t.cached.requestedAt = now
		}
		if t.cached.refreshAt.Before(t.cached.retryNotBefore) {
			t.cached.refreshAt = now.Add(min(wait, t.cached.expiry.Sub(now)))
		}
		f.token = t.cached.token
	default:
		f.err, f.abandoned = err, ctx.Err() != nil
	}
	t.inFlight = nil
	close(f.done)
}

// Drop removes a token that Graph rejected. A token that has replaced it meanwhile stays.
func (t *Tokens) Drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cached.token == token {
		t.cached = cachedToken{}
	}
}

const maxDescription = 300

// TokenError is a token request without a token: the endpoint refused (Code, AADSTS), no complete response arrived (Status 0,
// Err is the failure of the transport or ErrTooLarge), or the response was something else (Err is ErrUnreadable).
// See https://learn.microsoft.com/entra/identity-platform/reference-error-codes
type TokenError struct {
	// Status is the HTTP status, 0 if no complete response arrived.
	Status int
	// Code is the OAuth error, such as invalid_client, and AADSTS that of Entra ID, such as AADSTS7000215. Both may be empty.
	Code, AADSTS string
	// Description is the first line of the endpoint's error_description, shortened.
	Description string
	// RetryAfter is the value of the Retry-After header, 0 if there was none.
	RetryAfter time.Duration
	// Err is the cause if the endpoint did not send a refusal.
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

// newTokenError copies from a refusal what may be logged. It does not wrap the refusal, which contains the request with the
// secret and quotes the whole response in its text.
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
		e.Description = "a redirect, which is never followed because it could send the credential to another host"
	}
	return e
}

// aadsts returns Entra ID's error code from the description or else from the list of codes.
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

// firstLine returns the description without the request ids, which follow on the same line or on lines of their own.
func firstLine(description string) string {
	description = strings.TrimSpace(description)
	line, _, _ := strings.Cut(description, "\n")
	line, _, _ = strings.Cut(line, "Trace ID:")
	return line
}
