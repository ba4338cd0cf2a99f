// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/semaphore"
)

// TokenSource provides access tokens. Its errors are a *TokenError or the error of the context.
type TokenSource interface {
	// Token returns a valid token, a fresh one if possible where that is asked for: Graph stores the token of some calls, and
	// requires a reauthorization when it expires.
	Token(ctx context.Context, fresh bool) (string, error)
	// Drop removes a token that Graph rejected.
	Drop(token string)
}

const (
	// renewalMargin is how long before its expiry a token is replaced, at most a fifth of its lifetime.
	renewalMargin = 5 * time.Minute
	// defaultTokenLifetime is assumed where the response does not state a lifetime.
	defaultTokenLifetime = 5 * time.Minute
	// renewalRetryDelay is the time between a failed renewal and the next attempt; the current token is used meanwhile.
	renewalRetryDelay = 30 * time.Second
	// freshTokenAge is the age up to which a token is fresh.
	freshTokenAge = time.Minute
)

// Tokens caches an access token until shortly before it expires. Concurrent callers that need a new one share one request.
type Tokens struct {
	fetch     func(ctx context.Context) (*oauth2.Token, error)
	telemetry Telemetry
	// requesting is held during a request. A singleflight would either make the shared call on a goroutine without owner, or end
	// it for all callers with the context of the first.
	requesting *semaphore.Weighted

	mu sync.Mutex // guards what follows
	// token is valid until expiry, and to be replaced at renewAt; after a failure not before retryAt.
	token                                string
	obtainedAt, renewAt, retryAt, expiry time.Time
	// failure is the error of the last request that failed without a valid token, at failedAt.
	failure  error
	failedAt time.Time
}

var _ TokenSource = (*Tokens)(nil)

// NewTokens returns a token source for one credential. It reads no files; each token request does.
func NewTokens(s CredentialSettings) *Tokens {
	s.HTTP = withoutRedirects(s.HTTP)
	return &Tokens{fetch: s.fetch, telemetry: s.Telemetry, requesting: semaphore.NewWeighted(1)}
}

// Drop implements TokenSource. A token that has replaced the rejected one meanwhile stays.
func (t *Tokens) Drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token {
		t.expiry = time.Time{}
	}
}

// Token returns the cached token, or waits for a new one. A failed renewal is not an error while the cached token is valid.
func (t *Tokens) Token(ctx context.Context, fresh bool) (string, error) {
	began := time.Now()
	if token, err := t.lookup(fresh, began); token != "" || err != nil {
		return token, err
	}
	if err := t.requesting.Acquire(ctx, 1); err != nil {
		return "", fmt.Errorf("wait for an access token: %w", err)
	}
	defer t.requesting.Release(1)
	// The request that this caller has waited for was its own as well.
	if token, err := t.lookup(fresh, began); token != "" || err != nil {
		return token, err
	}
	return t.request(ctx)
}

// lookup returns the token unless it has expired or is to be replaced now, else the failure of a request that ended after began, or
// after which Entra ID asked to wait until later than now. It returns neither if a request is to be made.
func (t *Tokens) lookup(fresh bool, began time.Time) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, renewAt := time.Now(), t.renewAt
	if fresh {
		renewAt = t.obtainedAt.Add(freshTokenAge)
	}
	switch {
	case now.Before(t.expiry) && (now.Before(renewAt) || now.Before(t.retryAt)):
		return t.token, nil
	case t.failedAt.After(began), now.Before(t.failedAt.Add(RetryAfter(t.failure))):
		return "", t.failure
	default:
		return "", nil
	}
}

// request requests a token, with the context of one of the callers that need it. A failure counts for the others unless that
// context has ended.
func (t *Tokens) request(ctx context.Context) (string, error) {
	issued, err := t.fetch(ctx)
	t.telemetry.TokenRefresh(ctx, err)

	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		expiry := issued.Expiry
		if expiry.IsZero() {
			expiry = now.Add(defaultTokenLifetime)
		}
		margin := min(renewalMargin, expiry.Sub(now)/5)
		t.token, t.obtainedAt, t.renewAt, t.expiry = issued.AccessToken, now, expiry.Add(-margin), expiry
		return t.token, nil
	case now.Before(t.expiry):
		if ctx.Err() == nil {
			t.retryAt = now.Add(max(renewalRetryDelay, RetryAfter(err)))
		}
		return t.token, nil
	case ctx.Err() == nil:
		t.failure, t.failedAt = err, now
	}
	return "", err
}
