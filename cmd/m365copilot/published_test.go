// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// readPublished returns the lines that are complete.
func readPublished(t *testing.T, path string) []publishedLine {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var lines []publishedLine
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var one publishedLine
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&one), "%s", line)
		lines = append(lines, one)
	}
	return lines
}

// graphHistory returns the history of a user as Graph has it, by session and id.
func graphHistory(t *testing.T, graph, token, user string) map[string]*interaction.Interaction {
	t.Helper()
	found := map[string]*interaction.Interaction{}
	next := graph + "/v1.0/copilot/users/" + user + "/interactionHistory/getAllEnterpriseInteractions?%24top=100"
	for next != "" {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, next, http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		var page struct {
			Value []json.RawMessage
			Next  string `json:"@odata.nextLink"`
		}
		err = json.NewDecoder(response.Body).Decode(&page)
		_ = response.Body.Close()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		for _, one := range page.Value {
			parsed, err := interaction.Parse(one)
			require.NoError(t, err)
			found[parsed.SessionID+" "+parsed.ID] = parsed
		}
		next = page.Next
	}
	return found
}

// The file has what the collector will find in the history, read by its own code.
func TestSimulate_PublishedAgreesWithHistory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "published.jsonl")
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-users", "20", "-history", "336h", "-published", path,
		"-turns-per-minute", "1200")
	graph := p.expect(`msg=listening graph_endpoint=(\S+)`)[1]
	assert.NotEmpty(t, readPublished(t, path), "the history is there before it listens")
	require.Eventually(t, func() bool {
		lines := readPublished(t, path)
		return !lines[len(lines)-1].History
	}, 20*time.Second, 10*time.Millisecond, "it grows")

	token := (&fakeCollector{t: t}).login(graph)
	lines, live := readPublished(t, path), 0
	histories := map[string]map[string]*interaction.Interaction{}
	for _, line := range lines {
		if histories[line.User] == nil {
			histories[line.User] = graphHistory(t, graph, token, line.User)
		}
		one := histories[line.User][line.Session+" "+line.ID]
		require.NotNil(t, one, "%+v", line)
		created, known := one.CreatedAt()
		require.True(t, known)
		assert.Equal(t, created.Format("2006-01-02T15:04:05.000Z07:00"), line.Created)
		assert.Equal(t, one.App(), line.App)
		assert.Equal(t, one.Type, line.Type)
		assert.Equal(t, one.RequestID, line.Request)
		assert.Equal(t, utf8.RuneCountInString(one.Text()), line.Characters, "%+v: %q", line, one.Text())
		if !line.History {
			live++
		}
	}
	assert.Positive(t, live)
	end()
	written := p.expect(`msg=summary subscriptions=0 interactions=(\d+)`)[1]
	assert.Equal(t, exitOK, <-p.done)
	listed, atEnd := map[string]bool{}, 0
	for _, line := range readPublished(t, path) {
		listed[line.Session+" "+line.ID] = true
		if !line.History {
			atEnd++
		}
	}
	for user, history := range histories {
		for key := range history {
			assert.True(t, listed[key], "%s of %s is in the history and not in the file", key, user)
		}
	}
	assert.Equal(t, written, jsonText(t, atEnd), "the last lines are written at the end")
}

func jsonText(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}

// The lengths are those that the receiver measures, for all apps and texts.
func TestPublished_CharactersAreThoseOfReceiver(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 11, 24, 16, 0, 0, 0, time.UTC)
	workforce := graphtest.NewWorkforce(2, graphtest.Company(2, 60), graphtest.WorkforceSettings{TenantID: demoTenant})
	all := workforce.History(now.AddDate(0, 0, -28), now)
	turns := graphtest.NewTurns(2, graphtest.TurnSettings{TenantID: demoTenant})
	for range 2000 {
		all = append(all, turns.Next(now)...)
	}
	p := &publishedFile{}
	for _, i := range all {
		parsed, err := interaction.Parse(i.JSON)
		require.NoError(t, err)
		line := p.line(i, false)
		require.Equal(t, utf8.RuneCountInString(parsed.Text()), line.Characters, "%q", parsed.Text())
		require.Equal(t, parsed.App(), line.App)
		created, _ := parsed.CreatedAt()
		require.True(t, created.Equal(i.Created))
		var agents []string
		for _, m := range parsed.Mentions {
			if m.Mentioned.Application != nil {
				agents = append(agents, m.Mentioned.Application.DisplayName)
			}
		}
		require.ElementsMatch(t, agents, line.Agents)
	}
}

func TestPublished_LineHasAllMembers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "published.jsonl")
	p, err := createPublished(path, []graphtest.Person{{ID: "u", Department: "Sales", Country: "Japan"}})
	require.NoError(t, err)
	p.add(true, graphtest.Interaction{
		UserID: "u", Text: "@Ada 木", Created: time.UnixMilli(1764599405120),
		JSON: []byte(`{"id":"1764599405120","sessionId":"s","requestId":null,"appClass":"IPM.SkypeTeams.Message.Copilot.Word","interactionType":"userPrompt",` +
			`"mentions":[{"mentioned":{"user":{"displayName":"Lena"}}},{"mentioned":{"application":{"displayName":"Ada"}}}]}`),
	})
	require.NoError(t, p.close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(content), "}\n"))
	assert.JSONEq(t, `{"id":"1764599405120","session":"s","request":"","user":"u","department":"Sales","country":"Japan","app":"Word",`+
		`"type":"userPrompt","created":"2025-12-01T14:30:05.120Z","agents":["Ada"],"characters":6,"history":true}`, string(content))
}

func TestPublished_ReportsWhatCannotBeWritten(t *testing.T) {
	t.Parallel()
	got := runToEnd(t, "simulate", "-listen", "127.0.0.1:0", "-duration", "1ms", "-published", filepath.Join(t.TempDir(), "missing", "file"))
	assert.Equal(t, exitFailed, got.code)
	assert.Contains(t, got.stderr, "-published: open ")
	p, err := createPublished(filepath.Join(t.TempDir(), "file"), nil)
	require.NoError(t, err)
	p.add(false, graphtest.NewTurns(1, graphtest.TurnSettings{}).Next(time.Now())...)
	require.NoError(t, p.file.Close())
	require.ErrorContains(t, p.close(), "-published: ")
}

func TestSimulate_WithoutHistoryHasNone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "published.jsonl")
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-turns-per-minute", "6000", "-published", path)
	p.expect("msg=listening")
	require.Eventually(t, func() bool { return len(readPublished(t, path)) > 0 }, 20*time.Second, 10*time.Millisecond)
	end()
	p.expect("msg=summary")
	assert.Equal(t, exitOK, <-p.done)
	for _, line := range readPublished(t, path) {
		assert.False(t, line.History)
	}
	assert.NotContains(t, strings.Join(p.seen, "\n"), "history made")
}
