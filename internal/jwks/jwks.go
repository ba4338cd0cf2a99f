// Package jwks caches the public RSA keys of a remote JSON Web Key Set (RFC 7517).
package jwks

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrUnavailable says that it cannot be decided now whether a key exists: the set could not be fetched, or may not be
// fetched again yet. A later call may succeed.
var ErrUnavailable = errors.New("signing keys are not available")

const (
	// Refreshing after half the lifetime leaves the authority 12 hours to recover before keys are no longer used.
	staleAfter  = 12 * time.Hour
	expireAfter = 24 * time.Hour
	// Unknown keys cause at most one refresh in this interval. Otherwise a sender of tokens could make the receiver flood
	// the authority.
	unknownKeyInterval = time.Minute
	fetchTimeout       = 10 * time.Second
	// The delay after failed fetches is 1, 2, 4, 8, then 10 seconds, or what Retry-After asks for up to an hour. It must stay
	// well below the 4 hours for which Graph resends a notification.
	minRetryDelay = time.Second
	maxRetryDelay = 10 * time.Second
	maxRetryAfter = time.Hour

	maxBodySize = 1 << 20
	minKeyBits  = 2048
	maxKeyBits  = 8192
)

// Settings configure a KeySet.
type Settings struct {
	// URL is that of the key set, for example https://login.microsoftonline.com/common/discovery/v2.0/keys
	URL string
	// HTTP makes the requests, except that redirects are not followed. If nil, a default client is used.
	HTTP *http.Client
}

// KeySet is a cached remote key set.
//
// Keys are refreshed in the background after 12 hours and not used after 24. An unknown key causes an immediate refresh, at
// most once a minute; the first fetch and failed fetches do not count. After failures the next attempt is delayed by 1, 2,
// 4, 8, then 10 seconds, and at least by Retry-After (at most an hour), however many callers there are. At most one fetch
// runs at a time, for at most 10 seconds. All waiting callers share its result, and it continues when one of them gives up.
type KeySet struct {
	url  string
	http *http.Client
	// fetches lets Close wait for the running fetch.
	fetches sync.WaitGroup

	// mu guards everything below.
	mu        sync.Mutex
	keys      map[string]*rsa.PublicKey // by kid; nil until a fetch succeeded; a map is never modified
	fetchedAt time.Time
	// lastSearch is when the last successful refresh for an unknown key started.
	lastSearch time.Time
	// failures counts consecutive failed fetches; lastErr is the error of the last one, retryAt when the next may start.
	failures int
	retryAt  time.Time
	lastErr  error
	running  *fetch // nil if no fetch is running
	closed   bool
}

// fetch is a request for the key set. keys and err may be read once done is closed.
type fetch struct {
	done    chan struct{}
	cancel  context.CancelFunc
	started time.Time
	search  bool // caused by an unknown key
	keys    map[string]*rsa.PublicKey
	err     error
}

// New returns a KeySet that fetches nothing until the first call of Key. It must be closed after use.
func New(settings Settings) *KeySet {
	client := http.Client{}
	if settings.HTTP != nil {
		client = *settings.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &KeySet{url: settings.URL, http: &client}
}

// Key returns the key with this id. It makes or waits for a request only if no current key has this id.
//
// known is false with a nil error if the set, fetched just now, has no such key. The error wraps ErrUnavailable or the
// context's error.
func (s *KeySet) Key(ctx context.Context, kid string) (key *rsa.PublicKey, known bool, err error) {
	key, pending, err := s.lookup(ctx, kid, time.Now())
	if pending == nil {
		return key, key != nil, err
	}
	select {
	case <-pending.done:
	case <-ctx.Done():
		return nil, false, fmt.Errorf("wait for the signing keys: %w", ctx.Err())
	}
	if pending.err != nil {
		return nil, false, pending.err
	}
	key, known = pending.keys[kid]
	return key, known, nil
}

// Close cancels the running fetch and waits until it ended. Cached keys remain usable.
func (s *KeySet) Close() {
	s.mu.Lock()
	s.closed = true
	if s.running != nil {
		s.running.cancel()
	}
	s.mu.Unlock()
	s.fetches.Wait()
}

// lookup returns exactly one of the cached key, the fetch to wait for, and an error.
func (s *KeySet) lookup(ctx context.Context, kid string, now time.Time) (*rsa.PublicKey, *fetch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := now.Sub(s.fetchedAt)
	usable := s.keys != nil && age < expireAfter
	if key, known := s.keys[kid]; known && usable {
		if age >= staleAfter && s.running == nil && s.mayFetch(now) == nil {
			s.start(ctx, now, false)
		}
		return key, nil, nil
	}
	if s.running != nil {
		return nil, s.running, nil
	}
	if wait := unknownKeyInterval - now.Sub(s.lastSearch); usable && wait > 0 {
		return nil, nil, fmt.Errorf("%w: unknown key, and the next refresh is in %s", ErrUnavailable, wait.Round(time.Second))
	}
	if err := s.mayFetch(now); err != nil {
		return nil, nil, err
	}
	s.start(ctx, now, usable)
	return nil, s.running, nil
}

// mayFetch must be called with mu held.
func (s *KeySet) mayFetch(now time.Time) error {
	if s.closed {
		return fmt.Errorf("%w: shutting down", ErrUnavailable)
	}
	if s.failures > 0 && now.Before(s.retryAt) {
		return s.lastErr
	}
	return nil
}

// retryDelay returns the delay after this many consecutive failures, of which err is the last.
func retryDelay(failures int, err error) time.Duration {
	const maxDoublings = 4 // exceeds maxRetryDelay
	delay := min(minRetryDelay<<min(failures-1, maxDoublings), maxRetryDelay)
	if status, ok := errors.AsType[*statusError](err); ok {
		delay = max(delay, min(status.retryAfter, maxRetryAfter))
	}
	return delay
}

// start must be called with mu held.
func (s *KeySet) start(ctx context.Context, now time.Time, search bool) {
	// Other callers may wait for this fetch, so it must outlive the context of the one that started it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	f := &fetch{done: make(chan struct{}), cancel: cancel, started: now, search: search}
	s.running = f
	s.fetches.Go(func() {
		defer cancel()
		keys, err := fetchKeys(ctx, s.http, s.url)
		s.finish(f, keys, err)
	})
}

func (s *KeySet) finish(f *fetch, keys map[string]*rsa.PublicKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	s.running = nil
	if err != nil {
		f.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		s.failures, s.lastErr = s.failures+1, f.err
		s.retryAt = time.Now().Add(retryDelay(s.failures, err))
		return
	}
	f.keys = keys
	s.keys, s.fetchedAt, s.failures, s.lastErr = keys, time.Now(), 0, nil
	if f.search {
		s.lastSearch = f.started
	}
}

// fetchKeys returns the keys of the set that can verify RS256, by their kid.
func fetchKeys(ctx context.Context, client *http.Client, url string) (map[string]*rsa.PublicKey, error) {
	body, err := fetchBody(ctx, client, url)
	if err != nil {
		return nil, fmt.Errorf("fetch the signing keys, check auth.authority, the proxy and the firewall: %w", err)
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, fmt.Errorf("read the signing keys of %s, check auth.authority and the proxy: %w", url, err)
	}
	return keys, nil
}

func fetchBody(ctx context.Context, client *http.Client, url string) ([]byte, error) {
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
		return nil, &statusError{url: url, status: response.StatusCode, retryAfter: retryAfter(response.Header, time.Now())}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBodySize+1))
	if err != nil {
		return nil, fmt.Errorf("response of %s: %w", url, err)
	}
	if len(body) > maxBodySize {
		return nil, fmt.Errorf("response of %s is larger than %d bytes", url, maxBodySize)
	}
	return body, nil
}

// statusError is a response with another status than 200.
type statusError struct {
	url    string
	status int
	// retryAfter is 0 if the response has no valid Retry-After.
	retryAfter time.Duration
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.url, e.status, http.StatusText(e.status))
	if e.retryAfter > 0 {
		text += " and asked to wait " + e.retryAfter.String()
	}
	return text
}

// retryAfter parses the header of RFC 9110 section 10.2.3: seconds or a date.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(until.Sub(now).Round(time.Second), 0)
}

// parseKeys parses each key on its own, since a key that is not understood must be ignored (RFC 7517 section 5).
func parseKeys(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil || key.KeyID == "" {
			continue
		}
		public, ok := signingKey(key)
		if _, duplicate := keys[key.KeyID]; ok && !duplicate {
			keys[key.KeyID] = public
		}
	}
	// With an empty set every token would be refused, although the previous set may still be valid.
	if len(keys) == 0 {
		return nil, errors.New("no RSA signing key in the set")
	}
	return keys, nil
}

// parseKey parses only the members of an RSA key. The certificate members (x5c, x5t) are not used, and an error in them
// must not make the key unusable.
func parseKey(raw json.RawMessage) (*jose.JSONWebKey, error) {
	type public struct {
		Type      string `json:"kty"`
		ID        string `json:"kid"`
		Use       string `json:"use,omitempty"`
		Algorithm string `json:"alg,omitempty"`
		Modulus   string `json:"n"`
		Exponent  string `json:"e"`
	}
	var members struct {
		public
		Private json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	if members.Private != nil {
		return nil, errors.New("a published private key is not secret")
	}
	plain, err := json.Marshal(members.public)
	if err != nil {
		return nil, err
	}
	var key jose.JSONWebKey
	return &key, key.UnmarshalJSON(plain)
}

// signingKey accepts public RSA keys for RS256 signatures of 2048 to 8192 bits. A key without use or alg may be used for
// any purpose.
func signingKey(key *jose.JSONWebKey) (*rsa.PublicKey, bool) {
	public, ok := key.Key.(*rsa.PublicKey)
	if !ok || (key.Use != "" && key.Use != "sig") || (key.Algorithm != "" && key.Algorithm != string(jose.RS256)) {
		return nil, false
	}
	bits := public.N.BitLen()
	return public, bits >= minKeyBits && bits <= maxKeyBits
}
