// SPDX-License-Identifier: Apache-2.0

// Package graph is the REST client of Microsoft Graph: access tokens, subscriptions, the history of interactions, licensed
// users, and typed errors with their failures.
// Each call is one attempt; the caller decides when to retry.
package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// maxBody bounds a response, such as a page of 100 interactions, whose cards can be large; maxErrorBody an unsuccessful one.
const maxBody, maxErrorBody = 64 << 20, 1 << 20

// Settings is what a Client needs.
type Settings struct {
	// Endpoint is the root of Graph without the version: https://graph.microsoft.com. A path is kept.
	Endpoint string
	// HTTP makes the calls. It is copied, and the copy follows no redirects.
	HTTP *http.Client
	// Tokens provides the access token of each call. Nil if HTTP authenticates by itself, as with an authenticator extension.
	Tokens    TokenSource
	Telemetry Telemetry
}

// Client calls Graph. It is safe for concurrent use.
type Client struct {
	endpoint  string
	http      *http.Client
	tokens    TokenSource
	telemetry Telemetry
	clock
}

// New returns a client. If the endpoint is not an absolute URL, every call fails.
func New(s Settings) *Client {
	return &Client{
		endpoint: strings.TrimRight(s.Endpoint, "/"), http: withoutRedirects(s.HTTP), tokens: s.Tokens, telemetry: s.Telemetry,
	}
}

// withoutRedirects copies a client; the copy returns a redirect as the response instead of following it.
func withoutRedirects(given *http.Client) *http.Client {
	client := *given
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// call is one operation of Graph.
type call struct {
	// operation names the call in errors and telemetry: a few fixed words, never an id.
	operation, method string
	// target is a path below the version, such as /subscriptions, or an absolute URL that Graph sent.
	target string
	// body is sent as JSON; nil sends no body.
	body any
	// header is sent in addition to the headers of every call.
	header map[string]string
	// fresh asks for a token that was issued just now, with its whole lifetime left.
	fresh bool
}

// do makes a call and decodes a successful response into out, unless out is nil or the body is empty.
// If Graph rejects the token, as after a revocation, the call is repeated once with a new one.
func (c *Client) do(ctx context.Context, r call, out any) error {
	if err := c.try(ctx, r, out); err != nil {
		return fmt.Errorf("%s: %w", r.operation, err)
	}
	return nil
}

func (c *Client) try(ctx context.Context, r call, out any) error {
	target, err := c.resolve(r.target)
	if err != nil {
		return err
	}
	var payload []byte
	if r.body != nil {
		if payload, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	for retried := false; ; retried = true {
		token := ""
		if c.tokens != nil {
			if token, err = c.tokens.Token(ctx, r.fresh); err != nil {
				return err
			}
		}
		resp, body, err := c.exchange(ctx, r, target, payload, token)
		if err != nil {
			return fmt.Errorf("%s: %w", target.Host, transportError(err))
		}
		if resp.StatusCode != http.StatusUnauthorized || c.tokens == nil || retried {
			return c.decode(ctx, r.operation, resp, body, token, out)
		}
		c.tokens.Drop(token)
	}
}

// decode turns a response into a value or an error.
func (c *Client) decode(ctx context.Context, operation string, resp *http.Response, body []byte, token string, out any) error {
	if resp.StatusCode/100 != 2 {
		e := newError(operation, resp, body, token)
		if e.RetryAfter > 0 && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable) {
			c.telemetry.Throttled(ctx, e.RetryAfter)
		}
		return e
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	// The decoder's error is dropped because it may quote the body.
	if json.Unmarshal(body, out) != nil {
		return fmt.Errorf("status %d: %w", resp.StatusCode, ErrUnreadable)
	}
	return nil
}

// resolve returns the URL of a call. It rejects every URL that is not at the endpoint: this is the only place that decides
// which host receives the access token.
func (c *Client) resolve(target string) (*url.URL, error) {
	base, err := url.Parse(c.endpoint)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("graph.endpoint %q is not an absolute URL", c.endpoint)
	}
	if strings.HasPrefix(target, "/") {
		return url.Parse(c.endpoint + "/v1.0" + target)
	}
	u, err := url.Parse(target)
	if err != nil || u.User != nil || origin(u) != origin(base) {
		return nil, ErrForeignHost
	}
	return u, nil
}

// origin is the scheme, host and port of a URL (RFC 6454, section 4).
func origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// exchange sends one request and reads the whole response.
func (c *Client) exchange(ctx context.Context, r call, target *url.URL, payload []byte, token string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(payload))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	started, status := time.Now(), 0
	resp, body, err := c.send(req)
	if err == nil {
		status = resp.StatusCode
	}
	c.telemetry.GraphRequest(ctx, r.operation, status, time.Since(started))
	return resp, body, err
}

func (c *Client) send(req *http.Request) (*http.Response, []byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // the body was read, or its error is returned
	c.observeDate(resp.Header)
	limit := maxBody
	if resp.StatusCode/100 != 2 {
		limit = maxErrorBody
	}
	// What is cut off here is not valid JSON any more: not even white space is, without a value.
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)))
	if err != nil {
		return nil, nil, fmt.Errorf("read the response: %w", err)
	}
	return resp, body, nil
}

// transportError returns the part of a failed round trip that is useful and safe to log. It removes the URL, which may name
// a user, and converts the failure of an authenticator extension to a *TokenError, like one of this package's credentials.
func transportError(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return newTokenError(refused, "")
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	return failure.With(err, networkFailure(err, endpointKey))
}

// Page is one page of an OData collection.
type Page[T any] struct {
	Items []T
	// Next is the link to the following page; empty on the last.
	Next string
}

// readPage reads one page. A page without value is an error: treating it as an empty list would make the caller create what
// already exists, or take for read what is not.
func readPage[T any](ctx context.Context, c *Client, r call) (Page[T], error) {
	var page struct {
		Value    *[]T   `json:"value"`
		NextLink string `json:"@odata.nextLink"`
	}
	if err := c.do(ctx, r, &page); err != nil {
		return Page[T]{}, err
	}
	if page.Value == nil {
		return Page[T]{}, fmt.Errorf("%s: %w", r.operation, ErrUnreadable)
	}
	return Page[T]{Items: *page.Value, Next: page.NextLink}, nil
}

// Pages yields the items of each page until one has no link to the next: read gets the link of the page before, empty for the
// first page. An error is the last element: that of read, or ErrTooManyPages after limit pages and where a link repeats.
func Pages[T any](limit int, read func(next string) (Page[T], error)) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		next, seen := "", map[string]bool{}
		for len(seen) < limit && !seen[next] {
			seen[next] = true
			page, err := read(next)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page.Items, nil) || page.Next == "" {
				return
			}
			next = page.Next
		}
		yield(nil, ErrTooManyPages)
	}
}

// Telemetry receives the measurements of this package. Its methods are called on the goroutine of the call that they report.
// They must be safe for concurrent use and must not block.
type Telemetry interface {
	// GraphRequest reports one HTTP exchange with Graph. Status is 0 if no complete response arrived.
	GraphRequest(ctx context.Context, operation string, status int, took time.Duration)
	// Throttled reports that Graph answered 429 or 503 with a Retry-After, and its duration.
	Throttled(ctx context.Context, wait time.Duration)
	// TokenRefresh reports one request for an access token; err is nil if it succeeded.
	TokenRefresh(ctx context.Context, err error)
}
