// Package graph is the REST client of Microsoft Graph: access tokens, subscriptions, the history of interactions, licensed
// users, typed errors and their mends.
// Each call is one attempt; who calls decides when to try again.
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
	// maxBody is far above a page of subscriptions and far below what hurts.
	maxBody        = 4 << 20
	defaultTimeout = 30 * time.Second
)

// Settings is what a Client needs.
type Settings struct {
	// Endpoint is the root of Graph without the version: https://graph.microsoft.com. A path is kept.
	Endpoint string
	// HTTP makes the calls. It is copied, and the copy follows no redirects. Nil is a plain client with a timeout of 30 s.
	HTTP *http.Client
	// Tokens gives the access token of each call. Nil where HTTP authenticates by itself, as with an authenticator extension.
	Tokens TokenSource
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Client calls Graph. It may be used by many goroutines at once.
type Client struct {
	base      *url.URL
	baseErr   error
	http      *http.Client
	tokens    TokenSource
	telemetry Telemetry
}

// New returns a client. An endpoint that is no absolute URL fails each call.
func New(s Settings) *Client {
	c := &Client{http: withoutRedirects(s.HTTP), tokens: s.Tokens, telemetry: orNoop(s.Telemetry)}
	c.base, c.baseErr = url.Parse(strings.TrimRight(s.Endpoint, "/"))
	if c.baseErr == nil && c.base.Host == "" {
		c.baseErr = fmt.Errorf("graph.endpoint %q is not an absolute URL", s.Endpoint)
	}
	return c
}

// withoutRedirects copies a client such that a redirect is an answer like any other.
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
	// operation names it in errors and telemetry: a few fixed words, never an id.
	operation, method string
	// target is a path below the version, such as /subscriptions, or an absolute URL that Graph sent.
	target string
	// body is what is sent as JSON, nil for nothing.
	body any
	// header is sent beside what every call sends.
	header map[string]string
	// fresh asks for a token with all of its life before it.
	fresh bool
	// limit bounds the answer in bytes; 0 is maxBody.
	limit int64
}

// response is what came back, read whole.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call and decodes a successful answer into out, unless out is nil or the answer is empty.
// Where Graph refuses the token, as after a revocation, the call is repeated once with a new one.
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

// decode turns an answer into a value or an error.
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
	// The decoder's error may quote the answer.
	if json.Unmarshal(a.body, out) != nil {
		return fmt.Errorf("%s: status %d: %w", operation, a.status, ErrUnreadable)
	}
	return nil
}

// resolve returns the URL of a call and refuses any that is not at the endpoint: this is the one place where it is decided
// who may see the access token.
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

// renewToken drops a refused token and asks for another; where the source keeps none, the refused one comes back.
func (c *Client) renewToken(ctx context.Context, refused string) (string, error) {
	source, ok := c.tokens.(interface{ Drop(token string) })
	if !ok {
		return refused, nil
	}
	source.Drop(refused)
	return c.tokens.Token(ctx)
}

// exchange sends one request and reads the whole answer.
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
	if resp.StatusCode/100 != 2 {
		limit = min(limit, maxBody) // errors are small
	}
	body, err := readBody(resp.Body, limit)
	if err != nil {
		return response{}, err
	}
	return response{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// transportError returns what is safe and useful of a failed round trip. The URL is taken off, as it may name a user; the failure of
// an authenticator extension is read like one of our own credentials.
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
	defer func() { _ = body.Close() }() // what was read is whole, or its error is reported
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, ErrTooLarge
	}
	return data, nil
}

// newGUID returns a random UUID (RFC 9562, section 5.4), the form that Graph wants of a client-request-id.
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Telemetry takes what this package has to report. Its methods are called on the goroutine of the call they report,
// by many goroutines at once, and must not block.
type Telemetry interface {
	// GraphRequest reports one HTTP exchange with Graph. Status is 0 where no whole answer came back.
	GraphRequest(ctx context.Context, operation string, status int, took time.Duration)
	// Throttled reports that Graph answered 429 or 503 and for how long it asked to stay away.
	Throttled(ctx context.Context, wait time.Duration)
	// TokenRefresh reports one request for an access token; err is nil where it succeeded.
	TokenRefresh(ctx context.Context, err error)
}

// noopTelemetry is the Telemetry of those who set none.
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

// maxObeyedRetryAfter bounds what is obeyed, so that an absurd header does not end the receiver's work for good.
const maxObeyedRetryAfter = time.Hour

// RetryAfter returns how long Graph or Entra ID asked to stay away, at most an hour; 0 where they did not.
func RetryAfter(err error) time.Duration {
	var asked time.Duration
	if e, ok := errors.AsType[*Error](err); ok {
		asked = e.RetryAfter
	}
	if e, ok := errors.AsType[*TokenError](err); ok {
		asked = max(asked, e.RetryAfter)
	}
	return min(asked, maxObeyedRetryAfter)
}
