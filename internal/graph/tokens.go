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

// TokenSource gives an access token that can be used now. An error is a *TokenError, a *CredentialError, or of the context.
type TokenSource interface {
	Token(ctx context.Context) (string, error)
}

const (
	// renewalMargin is how long before its end a token is replaced; a short-lived one when a fifth of its life is left.
	renewalMargin = 5 * time.Minute
	// defaultTokenLifetime is taken for the life of a token where the answer does not say it.
	defaultTokenLifetime = 5 * time.Minute
	// renewalRetryDelay is how long a token that could not be replaced is used on before the next attempt.
	renewalRetryDelay = 30 * time.Second
	// freshTokenAge is how long a token counts as new.
	freshTokenAge = time.Minute
)

// Tokens keeps an access token until shortly before it ends. However many callers need a new one, one request is made.
type Tokens struct {
	fetch     func(ctx context.Context) (*oauth2.Token, error)
	telemetry Telemetry

	mu       sync.Mutex
	cached   cachedToken
	inFlight *refreshCall // nil while no request is under way
}

// NewTokens returns a source of tokens for one credential. Files are read at each token request and not here.
func NewTokens(s CredentialSettings) *Tokens {
	return &Tokens{fetch: newCredential(s).fetch, telemetry: orNoop(s.Telemetry)}
}

// cachedToken is a token and its times; the zero value is none.
type cachedToken struct {
	token          string
	requestedAt    time.Time // when one was asked for last, with success or not
	refreshAt      time.Time // from then on another one is asked for
	retryNotBefore time.Time // after a failure, when the login service may be asked again at the earliest
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

// refreshCall is one token request and its outcome, which may be read once done is closed.
type refreshCall struct {
	done  chan struct{}
	token string
	err   error
	// abandoned says that the caller who made the request gave up: that is no answer for those who waited with it.
	abandoned bool
}

// Token returns the token held, or waits for a new one. While a token is still good, a failing renewal is no error.
func (t *Tokens) Token(ctx context.Context) (string, error) { return t.get(ctx, false) }

// get asks for another token in any case where forced.
func (t *Tokens) get(ctx context.Context, forced bool) (string, error) {
	for {
		t.mu.Lock()
		if !forced && time.Now().Before(t.cached.refreshAt) {
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

// Fresh is Token, but with a token that was obtained within the last minute, if one can be had: Graph keeps the token of
// some calls and asks for another when it ends.
func (t *Tokens) Fresh(ctx context.Context) (string, error) {
	t.mu.Lock()
	now := time.Now()
	old := now.Sub(t.cached.requestedAt) >= freshTokenAge && !now.Before(t.cached.retryNotBefore)
	t.mu.Unlock()
	return t.get(ctx, old)
}

// refresh makes the request on the goroutine of the caller that came first, under its context.
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

// Drop forgets a token that its receiver refused. One that was replaced meanwhile stays.
func (t *Tokens) Drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cached.token == token {
		t.cached = cachedToken{}
	}
}

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
