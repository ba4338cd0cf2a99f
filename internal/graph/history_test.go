// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const historyUser = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"

var (
	windowFrom = time.Date(2026, 11, 24, 12, 0, 0, 900_000_000, time.UTC)
	windowTo   = time.Date(2026, 11, 24, 14, 0, 0, 1, time.FixedZone("", 3600))
)

func TestHistory_SendsBoundsInWholeSeconds(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1.0/copilot/users/"+historyUser+"/interactionHistory/getAllEnterpriseInteractions", r.URL.Path)
		assert.Equal(t, "100", r.URL.Query().Get("$top"))
		assert.Equal(t, "createdDateTime gt 2026-11-24T12:00:00Z and createdDateTime lt 2026-11-24T13:00:01Z", r.URL.Query().Get("$filter"))
		assert.NotContains(t, r.URL.RawQuery, "+", "some servers do not decode + as a space")
		write(w, `{"value": [{"id": "1"}, {"id": "2"}]}`)
	})
	page, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.NoError(t, err)
	require.Len(t, page.Items, 2)
	assert.JSONEq(t, `{"id": "1"}`, string(page.Items[0]))
	assert.Empty(t, page.Next)
}

// A link is followed unchanged, and only on the host of the endpoint.
func TestHistory_FollowsLinksOnOwnHostOnly(t *testing.T) {
	t.Parallel()
	var asked []string
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if len(asked) == 1 {
			write(w, `{"value": [], "@odata.nextLink": "http://%s/v1.0/odd/Path?$skiptoken=a%%2Bb"}`, r.Host)
			return
		}
		write(w, `{"value": [], "@odata.nextLink": "https://evil.example.com/v1.0/x"}`)
	})
	first, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.NoError(t, err)
	second, err := client.History(t.Context(), historyUser, windowFrom, windowTo, first.Next)
	require.NoError(t, err)
	assert.Equal(t, "/v1.0/odd/Path?$skiptoken=a%2Bb", asked[1])
	_, err = client.History(t.Context(), historyUser, windowFrom, windowTo, second.Next)
	require.ErrorIs(t, err, graph.ErrForeignHost)
	assert.Len(t, asked, 2, "the token is not sent to another host")
}

func TestHistory_ClassifiesDenial(t *testing.T) {
	t.Parallel()
	type meaning struct{ unlicensed, forbidden, unsupported bool }
	for name, test := range map[string]struct {
		status  int
		code    string
		message string
		want    meaning
	}{
		"a user without a license":    {403, "Forbidden", "User '" + historyUser + "' does not have a valid Copilot license.", meaning{unlicensed: true}},
		"a missing permission":        {403, "Forbidden", "Missing role permissions on the request.", meaning{forbidden: true}},
		"a refusal without a message": {403, "UnknownError", "", meaning{forbidden: true}},
		"an unknown user":             {404, "ResourceNotFound", "User not found.", meaning{unlicensed: true}},
		"a cloud without the call":    {404, "NotFound", "Requested API is not supported. Please check the path.", meaning{unsupported: true}},
		"a failure of Graph":          {500, "InternalServerError", "Failed to execute request.", meaning{}},
		"too many calls":              {429, "TooManyRequests", "", meaning{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				write(w, `{"error": {"code": %q, "message": %q}}`, test.code, test.message)
			})
			_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
			require.Error(t, err)
			assert.Equal(t, test.want, meaning{graph.Unlicensed(err), graph.Forbidden(err), graph.Unsupported(err)})
			assert.NotContains(t, err.Error(), historyUser, "errors are logged, and a user id is personal data")
			assert.NotEmpty(t, failure.Of(err).Hint)
		})
	}
}

func TestHistory_PageWithoutValueIsUnreadable(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"no value": `{}`, "no JSON": `{"value": [`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
			_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
			require.ErrorIs(t, err, graph.ErrUnreadable)
			_, err = client.LicensedUsers(t.Context(), "", nil)
			require.ErrorIs(t, err, graph.ErrUnreadable)
		})
	}
}

func TestHistory_BoundsPageSize(t *testing.T) {
	t.Parallel()
	size := 5 << 20
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		write(w, `{"value": ["`)
		chunk := make([]byte, 1<<20)
		for i := range chunk {
			chunk[i] = 'x'
		}
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		write(w, `"]}`)
	})
	page, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.NoError(t, err)
	assert.Len(t, page.Items[0], size+2)
	size = 65 << 20
	_, err = client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	require.ErrorIs(t, err, graph.ErrUnreadable)
}

// pagedCalls returns the calls that return pages, by their operation in errors and telemetry.
func pagedCalls() map[string]func(context.Context, *graph.Client, string) error {
	return map[string]func(context.Context, *graph.Client, string) error{
		"read history": func(ctx context.Context, c *graph.Client, next string) error {
			_, err := c.History(ctx, historyUser, windowFrom, windowTo, next)
			return err
		},
		"list users": func(ctx context.Context, c *graph.Client, next string) error {
			_, err := c.LicensedUsers(ctx, next, nil)
			return err
		},
	}
}

func TestPagedCalls_ReturnTypedErrors(t *testing.T) {
	t.Parallel()
	calls := pagedCalls()
	calls["read user"] = func(ctx context.Context, c *graph.Client, _ string) error {
		_, err := c.User(ctx, historyUser, nil)
		return err
	}
	for operation, read := range calls {
		for _, status := range []int{301, 307, 400, 401, 402, 403, 404, 409, 410, 429, 500, 501, 502, 503, 504} {
			telemetry := &recordingTelemetry{}
			client := newGraph(graph.Settings{
				Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"), Telemetry: telemetry,
				HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
					return jsonReply(status, `{"error":{"code":"ACode","message":"A message.","innerError":{"request-id":"8e6a"}}}`, "Retry-After", "17"), nil
				}).client(),
			})
			err := read(t.Context(), client, "")
			var refused *graph.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, operation, refused.Operation)
			assert.Equal(t, status, refused.Status)
			assert.Equal(t, "ACode", refused.Code)
			assert.Equal(t, "8e6a", refused.RequestID)
			assert.Equal(t, 17*time.Second, refused.RetryAfter)
			if status == 401 {
				assert.Len(t, telemetry.requests, 2, "the token is replaced once")
			} else {
				assert.Equal(t, []recordedRequest{{operation, status}}, telemetry.requests)
			}
			if status == 429 || status == 503 {
				assert.Equal(t, []time.Duration{17 * time.Second}, telemetry.waits)
			} else {
				assert.Empty(t, telemetry.waits)
			}
			assert.NotEmpty(t, failure.Of(err).Hint)
		}
	}
}

func TestPagedCalls_BrokenAnswerNamesNoUser(t *testing.T) {
	t.Parallel()
	body := func(text string) roundTripFunc {
		return func(*http.Request) (*http.Response, error) { return jsonReply(200, text), nil }
	}
	for operation, read := range pagedCalls() {
		for name, test := range map[string]struct {
			trip   roundTripFunc
			want   error
			status int
		}{
			"a reset connection": {func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNRESET }, syscall.ECONNRESET, 0},
			"a body that never ends": {func(*http.Request) (*http.Response, error) {
				resp := jsonReply(200, "")
				resp.Body = &endlessBody{}
				return resp, nil
			}, graph.ErrUnreadable, 200},
			"a truncated body":          {body(`{"value":[{"id":`), graph.ErrUnreadable, 200},
			"an empty body":             {body(""), graph.ErrUnreadable, 200},
			"a value that is an object": {body(`{"value":{"text":"what was asked"}}`), graph.ErrUnreadable, 200},
			"no value":                  {body(`{}`), graph.ErrUnreadable, 200},
			"a null value":              {body(`{"value":null}`), graph.ErrUnreadable, 200},
		} {
			t.Run(operation+" with "+name, func(t *testing.T) {
				t.Parallel()
				telemetry := &recordingTelemetry{}
				client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"), Telemetry: telemetry, HTTP: test.trip.client()})
				err := read(t.Context(), client, "")
				require.ErrorIs(t, err, test.want)
				assert.True(t, strings.HasPrefix(err.Error(), operation+": "), err)
				assert.NotContains(t, err.Error(), historyUser)
				assert.NotContains(t, err.Error(), "what was asked")
				assert.NotContains(t, err.Error(), "a-token")
				assert.Equal(t, []recordedRequest{{operation, test.status}}, telemetry.requests)
				assert.False(t, graph.Unlicensed(err) || graph.Forbidden(err) || graph.Unsupported(err))
			})
		}
	}
}

func TestPagedCalls_RejectForeignLinks(t *testing.T) {
	t.Parallel()
	for operation, read := range pagedCalls() {
		for _, next := range []string{
			"https://evil.example.com/v1.0/users", "http://graph.example.com/v1.0/users", "https://graph.example.com:8443/v1.0/users",
			"https://graph.example.com@evil.example.com/", "https://user@graph.example.com/v1.0/users", "users?$skiptoken=2", "%",
		} {
			client := newGraph(graph.Settings{
				Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"),
				HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
					assert.Fail(t, "the token was sent", next)
					return jsonReply(404, `{}`), nil
				}).client(),
			})
			err := read(t.Context(), client, next)
			require.ErrorIs(t, err, graph.ErrForeignHost, next)
			assert.Contains(t, err.Error(), operation)
		}
	}
}

func TestPagedCalls_SchemelessLinkStaysAtEndpoint(t *testing.T) {
	t.Parallel()
	for _, read := range pagedCalls() {
		client := newGraph(graph.Settings{
			Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"),
			HTTP: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				assert.Equal(t, "graph.example.com", r.URL.Host)
				return jsonReply(404, `{}`), nil
			}).client(),
		})
		require.Error(t, read(t.Context(), client, "//evil.example.com/v1.0/users"))
	}
}

func TestPagedCalls_StopOnCancel(t *testing.T) {
	t.Parallel()
	for operation, read := range pagedCalls() {
		ctx, cancel := context.WithCancel(t.Context())
		client := newTestClient(t, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		err := read(ctx, client, "")
		require.ErrorIs(t, err, context.Canceled)
		assert.Contains(t, err.Error(), operation)
	}
}

// countingBody is an endless body that counts the bytes read from it.
type countingBody struct {
	endlessBody

	read int
}

func (c *countingBody) Read(p []byte) (int, error) {
	n, err := c.endlessBody.Read(p)
	c.read += n
	return n, err
}

// An error body is read up to the general limit, not up to that of a history page.
func TestHistory_BoundsErrorBody(t *testing.T) {
	t.Parallel()
	body := &countingBody{}
	client := newGraph(graph.Settings{
		Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"),
		HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
			resp := jsonReply(500, "")
			resp.Body = body
			return resp, nil
		}).client(),
	})
	_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
	var refused *graph.Error
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, 500, refused.Status)
	assert.True(t, body.closed)
	assert.Less(t, body.read, 5<<20, "the limit of 64 MiB applies to successful pages only")
}
