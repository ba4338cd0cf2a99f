// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const emptyList = `{"value":[]}`

func TestClient_JoinsEndpointAndVersion(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://graph.example.com":           "https://graph.example.com/v1.0/subscriptions",
		"https://graph.example.com/":          "https://graph.example.com/v1.0/subscriptions",
		"http://127.0.0.1:8080/emulator/one/": "http://127.0.0.1:8080/emulator/one/v1.0/subscriptions",
	} {
		var got string
		client := newGraph(graph.Settings{Endpoint: endpoint, HTTP: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			got = r.URL.String()
			return jsonReply(200, emptyList), nil
		}).client()})
		_, err := client.ListSubscriptions(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func TestClient_InvalidEndpointFailsEachCall(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"", "graph.example.com", "https://graph.example.com:port"} {
		_, err := newGraph(graph.Settings{Endpoint: endpoint}).ListSubscriptions(t.Context())
		require.Error(t, err, endpoint)
		assert.Contains(t, err.Error(), "list subscriptions")
	}
}

func TestClient_SendsToken(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer a-token", r.Header.Get("Authorization"))
		assert.Equal(t, "application/json", r.Header.Get("Accept"))
		assert.Empty(t, r.Header.Get("Content-Type"))
		write(w, emptyList)
	})
	_, err := client.ListSubscriptions(t.Context())
	require.NoError(t, err)
}

// Without a token source the HTTP client authenticates by itself.
func TestClient_SendsNoTokenWithoutSource(t *testing.T) {
	t.Parallel()
	client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		assert.Empty(t, r.Header.Get("Authorization"))
		return jsonReply(401, `{}`), nil
	}).client()})
	_, err := client.ListSubscriptions(t.Context())
	var refused *graph.Error
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, 401, refused.Status)
}

func TestClient_DoesNotFollowRedirects(t *testing.T) {
	t.Parallel()
	var visited bool
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited = true }))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+"/steal", status)
		})
		err := client.DeleteSubscription(t.Context(), "1")
		var refused *graph.Error
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, status, refused.Status)
		assert.Equal(t, failure.New(failure.Redirected, "graph.endpoint"), failure.Of(err))
	}
	assert.False(t, visited)
}

func TestClient_LeavesHTTPClientUnchanged(t *testing.T) {
	t.Parallel()
	given := &http.Client{}
	newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: given})
	assert.Nil(t, given.CheckRedirect)
}

func TestClient_VerifiesServerCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { write(w, emptyList) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	_, err := newGraph(graph.Settings{Endpoint: server.URL, HTTP: server.Client(), Tokens: staticToken("a-token")}).ListSubscriptions(t.Context())
	require.NoError(t, err)

	_, err = newGraph(graph.Settings{Endpoint: server.URL, Tokens: staticToken("a-token")}).ListSubscriptions(t.Context())
	require.Error(t, err)
	assert.Equal(t, failure.New(failure.CertificateNotTrusted, "graph.endpoint"), failure.Of(err))
}

func TestClient_ReportsTransportFailures(t *testing.T) {
	t.Parallel()
	retrieve := &oauth2.RetrieveError{
		Response: &http.Response{StatusCode: http.StatusUnauthorized, Status: "401 Unauthorized"}, ErrorCode: "invalid_client",
		ErrorDescription: "AADSTS7000222: The provided client secret keys are expired. Trace ID: 1", Body: []byte("client_secret=hush"),
	}
	for name, test := range map[string]struct {
		trip  roundTripFunc
		check func(*testing.T, error)
	}{
		"a reset connection": {
			trip:  func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNRESET },
			check: func(t *testing.T, err error) { t.Helper(); require.ErrorIs(t, err, syscall.ECONNRESET) },
		},
		"an authenticator extension that gets no token": {
			trip: func(*http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("failed to get security token: %w", retrieve)
			},
			check: func(t *testing.T, err error) {
				t.Helper()
				var refused *graph.TokenError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, "AADSTS7000222", refused.Code)
				assert.NotContains(t, err.Error(), "hush")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			telemetry := &recordingTelemetry{}
			client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: test.trip.client(), Tokens: staticToken("a-token"), Telemetry: telemetry})
			_, err := client.RenewSubscription(t.Context(), "some-id", time.Now())
			require.Error(t, err)
			assert.Contains(t, err.Error(), "renew subscription: graph.example.com: ")
			assert.NotContains(t, err.Error(), "some-id")
			assert.NotContains(t, err.Error(), "a-token")
			assert.Equal(t, []recordedRequest{{"renew subscription", 0}}, telemetry.requests)
			test.check(t, err)
		})
	}
}

func TestClient_FailsOnTruncatedBody(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		write(w, `{"value":[]}`)
	})
	_, err := client.ListSubscriptions(t.Context())
	require.ErrorContains(t, err, "read the response")
}

func TestClient_StopsOnCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client := newTestClient(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := client.ListSubscriptions(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// rotatingTokens is a token source that returns the first of its tokens, until Drop removes it.
type rotatingTokens struct {
	tokens  []string
	dropped []string
	err     error
}

func (r *rotatingTokens) Token(context.Context, bool) (string, error) {
	if len(r.tokens) == 0 {
		return "", r.err
	}
	return r.tokens[0], nil
}

func (r *rotatingTokens) Drop(token string) {
	r.dropped = append(r.dropped, token)
	r.tokens = r.tokens[1:]
}

func TestClient_ReplacesRefusedTokenOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tokens       []string
		accepted     string
		wantRequests []string
		wantStatus   int
	}{
		"the new token is accepted": {tokens: []string{"old", "new"}, accepted: "new", wantRequests: []string{"Bearer old", "Bearer new"}},
		"the new token is refused as well": {
			tokens: []string{"old", "new", "newer"}, accepted: "newer", wantRequests: []string{"Bearer old", "Bearer new"}, wantStatus: 401,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests []string
			source, telemetry := &rotatingTokens{tokens: test.tokens}, &recordingTelemetry{}
			client := newGraph(graph.Settings{
				Endpoint: "https://graph.example.com", Tokens: source, Telemetry: telemetry,
				HTTP: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					requests = append(requests, r.Header.Get("Authorization"))
					var sent [64]byte
					n, _ := r.Body.Read(sent[:])
					assert.Contains(t, string(sent[:n]), "expirationDateTime", "the body is sent each time")
					if r.Header.Get("Authorization") == "Bearer "+test.accepted {
						return jsonReply(200, `{"id":"1"}`), nil
					}
					return jsonReply(401, `{"error":{"code":"InvalidAuthenticationToken","message":"token new or old"}}`), nil
				}).client(),
			})
			_, err := client.RenewSubscription(t.Context(), "1", time.Now())
			assert.Equal(t, test.wantRequests, requests)
			assert.Len(t, telemetry.requests, len(requests))
			assert.Equal(t, []string{"old"}, source.dropped)
			if test.wantStatus == 0 {
				require.NoError(t, err)
				return
			}
			var refused *graph.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, test.wantStatus, refused.Status)
			assert.NotContains(t, refused.Message, requests[len(requests)-1][len("Bearer "):], "the message must not contain the token")
		})
	}
}

func TestClient_ReturnsErrorOfTokenReplacement(t *testing.T) {
	t.Parallel()
	down := errors.New("the token endpoint is down")
	client := newGraph(graph.Settings{
		Endpoint: "https://graph.example.com", Tokens: &rotatingTokens{tokens: []string{"old"}, err: down},
		HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) { return jsonReply(401, `{}`), nil }).client(),
	})
	require.ErrorIs(t, client.DeleteSubscription(t.Context(), "1"), down)
}

func TestClient_SendsNothingWithoutToken(t *testing.T) {
	t.Parallel()
	down := errors.New("the token endpoint is down")
	client := newGraph(graph.Settings{
		Endpoint: "https://graph.example.com", Tokens: &rotatingTokens{err: down},
		HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) { panic("sent") }).client(),
	})
	require.ErrorIs(t, client.DeleteSubscription(t.Context(), "1"), down)
}
