package graphtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/stretchr/testify/require"
)

// call sends JSON with a token of its own and returns status and body.
func (g *client) call(method, path string, body any) (int, map[string]any) {
	g.t.Helper()
	status, _, answer := g.exchange(method, path, body)
	return status, answer
}

func (g *client) exchange(method, path string, body any) (int, http.Header, map[string]any) {
	g.t.Helper()
	if g.token == "" {
		g.token = g.newToken()
	}
	var payload io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		require.NoError(g.t, err)
		payload = bytes.NewReader(text)
	}
	target := path
	if !strings.HasPrefix(path, "http") {
		target = g.url + path
	}
	request, err := http.NewRequestWithContext(g.t.Context(), method, target, payload)
	require.NoError(g.t, err)
	request.Header.Set("Authorization", "Bearer "+g.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return g.do(request)
}

func (g *client) do(request *http.Request) (int, http.Header, map[string]any) {
	g.t.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(g.t, err)
	defer func() { _ = response.Body.Close() }()
	var answer map[string]any
	err = json.NewDecoder(response.Body).Decode(&answer)
	if err != nil {
		require.ErrorIs(g.t, err, io.EOF)
	}
	return response.StatusCode, response.Header, answer
}

// tokenForm is a token request that is granted.
func (g *client) tokenForm() url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret}, "scope": {g.url + "/.default"},
	}
}

func (g *client) postToken(tenant string, form url.Values, prepare func(*http.Request)) (int, map[string]any) {
	g.t.Helper()
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.url+"/"+tenant+"/oauth2/v2.0/token",
		strings.NewReader(form.Encode()))
	require.NoError(g.t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if prepare != nil {
		prepare(request)
	}
	status, _, answer := g.do(request)
	return status, answer
}

func (g *client) newToken() string {
	g.t.Helper()
	status, answer := g.postToken(tenantID, g.tokenForm(), nil)
	require.Equal(g.t, http.StatusOK, status, "%v", answer)
	return answer["access_token"].(string)
}

// code and message of a Graph error.
func errorOf(answer map[string]any) (code, message string) {
	e, _ := answer["error"].(map[string]any)
	code, _ = e["code"].(string)
	message, _ = e["message"].(string)
	return code, message
}
