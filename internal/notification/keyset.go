package notification

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

var (
	// ErrKeysUnavailable tells that nothing can be said of a token now, because its key could not be fetched or may not be
	// asked for yet. Later the answer may be another one.
	ErrKeysUnavailable = errors.New("signing keys of the authority are not available")
	// ErrUnknownKey tells that the authority, asked just now, has no such key.
	ErrUnknownKey = errors.New("unknown signing key")
)

// KeySource gives the public key that a token names. The error wraps ErrUnknownKey when there is certainly no such key, the
// context's error, or else ErrKeysUnavailable.
type KeySource interface {
	Key(ctx context.Context, kid string) (*rsa.PublicKey, error)
}

const (
	// The keys are refreshed aside after half a day, so that the authority may be out of reach for as long again
	// before a day is over and nothing is verified with them anymore.
	keysStaleAfter  = 12 * time.Hour
	keysExpireAfter = 24 * time.Hour
	// An unknown key leads to a refresh once in this time, or a sender could make us flood the authority.
	unknownKeyEvery = time.Minute
	fetchTimeout    = 10 * time.Second
	// After a failure the next attempt waits 1, 2, 4, 8, then 10 seconds, or as long as the authority asks for, though not
	// longer than an hour: Graph sends again for four.
	firstRetryAfter   = time.Second
	lastRetryAfter    = 10 * time.Second
	longestRetryAfter = time.Hour
)

// KeySetSettings say where the keys are.
type KeySetSettings struct {
	// JWKSURL is the authority's JSON Web Key Set (RFC 7517), for example
	// https://login.microsoftonline.com/common/discovery/v2.0/keys
	JWKSURL string
	// HTTP makes the calls, except that redirects are not followed; nil stands for a client of its own.
	HTTP *http.Client
}

// KeySet is the remote key set of the authority.
//
// Keys are cached, refreshed in the background after 12 hours, and not used after 24. An unknown key leads to a refresh at
// once, but at most once a minute; the first fetch and failed ones do not count for that. After a failure the next attempt
// waits 1, 2, 4, 8, then 10 seconds, and at least as long as Retry-After says, however many ask. There is one fetch at a time, for at most 10 seconds, and its outcome
// is that of all who wait; it goes on when one of them gives up.
type KeySet struct {
	url  string
	http *http.Client
	// fetches are waited for by Close.
	fetches sync.WaitGroup

	// mu guards everything below.
	mu      sync.Mutex
	keys    map[string]*rsa.PublicKey // nil until a fetch succeeded; a map is never changed
	fetched time.Time                 // when keys came
	// searched is when the last successful refresh for an unknown key began.
	searched time.Time
	// failures in a row, and of the last its error and when the next attempt may be made.
	failures int
	retryAt  time.Time
	failure  error
	running  *fetch // nil when there is none
	closed   bool
}

// fetch is a call to the authority. keys and err may be read once done is closed.
type fetch struct {
	done   chan struct{}
	cancel context.CancelFunc
	began  time.Time
	search bool // for an unknown key
	keys   map[string]*rsa.PublicKey
	err    error
}

// NewKeySet makes no call yet. Close it when it is not needed anymore.
func NewKeySet(settings KeySetSettings) *KeySet {
	client := http.Client{}
	if settings.HTTP != nil {
		client = *settings.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &KeySet{url: settings.JWKSURL, http: &client}
}

// Key implements KeySource. It waits for the authority only when it has to.
func (s *KeySet) Key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	key, pending, err := s.look(ctx, kid, time.Now())
	if pending == nil {
		return key, err
	}
	select {
	case <-pending.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the signing keys: %w", ctx.Err())
	}
	if pending.err != nil {
		return nil, pending.err
	}
	if key, known := pending.keys[kid]; known {
		return key, nil
	}
	return nil, fmt.Errorf("%w: the authority does not have it", ErrUnknownKey)
}

// Close ends a fetch under way and waits for that. What is cached stays usable.
func (s *KeySet) Close() {
	s.mu.Lock()
	s.closed = true
	if s.running != nil {
		s.running.cancel()
	}
	s.mu.Unlock()
	s.fetches.Wait()
}

// look gives the key, or the fetch to wait for, or the reason why there is neither.
func (s *KeySet) look(ctx context.Context, kid string, now time.Time) (*rsa.PublicKey, *fetch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := now.Sub(s.fetched)
	usable := s.keys != nil && age < keysExpireAfter
	if key, known := s.keys[kid]; known && usable {
		if age >= keysStaleAfter && s.running == nil && s.mayFetch(now) == nil {
			s.start(ctx, now, false)
		}
		return key, nil, nil
	}
	if s.running != nil {
		return nil, s.running, nil
	}
	if wait := unknownKeyEvery - now.Sub(s.searched); usable && wait > 0 {
		return nil, nil, fmt.Errorf("%w: unknown key, and the next refresh is in %s", ErrKeysUnavailable, wait.Round(time.Second))
	}
	if err := s.mayFetch(now); err != nil {
		return nil, nil, err
	}
	s.start(ctx, now, usable)
	return nil, s.running, nil
}

// mayFetch is called with mu held.
func (s *KeySet) mayFetch(now time.Time) error {
	if s.closed {
		return fmt.Errorf("%w: shutting down", ErrKeysUnavailable)
	}
	if s.failures > 0 && now.Before(s.retryAt) {
		return s.failure
	}
	return nil
}

// pause is how long to wait after so many failures in a row, the last of which was this one.
func pause(failures int, err error) time.Duration {
	const doublings = 4 // enough to pass lastRetryAfter
	wait := min(firstRetryAfter<<min(failures-1, doublings), lastRetryAfter)
	if refused, ok := errors.AsType[*refusedKeys](err); ok {
		wait = max(wait, min(refused.retryAfter, longestRetryAfter))
	}
	return wait
}

// start is called with mu held.
func (s *KeySet) start(ctx context.Context, now time.Time, search bool) {
	// Others may wait for this fetch, so it must outlive the one who happened to start it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	f := &fetch{done: make(chan struct{}), cancel: cancel, began: now, search: search}
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
		f.err = fmt.Errorf("%w: %w", ErrKeysUnavailable, err)
		s.failures, s.failure = s.failures+1, f.err
		s.retryAt = time.Now().Add(pause(s.failures, err))
		return
	}
	f.keys = keys
	s.keys, s.fetched, s.failures, s.failure = keys, time.Now(), 0, nil
	if f.search {
		s.searched = f.began
	}
}
