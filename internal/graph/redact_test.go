package graph_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// historyError is the error of a history that Graph refuses with this message.
func historyError(t *testing.T, user string, status int, message string) *graph.Error {
	t.Helper()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		write(w, `{"error": {"code": "Forbidden", "message": %s}}`, jsonString(message))
	})
	_, err := client.History(t.Context(), user, windowFrom, windowTo, "")
	var refused *graph.Error
	require.ErrorAs(t, err, &refused)
	return refused
}

func jsonString(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestHistory_RedactsErrorMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ user, message, want string }{
		"the user":                       {historyUser, "User '" + historyUser + "' does not have a valid Copilot license.", "User '…' does not have a valid Copilot license."},
		"the user, in upper case":        {historyUser, "No mailbox of B2A7C9E4-5D31-4F0C-8E62-7A1B3C5D9F00.", "No mailbox of …."},
		"another user":                   {historyUser, "Not 0d9c8b7a-6f5e-4d3c-8b2a-190807060504 either.", "Not … either."},
		"a user principal name":          {"jo@contoso.com", "No jo@contoso.com, nor mailto:li@contoso.com here", "No …, nor … here"},
		"a user of another kind of name": {"Jo.Doe", "jo.doe has none", "… has none"},
		"a quoted prompt":                {historyUser, `Can't parse "what's in Orion" at 3.`, `Can't parse "…" at 3.`},
		"a quoted prompt that quotes":    {historyUser, `Can't parse "say "Orion" aloud", sorry.`, `Can't parse "…", sorry.`},
		"curly quotation marks":          {historyUser, "Not “Orion” but „Apollo“ was found", "Not “…“ was found"},
		"a quotation that is cut off":    {historyUser, "Found 'a' and 'the secret plan of", "Found …"},
		"a plural's apostrophe":          {historyUser, "The users' secret plan is blocked", "The users…"},
		"a URL":                          {historyUser, "See https://contoso.sharepoint.com/plan.docx now", "See … now"},
		"nothing of anybody":             {historyUser, "It's Graph's fault.", "It's Graph's fault."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, historyError(t, test.user, http.StatusForbidden, test.message).Message)
		})
	}
}

func TestHistory_ClassifiesDenialBeforeRedaction(t *testing.T) {
	t.Parallel()
	license := historyError(t, historyUser, http.StatusForbidden, "User 'a' does not have a valid Copilot license in 'b'.")
	assert.Equal(t, "User '…'.", license.Message)
	assert.True(t, graph.Unlicensed(license))
	assert.False(t, graph.Forbidden(license))
	assert.Contains(t, graph.Hint(license), "Nothing to do where it is one user")
	path := historyError(t, historyUser, http.StatusNotFound, "'x': Requested API is not supported. Please check the path 'y'.")
	assert.True(t, graph.Unsupported(path))
	assert.False(t, graph.Unlicensed(path))
}

func TestUnlicensed_FalseForOtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, graph.ErrUnreadable, &graph.TokenError{Status: 403}} {
		assert.False(t, graph.Unlicensed(err) || graph.Forbidden(err) || graph.Unsupported(err), "%v", err)
	}
}

func FuzzRedactedErrors(f *testing.F) {
	f.Add("User ", "' does not have a valid Copilot license.")
	f.Add("a \"b", "c' d")
	f.Fuzz(func(t *testing.T, before, after string) {
		client := graph.New(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
			return jsonReply(403, `{"error":{"message":`+jsonString(before+" 'the secret plan' "+historyUser+" "+after)+`}}`), nil
		}).client()})
		_, err := client.History(t.Context(), historyUser, windowFrom, windowTo, "")
		assert.NotContains(t, err.Error(), "secret p")
		assert.NotContains(t, err.Error(), historyUser)
		assert.NotEqual(t, graph.Unlicensed(err), graph.Forbidden(err))
	})
}
