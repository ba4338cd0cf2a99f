// Package graph is the REST client of Microsoft Graph: access tokens, subscriptions, the history of interactions, licensed
// users, typed errors and hints on how to fix them.
// Each call is one attempt; the caller decides when to retry.
package graph

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	// maxBody is far larger than a page of subscriptions and small enough to hold in memory.
	maxBody        = 4 << 20
	defaultTimeout = 30 * time.Second
)

// Settings is what a Client needs.
type Settings struct {
	// Endpoint is the root of Graph without the version: https://graph.microsoft.com. A path is kept.
	Endpoint string
	// HTTP makes the calls. It is copied, and the copy follows no redirects. Nil means a default client with a timeout of 30 s.
	HTTP *http.Client
	// Tokens provides the access token of each call. Nil if HTTP authenticates by itself, as with an authenticator extension.
	Tokens TokenSource
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Client calls Graph. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	baseErr   error
	http      *http.Client
	tokens    TokenSource
	telemetry Telemetry
	clock     clock
}

// New returns a client. If the endpoint is not an absolute URL, every call fails.
func New(s Settings) *Client {
	c := &Client{http: withoutRedirects(s.HTTP), tokens: s.Tokens, telemetry: orNoop(s.Telemetry)}
	c.base, c.baseErr = url.Parse(strings.TrimRight(s.Endpoint, "/"))
	if c.baseErr == nil && c.base.Host == "" {
		c.baseErr = fmt.Errorf("graph.endpoint %q is not an absolute URL", s.Endpoint)
	}
	return c
}

// withoutRedirects copies a client; the copy returns a redirect as the response instead of following it.
func withoutRedirects(given *http.Client) *http.Client {
	client := http.Client{Timeout: defaultTimeout}
	if given != nil {
		client = *given
	}
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
	// limit bounds the response body in bytes; 0 means maxBody.
	limit int64
}

// response is an HTTP response whose body was read completely.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call and decodes a successful response into out, unless out is nil or the body is empty.
// If Graph rejects the token, as after a revocation, the call is repeated once with a new one.
func (c *Client) do(ctx context.Context, r call, out any) error {
	target, err := c.resolve(r.target)
	if err != nil {
		return fmt.Errorf("%s: %w", r.operation, err)
	}
	var payload []byte
	if r.body != nil {
		if payload, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("%s: encode the request: %w", r.operation, err)
		}
	}
	token, err := c.token(ctx, r.fresh)
	if err != nil {
		return fmt.Errorf("%s: %w", r.operation, err)
	}
	a, err := c.exchange(ctx, r, target, payload, token)
	if err == nil && a.status == http.StatusUnauthorized {
		renewed, renewErr := c.renewToken(ctx, token)
		if renewErr != nil {
			return fmt.Errorf("%s: %w", r.operation, renewErr)
		}
		if renewed != token {
			token = renewed
			a, err = c.exchange(ctx, r, target, payload, token)
		}
	}
	if err != nil {
		return err
	}
	return c.decode(ctx, r.operation, a, token, out)
}

// decode turns a response into a value or an error.
func (c *Client) decode(ctx context.Context, operation string, a response, token string, out any) error {
	if a.status/100 != 2 {
		e := newError(operation, a, time.Now(), token)
		if e.RetryAfter > 0 && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable) {
			c.telemetry.Throttled(ctx, e.RetryAfter)
		}
		return e
	}
	if out == nil || len(bytes.TrimSpace(a.body)) == 0 {
		return nil
	}
	// The decoder's error is dropped because it may quote the body.
	if json.Unmarshal(a.body, out) != nil {
		return fmt.Errorf("%s: status %d: %w", operation, a.status, ErrUnreadable)
	}
	return nil
}

// resolve returns the URL of a call. It rejects every URL that is not at the endpoint: this is the only place that decides
// which host receives the access token.
func (c *Client) resolve(target string) (*url.URL, error) {
	if c.baseErr != nil {
		return nil, c.baseErr
	}
	if strings.HasPrefix(target, "/") {
		return url.Parse(c.base.String() + "/v1.0" + target)
	}
	u, err := url.Parse(target)
	if err != nil || u.User != nil || origin(u) != origin(c.base) {
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

func (c *Client) token(ctx context.Context, fresh bool) (string, error) {
	if c.tokens == nil {
		return "", nil
	}
	if source, ok := c.tokens.(interface {
		Fresh(ctx context.Context) (string, error)
	}); ok && fresh {
		return source.Fresh(ctx)
	}
	return c.tokens.Token(ctx)
}

// renewToken drops a rejected token and returns another. If the source has no cache, it returns the rejected token.
func (c *Client) renewToken(ctx context.Context, refused string) (string, error) {
	source, ok := c.tokens.(interface{ Drop(token string) })
	if !ok {
		return refused, nil
	}
	source.Drop(refused)
	return c.tokens.Token(ctx)
}

// exchange sends one request and reads the whole response.
func (c *Client) exchange(ctx context.Context, r call, target *url.URL, payload []byte, token string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(payload))
	if err != nil {
		return response{}, fmt.Errorf("%s: %w", r.operation, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Client-Request-Id", newGUID())
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	started := time.Now()
	a, err := c.send(req, cmp.Or(r.limit, maxBody))
	c.telemetry.GraphRequest(ctx, r.operation, a.status, time.Since(started))
	if err != nil {
		return response{}, fmt.Errorf("%s: %s: %w", r.operation, target.Host, transportError(err))
	}
	return a, nil
}

func (c *Client) send(req *http.Request, limit int64) (response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return response{}, err
	}
	c.clock.observe(resp.Header)
	if resp.StatusCode/100 != 2 {
		limit = min(limit, maxBody) // error bodies are small
	}
	body, err := readBody(resp.Body, limit)
	if err != nil {
		return response{}, err
	}
	return response{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// transportError returns the part of a failed round trip that is useful and safe to log. It removes the URL, which may name
// a user, and converts the failure of an authenticator extension to a *TokenError, like one of this package's credentials.
func transportError(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return newTokenError(refused, time.Now())
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

// readBody reads and closes a body of at most limit bytes; a longer one is ErrTooLarge.
func readBody(body io.ReadCloser, limit int64) ([]byte, error) {
	defer func() { _ = body.Close() }() // the body was read completely, or its error is returned
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the response: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, ErrTooLarge
	}
	return data, nil
}

// newGUID returns a random UUID (RFC 9562, section 5.4), the form that Graph requires of a client-request-id.
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
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

// noopTelemetry is used where no Telemetry is set.
type noopTelemetry struct{}

func (noopTelemetry) GraphRequest(context.Context, string, int, time.Duration) {}
func (noopTelemetry) Throttled(context.Context, time.Duration)                 {}
func (noopTelemetry) TokenRefresh(context.Context, error)                      {}

func orNoop(t Telemetry) Telemetry {
	if t == nil {
		return noopTelemetry{}
	}
	return t
}

// Now returns the local time, or the time of Graph's clock where that is earlier by more than a minute. What must not happen
// too early, such as giving up an old gap, goes by it, so that a local clock that is ahead causes no loss.
func (c *Client) Now() time.Time { return c.clock.now() }

// Answered reports whether Graph has sent any response. Until then Now is the local time.
func (c *Client) Answered() bool { return c.clock.answered.Load() }

// maxObeyedRetryAfter bounds the wait, so that an absurd header does not stop the receiver for good.
const maxObeyedRetryAfter = time.Hour

// RetryAfter returns the Retry-After of Graph or Entra ID, at most an hour, or 0 if there was none.
func RetryAfter(err error) time.Duration {
	var wait time.Duration
	if e, ok := errors.AsType[*Error](err); ok {
		wait = e.RetryAfter
	}
	if e, ok := errors.AsType[*TokenError](err); ok {
		wait = max(wait, e.RetryAfter)
	}
	return min(wait, maxObeyedRetryAfter)
}
