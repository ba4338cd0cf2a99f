// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is typed into the variables of the dashboard finds the records that contain it, and a line says whose it is.
func TestConversations_VariablesFilter(t *testing.T) {
	t.Parallel()
	store := startVictoriaLogs(t)
	in := func(conversation string) record { return record{"gen_ai.conversation.id": conversation} }
	named := func(name string) record { return record{"user.name": name} }
	changed := record{"microsoft.copilot.change.type": "deleted"}
	store.insert(t, "1", slices.Concat(
		prompt("id-1", time.Hour, named("lena@contoso.com"), in("19:a.b@thread.v2"), record{"_msg": "one"}),
		answer("id-1", time.Hour, named("lena@contoso.com"), in("19:a.b@thread.v2"), inApp("Teams"), record{"_msg": "two"}),
		prompt("id-2", time.Hour, in("19:axb@thread.v2"), record{"_msg": "three"}),
		answer("", time.Hour, inApp(""), record{"_msg": "four"}),
		prompt("id-2", time.Hour, changed, record{"_msg": "five"}),
		listed("id-1", time.Hour, record{"_msg": "no interaction"}),
	))
	both := []string{"lena@contoso.com: one", "lena@contoso.com: two"}
	for name, of := range map[string]struct {
		query string
		typed map[string]string
		want  []string
	}{
		"nothing finds all": {
			victoriaCreated, nil, []string{"id-2: three", "lena@contoso.com: one", "lena@contoso.com: two", "unknown user: four"},
		},
		"a part of a name in other case":   {victoriaCreated, map[string]string{"user": "LENA"}, both},
		"a part of an id":                  {victoriaCreated, map[string]string{"user": "d-2"}, []string{"id-2: three"}},
		"an app":                           {victoriaCreated, map[string]string{"app": "word"}, []string{"id-2: three", "lena@contoso.com: one"}},
		"a conversation, whose dot is one": {victoriaCreated, map[string]string{"conversation": "19:a.b@"}, both},
		"several": {
			victoriaCreated, map[string]string{"user": "lena", "app": "teams", "conversation": "thread"}, []string{"lena@contoso.com: two"},
		},
		"changes": {victoriaChanged, nil, []string{"id-2: five"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			query := regexp.MustCompile(`\$\{([a-z]+):regex\}`).ReplaceAllStringFunc(of.query, func(variable string) string {
				return regexp.QuoteMeta(of.typed[strings.TrimSuffix(strings.TrimPrefix(variable, "${"), ":regex}")])
			})
			require.NotContains(t, query, "$")
			assert.Equal(t, of.want, store.lines(t, "1", query))
		})
	}
}

// lines returns the messages that a query finds before the moment, sorted:
// https://docs.victoriametrics.com/victorialogs/querying/#querying-logs
func (v victoriaLogs) lines(t *testing.T, tenant, query string) []string {
	t.Helper()
	arguments := url.Values{"query": {query}, "end": {moment.Format(time.RFC3339)}}
	var found []string
	lines := bufio.NewScanner(bytes.NewReader(v.request(t, tenant, "/select/logsql/query?"+arguments.Encode(), nil)))
	for lines.Scan() {
		var fields map[string]string
		require.NoError(t, json.Unmarshal(lines.Bytes(), &fields))
		found = append(found, fields["_msg"])
	}
	require.NoError(t, lines.Err())
	slices.Sort(found)
	return found
}
