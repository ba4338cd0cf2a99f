// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const investigatePage = "docs/investigate.md"

// What the queries of the page ask about.
const (
	documentedUser         = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	documentedConversation = "19:Qm9ndXNTZXNzaW9uSWRGb3JEb2Nz1@thread.v2"
	documentedFile         = "Orion plan.docx"
	documentedAgent        = "Researcher"
	documentedApp          = "PowerPoint"
)

// workZone is the time zone of the working hours of the page.
var workZone = time.FixedZone("", int(time.Hour/time.Second))

// row is a row of an answer.
type row = map[string]string

// Each query of the page has the answer that is right by what was written in the tenant, although each record is stored twice.
func TestInvestigate_QueriesAnswerAsTenant(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	v := newInvestigation(t)
	queries, samples := documentedQueries(t, investigatePage, "{event_name="), documentedQueries(t, investigatePage, `{"`)
	questions := []struct {
		name    string
		want    func() []row
		ordered bool
	}{
		{"a conversation in order", v.conversation, true},
		{"all prompts of a user to an agent", v.promptsToAgent, true},
		{"answers without user", v.answersWithoutUser, true},
		{"what a deleted conversation left", v.leftByDeletion, true},
		{"who used which file", v.usersOfFile, false},
		{"first and last use of an app", v.usesOfApp, false},
		{"who has a license and does not use it", v.unused, false},
		{"unusual volume", v.unusualVolume, false},
		{"outside of working hours", v.outsideOfHours, false},
		{"another locale than before", v.otherLocales, false},
		{"what came late or from the history", v.lateHours, true},
	}
	require.Len(t, queries, len(questions))
	require.Len(t, samples, len(questions))
	for n, question := range questions {
		t.Run(question.name, func(t *testing.T) {
			want := question.want()
			require.NotEmpty(t, want)
			query := v.placeholders().Replace(queries[n])
			got := v.ask(t, query)
			assert.Equal(t, inOrder(question.ordered, want), inOrder(question.ordered, got), query)
			assertSample(t, samples[n], got)
		})
	}
}

// placeholders replaces what the page asks about.
func (v *investigation) placeholders() *strings.Replacer {
	return strings.NewReplacer(documentedUser, v.licensed[agentUser].ID, documentedConversation, v.talked, documentedFile, askedFile,
		documentedAgent, askedAgent)
}

// ask returns the rows of an answer at the time at which the questions are asked.
func (v *investigation) ask(t *testing.T, query string) []row {
	t.Helper()
	at := "?time=" + url.QueryEscape(v.asked.Format(time.RFC3339))
	var rows []row
	for line := range bytes.Lines(post(t, "http://"+v.logs+"/select/logsql/query"+at, query)) {
		var fields row
		require.NoError(t, json.Unmarshal(line, &fields))
		rows = append(rows, v.normal(t, fields))
	}
	return rows
}

// normal returns the fields that have a value, with times in UTC and sorted lists. The time at which a deletion was received is
// replaced, since only the collector knows it exactly.
func (v *investigation) normal(t *testing.T, fields row) row {
	t.Helper()
	maps.DeleteFunc(fields, func(_, value string) bool { return value == "" })
	for name, value := range fields {
		switch name {
		case "_time", "first", "last", "microsoft.copilot.user.last_active":
			at, err := time.Parse(time.RFC3339, value)
			require.NoError(t, err)
			fields[name] = stamp(at)
		case "users", "usual":
			var list []string
			require.NoError(t, json.Unmarshal([]byte(value), &list))
			fields[name] = encodeList(list)
		case "deletion_received":
			at, err := time.Parse(time.RFC3339, value)
			require.NoError(t, err)
			if !at.Before(v.deletedBetween[0].Add(-time.Second/2)) && !at.After(v.deletedBetween[1].Add(time.Second/2)) {
				fields[name] = "when it was deleted"
			}
		}
	}
	return fields
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// encodeList returns the JSON of the sorted list.
func encodeList(list []string) string {
	slices.Sort(list)
	encoded, _ := json.Marshal(list) // which can't fail
	return string(encoded)
}

// assertSample asserts that the example row of the page has the fields of the real ones.
func assertSample(t *testing.T, sample string, rows []row) {
	t.Helper()
	var fields row
	require.NoError(t, json.Unmarshal([]byte(sample), &fields))
	present := row{}
	for _, r := range rows {
		maps.Copy(present, r)
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(present)), slices.Collect(maps.Keys(fields)), "the sample row")
}

// within returns what was written in a time before the questions that ended some time before them, by time.
func (v *investigation) within(length, end time.Duration) []*message {
	var found []*message
	for _, s := range v.all {
		if age := v.asked.Sub(s.at); age > end && age <= end+length {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(a, b *message) int { return a.at.Compare(b.at) })
	return found
}

// prompts returns the prompts of the same time.
func (v *investigation) prompts(length, end time.Duration) []*message {
	return slices.DeleteFunc(v.within(length, end), (*message).answer)
}

// byUser returns them by the ids of users.
func byUser(all []*message) map[string][]*message {
	found := map[string][]*message{}
	for _, s := range all {
		found[s.user.ID] = append(found[s.user.ID], s)
	}
	return found
}

// summaryOf returns the columns of what a user wrote, which is sorted by time.
func summaryOf(written []*message, count string) row {
	return row{
		"user.id": written[0].user.ID, "name": written[0].user.UserPrincipalName, count: strconv.Itoa(len(written)),
		"first": stamp(written[0].at), "last": stamp(written[len(written)-1].at),
	}
}

// inOrder returns rows as they are, or sorted by their values where the order is no part of the answer.
func inOrder(ordered bool, rows []row) []row {
	if !ordered {
		slices.SortFunc(rows, func(a, b row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return rows
}

func (v *investigation) conversation() (rows []row) {
	for _, s := range v.within(30*day, 0) {
		if s.conversation != v.talked {
			continue
		}
		created := row{
			"_time": stamp(s.at), "microsoft.copilot.change.type": "created", "microsoft.copilot.interaction.type": s.kind(),
			"user.id": s.user.ID, "user.name": s.user.UserPrincipalName, "gen_ai.agent.name": s.agent, "_msg": s.summary(),
		}
		if s.agent == "" {
			delete(created, "gen_ai.agent.name")
		}
		rows = append(rows, created)
		if s == v.edited {
			updated, later := maps.Clone(created), *s
			later.text = editedText
			updated["microsoft.copilot.change.type"], updated["_msg"] = "updated", "updated "+later.summary()
			rows = append(rows, updated)
		}
	}
	return rows
}

func (v *investigation) promptsToAgent() (rows []row) {
	answered := map[string]bool{}
	for _, s := range v.all {
		answered[s.request] = answered[s.request] || s.agent == askedAgent
	}
	for _, s := range v.prompts(30*day, 0) {
		if s.user.ID == v.licensed[agentUser].ID && (s.calls == askedAgent || answered[s.request]) {
			rows = append(rows, row{
				"_time": stamp(s.at), "user.name": s.user.UserPrincipalName, "microsoft.copilot.app.name": s.app,
				"gen_ai.conversation.id": s.conversation, "_msg": s.summary(),
			})
		}
	}
	return rows
}

func (v *investigation) answersWithoutUser() (rows []row) {
	for _, s := range v.within(7*day, 0) {
		if !s.unknown {
			continue
		}
		r := row{"_time": stamp(s.at), "microsoft.copilot.app.name": s.app, "gen_ai.conversation.id": s.conversation}
		var users []string
		for _, prompt := range v.prompts(7*day, 0) {
			if prompt.conversation == s.conversation {
				users = append(users, prompt.user.ID)
			}
			if prompt.request == s.request {
				r["prompted_by"] = prompt.user.ID
			}
		}
		r["users"] = encodeList(users)
		rows = append(rows, r)
	}
	return rows
}

func (v *investigation) leftByDeletion() (rows []row) {
	for _, s := range v.deleted {
		rows = append(rows, row{
			"_time": stamp(s.at), "gen_ai.conversation.id": s.conversation, "microsoft.copilot.interaction.type": s.kind(),
			"user.id": s.user.ID, "user.name": s.user.UserPrincipalName, "_msg": s.summary(), "deletion_received": "when it was deleted",
		})
	}
	return rows
}

func (v *investigation) usersOfFile() (rows []row) {
	users := map[[2]string][]*message{}
	for _, s := range v.within(30*day, 0) {
		for _, f := range slices.Concat(s.attachments, s.contexts, s.links) {
			key := [2]string{s.user.ID, f.url}
			if f.name == askedFile && !slices.Contains(users[key], s) {
				users[key] = append(users[key], s)
			}
		}
	}
	for key, written := range users {
		r := summaryOf(written, "interactions")
		r["file_url"] = key[1]
		rows = append(rows, r)
	}
	return rows
}

func (v *investigation) usesOfApp() (rows []row) {
	written := slices.DeleteFunc(v.prompts(90*day, 0), func(s *message) bool { return !strings.EqualFold(s.app, documentedApp) })
	for _, prompts := range byUser(written) {
		rows = append(rows, summaryOf(prompts, "prompts"))
	}
	return rows
}

func (v *investigation) unused() (rows []row) {
	active, ever := byUser(v.prompts(27*day, 0)), byUser(v.prompts(90*day, 0))
	for _, p := range v.licensed {
		if len(active[p.ID]) > 0 {
			continue
		}
		r := row{"user.id": p.ID, "user.name": p.UserPrincipalName, "microsoft.user.department": p.Department}
		if prompts := ever[p.ID]; len(prompts) > 0 {
			r["microsoft.copilot.user.last_active"] = stamp(prompts[len(prompts)-1].at)
		}
		maps.DeleteFunc(r, func(_, value string) bool { return value == "" })
		rows = append(rows, r)
	}
	return rows
}

func (v *investigation) unusualVolume() (rows []row) {
	before := byUser(v.prompts(28*day, day))
	for id, prompts := range byUser(v.prompts(day, 0)) {
		times := int(math.Round(float64(len(prompts)) * 28 / float64(max(len(before[id]), 28))))
		if len(prompts) >= 20 && times >= 5 {
			rows = append(rows, row{
				"user.id": id, "name": prompts[0].user.UserPrincipalName, "today": strconv.Itoa(len(prompts)),
				"before": strconv.Itoa(len(before[id])), "times": strconv.Itoa(times),
			})
		}
	}
	return rows
}

func (v *investigation) outsideOfHours() (rows []row) {
	written := slices.DeleteFunc(v.prompts(7*day, 0), func(s *message) bool {
		local := s.at.In(workZone)
		weekday := local.Weekday() != time.Saturday && local.Weekday() != time.Sunday
		return weekday && local.Hour() >= 8 && local.Hour() < 18
	})
	for _, prompts := range byUser(written) {
		rows = append(rows, summaryOf(prompts, "prompts"))
	}
	return rows
}

func (v *investigation) otherLocales() (rows []row) {
	before := byUser(v.prompts(28*day, day))
	for id, prompts := range byUser(v.prompts(day, 0)) {
		var usual []string
		for _, s := range before[id] {
			if !slices.Contains(usual, s.locale) {
				usual = append(usual, s.locale)
			}
		}
		others := map[string]int{}
		for _, s := range prompts {
			if len(usual) > 0 && !slices.Contains(usual, s.locale) {
				others[s.locale]++
			}
		}
		for locale, n := range others {
			rows = append(rows, row{
				"user.id": id, "name": prompts[0].user.UserPrincipalName, "microsoft.copilot.locale": locale, "today": strconv.Itoa(n),
				"usual": encodeList(usual),
			})
		}
	}
	return rows
}

func (v *investigation) lateHours() (rows []row) {
	type hour struct{ all, fromHistory, late int }
	hours := map[string]*hour{}
	for _, s := range v.within(7*day, 0) {
		at := stamp(s.at.Truncate(time.Hour))
		if hours[at] == nil {
			hours[at] = &hour{}
		}
		hours[at].all++
		if !s.notified {
			hours[at].fromHistory++
		}
		if v.begun.Sub(s.at) > time.Hour {
			hours[at].late++
		}
	}
	for at, h := range hours {
		if h.fromHistory > 0 || h.late > 0 {
			rows = append(rows, row{
				"_time": at, "interactions": strconv.Itoa(h.all), "from_history": strconv.Itoa(h.fromHistory), "late": strconv.Itoa(h.late),
			})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a["_time"], b["_time"]) }) // whole hours
	return rows
}

// storeTwice stores each interaction once more, as after a crash.
func (v *investigation) storeTwice(t *testing.T) {
	t.Helper()
	var records bytes.Buffer
	for _, fields := range v.queryLogs(t, `{event_name="microsoft.copilot.interaction"}`) {
		delete(fields, "_stream")
		delete(fields, "_stream_id")
		require.NoError(t, json.NewEncoder(&records).Encode(fields))
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+v.logs+"/insert/jsonline?_stream_fields=event_name", &records)
	require.NoError(t, err)
	send(t, request)
}
