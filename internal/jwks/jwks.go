// SPDX-License-Identifier: Apache-2.0

// Package jwks caches the public RSA keys of a remote JSON Web Key Set (RFC 7517).
package jwks

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/singleflight"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// ErrUnavailable says that it cannot be decided now whether a key exists: the set could not be fetched, or may not be
// fetched again yet. A later call may succeed.
var ErrUnavailable = failure.With(errors.New("signing keys are not available"), failure.New(failure.SigningKeysUnavailable))

const (
	// Refreshing after half the lifetime leaves the authority 12 hours to recover before keys are no longer used.
	staleAfter  = 12 * time.Hour
	expireAfter = 24 * time.Hour
	// Unknown keys cause at most one refresh in this interval. Otherwise a sender of tokens could make the receiver flood
	// the authority.
	unknownKeyInterval = time.Minute
	fetchTimeout       = 10 * time.Second
	// The delay after failed fetches must stay well below the 4 hours for which Graph resends a notification.
	minRetryDelay = time.Second
	maxRetryDelay = 10 * time.Second

	maxBodySize = 1 << 20
	minKeyBits  = 2048
	maxKeyBits  = 8192
)

// KeySet is a cached remote key set.
//
// Keys are refreshed in the background after 12 hours and not used after 24. An unknown key causes an immediate refresh, but not
// within a minute of another; the first fetch and failed fetches do not count. After failures the next attempt is delayed by 1,
// 2, 4, 8, then 10 seconds, however many callers there are. At most one fetch runs at a time, for at most 10 seconds. All waiting
// callers share its result, and it continues when one of them gives up.
type KeySet struct {
	url  string
	http *http.Client
	// closing ends the fetches when Close is called.
	closing context.Context
	close   context.CancelFunc
	fetches singleflight.Group

	// mu guards everything below.
	mu        sync.Mutex
	keys      map[string]*rsa.PublicKey // by kid; a map is never modified
	fetchedAt time.Time
	// searchAt is when an unknown key may cause a refresh.
	searchAt time.Time
	// lastErr is the error of the last fetch, nil if it succeeded; retryAt is when the next fetch may start.
	lastErr error
	retryAt time.Time
	backOff backoff.ExponentialBackOff
}

// New returns the KeySet at a URL, for example https://login.microsoftonline.com/common/discovery/v2.0/keys. The client makes
// the requests, except that redirects are not followed. Nothing is fetched until the first call of Key. The KeySet must be
// closed after use.
func New(url string, client *http.Client) *KeySet {
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	closing, closeAll := context.WithCancel(context.Background())
	return &KeySet{
		url: url, http: &direct, closing: closing, close: closeAll,
		backOff: backoff.ExponentialBackOff{InitialInterval: minRetryDelay, Multiplier: 2, MaxInterval: maxRetryDelay},
	}
}

// Key returns the key with this id. It makes or waits for a request only if no current key has this id.
//
// known is false with a nil error if the set, fetched just now, has no such key. The error wraps ErrUnavailable or the
// context's error.
func (s *KeySet) Key(ctx context.Context, kid string) (key *rsa.PublicKey, known bool, err error) {
	key, fetched, err := s.lookup(kid, time.Now())
	if key != nil || err != nil {
		return key, key != nil, err
	}
	select {
	case result := <-fetched:
		if result.Err != nil {
			return nil, false, result.Err
		}
		key, known = result.Val.(map[string]*rsa.PublicKey)[kid]
		return key, known, nil
	case <-ctx.Done():
		return nil, false, fmt.Errorf("wait for the signing keys: %w", ctx.Err())
	}
}

// Close cancels the running fetch and waits until it ended. Cached keys remain usable.
func (s *KeySet) Close() {
	s.close()
	// It waits for the running fetch, or starts one that ends at once.
	_, _, _ = s.fetches.Do("", s.fetch)
}

// lookup returns exactly one of the cached key, the result of the fetch to wait for, and an error.
func (s *KeySet) lookup(kid string, now time.Time) (*rsa.PublicKey, <-chan singleflight.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := now.Sub(s.fetchedAt)
	usable := age < expireAfter
	key, known := s.keys[kid]
	known = known && usable
	switch {
	case known && (age < staleAfter || now.Before(s.retryAt)):
		return key, nil, nil
	case known: // refreshed in the background
		s.fetches.DoChan("", s.fetch)
		return key, nil, nil
	case now.Before(s.retryAt):
		return nil, nil, s.lastErr
	case usable && now.Before(s.searchAt):
		wait := s.searchAt.Sub(now).Round(time.Second)
		return nil, nil, fmt.Errorf("%w: unknown key, and the next refresh is in %s", ErrUnavailable, wait)
	default:
		return nil, s.fetches.DoChan("", s.fetch), nil
	}
}

// fetch fetches the keys and returns them as a map by kid. It is not bound to the context of the caller that started it, since
// others may wait for it.
func (s *KeySet) fetch() (any, error) {
	if s.closing.Err() != nil {
		return nil, fmt.Errorf("%w: shutting down", ErrUnavailable)
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(s.closing, fetchTimeout)
	defer cancel()
	keys, err := fetchKeys(ctx, s.http, s.url)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.lastErr = fmt.Errorf("%w: %w", ErrUnavailable, err)
		s.retryAt = time.Now().Add(s.backOff.NextBackOff())
		return nil, s.lastErr
	}
	if s.keys != nil {
		s.searchAt = started.Add(unknownKeyInterval)
	}
	s.keys, s.fetchedAt, s.lastErr, s.retryAt = keys, time.Now(), nil, time.Time{}
	s.backOff.Reset()
	return keys, nil
}

// fetchKeys returns the keys of the set that can verify RS256, by their kid.
func fetchKeys(ctx context.Context, client *http.Client, url string) (map[string]*rsa.PublicKey, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d %s", url, response.StatusCode, http.StatusText(response.StatusCode))
	}
	// What is cut off here is not valid JSON any more.
	keys, err := parseKeys(io.LimitReader(response.Body, maxBodySize))
	if err != nil {
		return nil, fmt.Errorf("response of %s: %w", url, err)
	}
	return keys, nil
}

// parseKeys parses each key on its own, since a key that is not understood must be ignored (RFC 7517 section 5).
func parseKeys(body io.Reader) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(body).Decode(&set); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys {
		kid, key := parseKey(raw)
		if _, duplicate := keys[kid]; key != nil && !duplicate {
			keys[kid] = key
		}
	}
	// With an empty set every token would be refused, although the previous set may still be valid.
	if len(keys) == 0 {
		return nil, errors.New("no RSA signing key in the set")
	}
	return keys, nil
}

// parseKey returns a public RSA key of 2048 to 8192 bits for RS256 signatures with its kid, nil for any other key. A key without use
// or alg may be used for any purpose. The certificate members (x5c, x5t) are not used, and an error in them does no harm. A
// published private key is no secret, so it proves nothing.
func parseKey(raw json.RawMessage) (kid string, key *rsa.PublicKey) {
	var members struct {
		Type      string          `json:"kty"`
		ID        string          `json:"kid"`
		Use       string          `json:"use"`
		Algorithm string          `json:"alg"`
		Modulus   string          `json:"n"`
		Exponent  string          `json:"e"`
		Private   json.RawMessage `json:"d"`
	}
	err := json.Unmarshal(raw, &members)
	modulus, modulusErr := base64.RawURLEncoding.DecodeString(members.Modulus)
	exponent, exponentErr := base64.RawURLEncoding.DecodeString(members.Exponent)
	if errors.Join(err, modulusErr, exponentErr) != nil || members.ID == "" || members.Type != "RSA" || members.Private != nil ||
		members.Use != "" && members.Use != "sig" || members.Algorithm != "" && members.Algorithm != "RS256" {
		return "", nil
	}
	key = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits || key.E < 3 || key.E > math.MaxInt32 {
		return "", nil
	}
	return members.ID, key
}
