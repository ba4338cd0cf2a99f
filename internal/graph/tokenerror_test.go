package graph_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// tokenErrorForResponse returns the error of a token request that gets this answer.
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
			graph.TokenError{Code: "invalid_client", AADSTS: "AADSTS7000215", Description: described},
		},
		"ids on lines of their own": {
			400, `{"error":"unauthorized_client","error_description":"AADSTS700016: No.\r\nTrace ID: 1\r\nCorrelation ID: 2","error_codes":[700016]}`,
			graph.TokenError{Code: "unauthorized_client", AADSTS: "AADSTS700016", Description: "AADSTS700016: No."},
		},
		"a number only in the list": {
			400, `{"error":"invalid_request","error_description":"No.","error_codes":[90002]}`,
			graph.TokenError{Code: "invalid_request", AADSTS: "AADSTS90002", Description: "No."},
		},
		"a list of words": {
			400, `{"error":"invalid_request","error_description":"AADSTS: No.","error_codes":["x"]}`,
			graph.TokenError{Code: "invalid_request", Description: "AADSTS: No."},
		},
		"a description that repeats the secret": {
			401, `{"error":"invalid_client","error_description":"hush-hush is wrong"}`,
			graph.TokenError{Code: "invalid_client", Description: "[secret] is wrong"},
		},
		"a long description": {
			401, `{"error":"invalid_client","error_description":"` + strings.Repeat("a", 1000) + `"}`,
			graph.TokenError{Code: "invalid_client", Description: strings.Repeat("a", 299) + "…"},
		},
		"an error with status 200":   {200, `{"error":"invalid_client"}`, graph.TokenError{Code: "invalid_client"}},
		"a page of a proxy":          {403, `<html>hush-hush</html>`, graph.TokenError{}},
		"an empty answer of failure": {500, ``, graph.TokenError{}},
		"throttling":                 {429, `{"error":"temporarily_unavailable"}`, graph.TokenError{Code: "temporarily_unavailable"}},
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

func TestTokenError_ParsesPlainTextRefusal(t *testing.T) {
	t.Parallel()
	got := tokenErrorForResponse(t, reply(401, `{"error":"invalid_client","error_codes":[7000222]}`, "Content-Type", "text/plain"))
	assert.Equal(t, "AADSTS7000222", got.AADSTS)
	assert.Contains(t, got.Error(), "AADSTS7000222")
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
		assert.Contains(t, graph.Hint(got), "proxy")
	}
}

func TestTokenError_ForEndlessAnswer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 400} {
		body := &endlessBody{}
		resp := jsonReply(status, "")
		resp.Body = body
		got := tokenErrorForResponse(t, resp)
		require.ErrorIs(t, got, graph.ErrTooLarge)
		assert.True(t, body.closed)
		assert.Contains(t, graph.Hint(got), "auth.token_url")
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
	assert.Contains(t, err.Error(), "redirect")
}

func TestTokenError_ForInvalidURL(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "login.example.com", "https://login.example.com:port", "http://[::1"} {
		err := tokenErr(t, graph.CredentialSettings{TokenURL: address, Secret: "hush-hush"}, "hush-hush")
		var failed *graph.TokenError
		require.ErrorAs(t, err, &failed, address)
		assert.Contains(t, graph.Hint(err), "auth.token_url")
	}
}

func TestTokenError_ForRefusalWithoutResponse(t *testing.T) {
	t.Parallel()
	client := graph.New(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
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
		assert.LessOrEqual(t, utf8.RuneCountInString(got.Description), 300)
		assert.NotEmpty(t, graph.Hint(got))
	})
}
