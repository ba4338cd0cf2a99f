package notification_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// authority is a RoundTripper that answers with the keys it has now.
type authority struct {
	calls atomic.Int32
	takes time.Duration // for each call
	mu    sync.Mutex
	body  string
	err   error
	// refusal is the Retry-After of a 429, empty for none.
	refusal string
}

func (a *authority) RoundTrip(request *http.Request) (*http.Response, error) {
	a.calls.Add(1)
	select {
	case <-time.After(a.takes):
	case <-request.Context().Done():
		return nil, request.Context().Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	if a.refusal != "" {
		return &http.Response{
			StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {a.refusal}}, Body: http.NoBody, Request: request,
		}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(a.body)), Request: request}, nil
}

func (a *authority) set(body string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body, a.err = body, err
}

func (a *authority) keySet() *notification.KeySet {
	return notification.NewKeySet(notification.KeySetSettings{
		JWKSURL: "https://login.example/keys",
		HTTP:    &http.Client{Transport: a},
	})
}

// jwks is the key set with these kids, all of the same key.
func jwks(tb testing.TB, kids ...string) string {
	tb.Helper()
	var set jose.JSONWebKeySet
	for _, kid := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &authorityKey(tb, "first").PublicKey, KeyID: kid, Use: "sig"})
	}
	body, err := json.Marshal(set)
	require.NoError(tb, err)
	return string(body)
}

var errDown = errors.New("authority is down")

func TestKeysAreFetchedOnceAndCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a", "b")}
		set := server.keySet()
		defer set.Close()
		assert.Zero(t, server.calls.Load(), "nothing is fetched before it is needed")
		for _, kid := range []string{"a", "b", "a"} {
			key, err := set.Key(t.Context(), kid)
			require.NoError(t, err)
			assert.True(t, key.Equal(&authorityKey(t, "first").PublicKey))
		}
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func TestUnknownKeyLeadsToARefreshAtMostOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a")}
		set := server.keySet()
		defer set.Close()
		ask := func(kid string) error {
			_, err := set.Key(t.Context(), kid)
			return err
		}
		require.NoError(t, ask("a"))

		server.set(jwks(t, "b"), nil)
		require.NoError(t, ask("b"), "the first fetch does not count")
		require.EqualValues(t, 2, server.calls.Load())

		server.set(jwks(t, "c"), nil)
		time.Sleep(59 * time.Second)
		require.ErrorIs(t, ask("c"), notification.ErrKeysUnavailable, "not allowed yet, so nobody can say")
		require.NoError(t, ask("b"), "what is known is known")
		require.EqualValues(t, 2, server.calls.Load())

		time.Sleep(time.Second)
		require.NoError(t, ask("c"))
		require.EqualValues(t, 3, server.calls.Load())

		time.Sleep(time.Minute)
		err := ask("d")
		require.ErrorIs(t, err, notification.ErrUnknownKey, "asked just now")
		require.NotErrorIs(t, err, notification.ErrKeysUnavailable)
		require.ErrorIs(t, ask("d"), notification.ErrKeysUnavailable)
		require.EqualValues(t, 4, server.calls.Load())
	})
}

func TestUnknownKeyInTheFirstFetchIsCertain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a")}
		set := server.keySet()
		defer set.Close()
		_, err := set.Key(t.Context(), "x")
		require.ErrorIs(t, err, notification.ErrUnknownKey)
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func TestKeysAreRefreshedAsideAndNotUsedAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a"), takes: time.Second}
		set := server.keySet()
		defer set.Close()
		ask := func() (time.Duration, error) {
			began := time.Now()
			_, err := set.Key(t.Context(), "a")
			return time.Since(began), err
		}
		waited, err := ask()
		require.NoError(t, err)
		require.Equal(t, time.Second, waited)

		time.Sleep(12 * time.Hour)
		waited, err = ask()
		require.NoError(t, err)
		require.Zero(t, waited, "refreshed aside")
		_, err = ask()
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, server.calls.Load())

		server.set("", errDown)
		time.Sleep(12*time.Hour + time.Minute)
		_, err = ask()
		require.NoError(t, err, "the authority may be out of reach for half a day")
		time.Sleep(12 * time.Hour)
		_, err = ask()
		require.ErrorIs(t, err, notification.ErrKeysUnavailable, "nothing is verified with keys of yesterday")
		require.ErrorIs(t, err, errDown)

		server.set(jwks(t, "a"), nil)
		time.Sleep(10 * time.Second)
		_, err = ask()
		require.NoError(t, err)
	})
}

func TestFailedFetchesAreNeitherAStormNorALockout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{err: errDown}
		set := server.keySet()
		defer set.Close()
		began := time.Now()
		var attempts []time.Duration
		for range 500 {
			before := server.calls.Load()
			_, err := set.Key(t.Context(), "a")
			require.ErrorIs(t, err, notification.ErrKeysUnavailable)
			require.ErrorIs(t, err, errDown)
			if server.calls.Load() > before {
				attempts = append(attempts, time.Since(began))
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Equal(t, []time.Duration{0, 1e9, 3e9, 7e9, 15e9, 25e9, 35e9, 45e9}, attempts)

		server.set(jwks(t, "a"), nil)
		time.Sleep(10 * time.Second)
		_, err := set.Key(t.Context(), "a")
		require.NoError(t, err)
	})
}

func TestFailedRefreshDoesNotUseUpTheMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a")}
		set := server.keySet()
		defer set.Close()
		_, err := set.Key(t.Context(), "a")
		require.NoError(t, err)

		server.set("", errDown)
		for range 5 {
			_, err = set.Key(t.Context(), "b")
			require.ErrorIs(t, err, notification.ErrKeysUnavailable)
		}
		require.EqualValues(t, 2, server.calls.Load())
		_, err = set.Key(t.Context(), "a")
		require.NoError(t, err, "what is known is known")

		server.set(jwks(t, "a", "b"), nil)
		time.Sleep(time.Second)
		_, err = set.Key(t.Context(), "b")
		require.NoError(t, err)
	})
}

func TestConcurrentFetchesCollapseIntoOneThatOutlivesItsCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a"), takes: 5 * time.Second}
		set := server.keySet()
		defer set.Close()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := set.Key(impatient, "a")
			assert.True(t, errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, notification.ErrKeysUnavailable), "%v", err)
		})
		synctest.Wait()
		for range 50 {
			callers.Go(func() {
				_, err := set.Key(t.Context(), "a")
				assert.NoError(t, err)
			})
		}
		callers.Wait()
		assert.EqualValues(t, 1, server.calls.Load())
	})
}

func TestFetchIsBoundedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{takes: time.Hour}
		set := server.keySet()
		defer set.Close()
		began := time.Now()
		_, err := set.Key(t.Context(), "a")
		require.ErrorIs(t, err, notification.ErrKeysUnavailable)
		assert.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestCloseEndsTheFetchUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &authority{body: jwks(t, "a"), takes: 5 * time.Second}
		set := server.keySet()
		began := time.Now()
		var caller sync.WaitGroup
		caller.Go(func() {
			_, err := set.Key(t.Context(), "a")
			assert.ErrorIs(t, err, notification.ErrKeysUnavailable)
		})
		synctest.Wait()
		set.Close()
		caller.Wait()
		assert.Zero(t, time.Since(began))
		time.Sleep(time.Minute)
		_, err := set.Key(t.Context(), "a")
		require.ErrorIs(t, err, notification.ErrKeysUnavailable)
		assert.EqualValues(t, 1, server.calls.Load())
	})
}
