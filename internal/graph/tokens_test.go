// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// slowTokenEndpoint is a token endpoint without a network that answers after a second.
type slowTokenEndpoint struct {
	mu       sync.Mutex
	calls    int
	lifetime int // in seconds; 0 omits it from the response
	down     bool
	// throttled is the Retry-After of a 429, 0 for none.
	throttled int
}

func (e *slowTokenEndpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Second):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if e.down {
		return nil, errors.New("down")
	}
	if e.throttled > 0 {
		return jsonReply(429, `{"error":"temporarily_unavailable"}`, "Retry-After", strconv.Itoa(e.throttled)), nil
	}
	if e.lifetime == 0 {
		return jsonReply(200, fmt.Sprintf(`{"access_token":"token-%d"}`, e.calls)), nil
	}
	return jsonReply(200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":%d}`, e.calls, e.lifetime)), nil
}

func (e *slowTokenEndpoint) source(telemetry *recordingTelemetry) *graph.Tokens {
	return newTokens(graph.CredentialSettings{
		TokenURL: "https://login.example.com/token", ClientID: "app", Secret: "hush", HTTP: &http.Client{Transport: e}, Telemetry: telemetry,
	})
}

func TestTokens_ReusedUntilShortlyBeforeExpiry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		life    int
		reused  time.Duration
		renewed time.Duration
	}{
		"an hour: 5 minutes before":          {life: 3600, reused: 55*time.Minute - time.Second, renewed: 55 * time.Minute},
		"10 minutes: a fifth of them before": {life: 600, reused: 8*time.Minute - time.Second, renewed: 8 * time.Minute},
		"no lifetime: as for 5 minutes":      {life: 0, reused: 4*time.Minute - time.Second, renewed: 4 * time.Minute},
		"5 seconds: one second before":       {life: 5, reused: 3 * time.Second, renewed: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e, telemetry := &slowTokenEndpoint{lifetime: test.life}, &recordingTelemetry{}
				tokens := e.source(telemetry)
				get := func(want string) {
					t.Helper()
					got, err := tokens.Token(t.Context(), false)
					require.NoError(t, err)
					assert.Equal(t, want, got)
				}
				get("token-1")
				time.Sleep(test.reused)
				get("token-1")
				time.Sleep(test.renewed - test.reused)
				get("token-2")
				assert.Equal(t, []error{nil, nil}, telemetry.refreshes)
			})
		})
	}
}

func TestTokens_ConcurrentCallersShareOneRequest(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"its token": false, "its failure": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := &slowTokenEndpoint{lifetime: 3600, down: down}
				tokens := e.source(&recordingTelemetry{})
				var callers sync.WaitGroup
				for range 20 {
					callers.Go(func() {
						token, err := tokens.Token(t.Context(), false)
						if down {
							assert.Error(t, err)
						} else {
							assert.Equal(t, "token-1", token)
						}
					})
				}
				callers.Wait()
				assert.Equal(t, 1, e.calls)
			})
		})
	}
}

// If the caller that makes the request is canceled, those that wait for it make another one.
func TestTokens_CanceledCallerDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &slowTokenEndpoint{lifetime: 3600}
		tokens := e.source(&recordingTelemetry{})
		first, giveUp := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := tokens.Token(first, false)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		for range 3 {
			callers.Go(func() {
				token, _ := tokens.Token(t.Context(), false)
				assert.Equal(t, "token-1", token)
			})
		}
		synctest.Wait()
		giveUp()
		callers.Wait()
		assert.Equal(t, 1, e.calls)
	})
}

func TestTokens_WaitingCallerHonorsOwnContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &slowTokenEndpoint{lifetime: 3600}
		tokens := e.source(&recordingTelemetry{})
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := tokens.Token(t.Context(), false)
			assert.NoError(t, err)
		})
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		asked := time.Now()
		_, err := tokens.Token(impatient, false)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Millisecond, time.Since(asked))
		callers.Wait()
	})
}

func TestTokens_ValidTokenSurvivesOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, telemetry := &slowTokenEndpoint{lifetime: 3600}, &recordingTelemetry{}
		tokens := e.source(telemetry)
		_, err := tokens.Token(t.Context(), false)
		require.NoError(t, err)
		time.Sleep(56 * time.Minute)
		e.down = true
		for range 10 {
			token, err := tokens.Token(t.Context(), false)
			require.NoError(t, err)
			assert.Equal(t, "token-1", token)
		}
		assert.Equal(t, 2, e.calls, "the next attempt comes half a minute later")
		require.Error(t, telemetry.refreshes[1])
		time.Sleep(31 * time.Second)
		_, err = tokens.Token(t.Context(), false)
		require.NoError(t, err)
		assert.Equal(t, 3, e.calls)
		time.Sleep(4 * time.Minute)
		_, err = tokens.Token(t.Context(), false)
		require.Error(t, err, "the token has expired")
	})
}

// A caller that comes later than the one that was asked to wait has to wait as well.
func TestTokens_CallersShareRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		endpoint := &slowTokenEndpoint{throttled: 30}
		tokens := endpoint.source(&recordingTelemetry{})
		_, err := tokens.Token(t.Context(), false)
		require.Equal(t, 30*time.Second, graph.RetryAfter(err))
		endpoint.throttled = 0

		time.Sleep(30*time.Second - 1)
		_, err = tokens.Token(t.Context(), true)
		require.Equal(t, 30*time.Second, graph.RetryAfter(err))
		assert.Equal(t, 1, endpoint.calls)

		time.Sleep(time.Nanosecond)
		token, err := tokens.Token(t.Context(), false)
		require.NoError(t, err)
		assert.NotEmpty(t, token)
		assert.Equal(t, 2, endpoint.calls)
	})
}

func TestTokens_DroppedTokenIsNotReused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &slowTokenEndpoint{lifetime: 3600}
		tokens := e.source(&recordingTelemetry{})
		first, err := tokens.Token(t.Context(), false)
		require.NoError(t, err)
		tokens.Drop(first)
		second, err := tokens.Token(t.Context(), false)
		require.NoError(t, err)
		assert.Equal(t, "token-2", second)
		tokens.Drop(first)
		third, err := tokens.Token(t.Context(), false)
		require.NoError(t, err)
		assert.Equal(t, second, third, "dropping the first one again has no effect")

		tokens.Drop(second)
		e.down = true
		_, err = tokens.Token(t.Context(), false)
		require.Error(t, err)
	})
}

// A fresh token is less than a minute old; an older one is returned only if the request fails.
func TestTokens_FreshReturnsTokenUnderOneMinuteOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &slowTokenEndpoint{lifetime: 3600}
		tokens := from.source(&recordingTelemetry{})
		take := func() string {
			token, err := tokens.Token(t.Context(), true)
			require.NoError(t, err)
			return token
		}
		assert.Equal(t, "token-1", take())
		time.Sleep(59 * time.Second)
		assert.Equal(t, "token-1", take())
		time.Sleep(time.Second)
		assert.Equal(t, "token-2", take())
		time.Sleep(time.Hour / 2)
		from.mu.Lock()
		from.down = true
		from.mu.Unlock()
		assert.Equal(t, "token-2", take(), "an old one is better than none")
		assert.Equal(t, "token-2", take())
		assert.Equal(t, 3, from.calls, "a failed request is not repeated at once")
	})
}

// While the endpoint refuses new tokens, calls that need no fresh token get the cached one immediately.
func TestTokens_FailingFreshDoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &slowTokenEndpoint{lifetime: 3600}
		tokens := from.source(&recordingTelemetry{})
		_, err := tokens.Token(t.Context(), false)
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		from.mu.Lock()
		from.throttled = 600
		from.mu.Unlock()
		began := time.Now()
		for time.Since(began) < 9*time.Minute {
			_, err = tokens.Token(t.Context(), true)
			require.NoError(t, err)
			for range 10 {
				asked := time.Now()
				_, err = tokens.Token(t.Context(), false)
				require.NoError(t, err)
				require.Zero(t, time.Since(asked), "the token is valid for long")
			}
			time.Sleep(30 * time.Second)
		}
		assert.Equal(t, 2, from.calls, "the endpoint asked to wait")
	})
}

func TestClient_CreationAndRenewalUseFreshToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &slowTokenEndpoint{lifetime: 3600}
		var tokens []string
		client := newGraph(graph.Settings{
			Endpoint: "https://graph.example.com", Tokens: from.source(&recordingTelemetry{}),
			HTTP: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				tokens = append(tokens, r.Method+" "+r.Header.Get("Authorization"))
				return jsonReply(200, `{"id": "s", "value": []}`), nil
			}).client(),
		})
		for range 2 {
			_, err := client.ListSubscriptions(t.Context())
			require.NoError(t, err)
			time.Sleep(5 * time.Minute)
		}
		_, err := client.CreateSubscription(t.Context(), graph.Subscription{})
		require.NoError(t, err)
		time.Sleep(5 * time.Minute)
		_, err = client.RenewSubscription(t.Context(), "s", time.Now().Add(time.Hour))
		require.NoError(t, err)
		assert.Equal(t, []string{"GET Bearer token-1", "GET Bearer token-1", "POST Bearer token-2", "PATCH Bearer token-3"}, tokens)
	})
}

// tokenErrorForResponse returns the error of a token request that receives this response.
func tokenErrorForResponse(t *testing.T, resp *http.Response) *graph.TokenError {
	t.Helper()
	err := tokenErr(t, graph.CredentialSettings{
		TokenURL: "https://login.example.com/token", ClientID: "app", Secret: "hush-hush", AuthStyle: "body",
		HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) { return resp, nil }).client(),
	}, "hush-hush")
	refused, ok := errors.AsType[*graph.TokenError](err)
	require.True(t, ok, "%v", err)
	return refused
}

func TestTokenError_ParsesRefusal(t *testing.T) {
	t.Parallel()
	const described = "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value."
	for name, test := range map[string]struct {
		status int
		body   string
		want   graph.TokenError
	}{
		"ids on the same line": {
			401, `{"error":"invalid_client","error_description":"` + described + ` Trace ID: 1 Correlation ID: 2 Timestamp: 3","error_codes":[7000215]}`,
			graph.TokenError{Code: "AADSTS7000215", Description: described + " Trace ID: 1 Correlation ID: 2 Timestamp: 3"},
		},
		"ids on lines of their own": {
			400, `{"error":"unauthorized_client","error_description":"AADSTS700016: No.\r\nTrace ID: 1\r\nCorrelation ID: 2","error_codes":[700016]}`,
			graph.TokenError{Code: "AADSTS700016", Description: "AADSTS700016: No. Trace ID: 1 Correlation ID: 2"},
		},
		"no number": {
			400, `{"error":"invalid_request","error_description":"AADSTS: No."}`,
			graph.TokenError{Code: "invalid_request", Description: "AADSTS: No."},
		},
		"a description that repeats the secret": {
			401, `{"error":"invalid_client","error_description":"hush-hush is wrong"}`,
			graph.TokenError{Code: "invalid_client", Description: "[secret] is wrong"},
		},
		"a long description": {
			401, `{"error":"invalid_client","error_description":"` + strings.Repeat("a", 1000) + `"}`,
			graph.TokenError{Code: "invalid_client", Description: strings.Repeat("a", 499) + "…"},
		},
		"an error with status 200": {200, `{"error":"invalid_client"}`, graph.TokenError{Code: "invalid_client"}},
		"an HTML page of a proxy":  {403, `<html>hush-hush</html>`, graph.TokenError{}},
		"an empty failure":         {500, ``, graph.TokenError{}},
		"throttling":               {429, `{"error":"temporarily_unavailable"}`, graph.TokenError{Code: "temporarily_unavailable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tokenErrorForResponse(t, jsonReply(test.status, test.body, "Retry-After", "7"))
			test.want.Status, test.want.RetryAfter = test.status, 7*time.Second
			assert.Equal(t, test.want, *got)
			assert.Contains(t, got.Error(), fmt.Sprintf("get an access token: the token endpoint answered %d", test.status))
			assert.Contains(t, got.Error(), test.want.Description)
		})
	}
}

func TestTokenError_ForSuccessWithoutToken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ kind, body string }{
		"a sign-in page":      {"text/html", "<html>"},
		"text":                {"text/plain", "welcome"},
		"nothing":             {"application/json", ""},
		"an object":           {"application/json", "{}"},
		"half an object":      {"application/json", `{"access_token":"gran`},
		"a list":              {"application/json", "[]"},
		"a number as a token": {"application/json", `{"access_token":7}`},
	} {
		got := tokenErrorForResponse(t, reply(200, test.body, "Content-Type", test.kind))
		require.ErrorIs(t, got, graph.ErrUnreadable, name)
		assert.Equal(t, 200, got.Status)
		assert.NotContains(t, got.Error(), "gran")
		assert.Equal(t, failure.UnexpectedResponse, failure.Of(got).Code)
	}
}

func TestTokenError_ForEndlessAnswer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 400} {
		body := &endlessBody{}
		resp := jsonReply(status, "")
		resp.Body = body
		got := tokenErrorForResponse(t, resp)
		assert.Equal(t, status, got.Status)
		assert.Equal(t, status == 200, errors.Is(got, graph.ErrUnreadable))
		assert.True(t, body.closed)
		assert.Contains(t, failure.Of(got).Hint, "auth.token_url")
	}
}

func TestTokenError_ForRedirect(t *testing.T) {
	t.Parallel()
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("visited") }))
	defer thief.Close()
	s := newTokenEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	s.Secret = "hush-hush"
	err := tokenErr(t, s, "hush-hush")
	var refused *graph.TokenError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, 307, refused.Status)
	assert.Equal(t, failure.Redirected, failure.Of(err).Code)
}

func TestTokenError_ForInvalidURL(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "login.example.com", "https://login.example.com:port", "http://[::1"} {
		err := tokenErr(t, graph.CredentialSettings{TokenURL: address, Secret: "hush-hush"}, "hush-hush")
		var failed *graph.TokenError
		require.ErrorAs(t, err, &failed, address)
		assert.Contains(t, failure.Of(err).Hint, "auth.token_url")
	}
}

// An authenticator extension may return a refusal without the HTTP response.
func TestTokenError_ForRefusalWithoutResponse(t *testing.T) {
	t.Parallel()
	client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
		return nil, &oauth2.RetrieveError{ErrorCode: "invalid_client"}
	}).client()})
	_, err := client.ListSubscriptions(t.Context())
	assert.Equal(t, "invalid_client", graph.Code(err))
}

func FuzzTokenErrors(f *testing.F) {
	f.Add([]byte(`{"error":"invalid_client","error_description":"AADSTS7000215: no hush-hush","error_codes":[7000215]}`), "application/json")
	f.Add([]byte("error=invalid_client&error_description=AADSTS"), "text/plain")
	f.Add([]byte(`{"error":"x","error_description":"hush\nhush-hush"}`), "")
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		got := tokenErrorForResponse(t, reply(401, string(body), "Content-Type", kind))
		assert.True(t, utf8.ValidString(got.Error()))
		assert.NotContains(t, got.Error(), "\n")
		assert.LessOrEqual(t, utf8.RuneCountInString(got.Description), 500)
		assert.NotEmpty(t, failure.Of(got).Code)
	})
}
