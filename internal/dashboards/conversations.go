// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/logs"
	"github.com/grafana/grafana-foundation-sdk/go/loki"
)

const conversationsDescription = "Single prompts and answers, newest first, by user, app and conversation."

// conversationPanel is a list of records, for which each log store has its query.
type conversationPanel struct {
	title      string
	definition string
	victoria   string
	loki       string
}

// What is typed into a variable is found anywhere in the value, in upper or lower case. Nothing typed finds all records, also those that
// lack the attribute. The format :regex escapes it, so that a dot is a dot.
const (
	victoriaFilters = `{event_name="microsoft.copilot.interaction"}
(user.id:~` + "`(?i)${user:regex}`" + ` or user.name:~` + "`(?i)${user:regex}`" + `)
microsoft.copilot.app.name:~` + "`(?i)${app:regex}`" + `
gen_ai.conversation.id:~` + "`(?i)${conversation:regex}`"

	// A line begins with who it is about: the user principal name if it is there, else the id.
	victoriaLine = `
| format "<user.name>" as who
| format if (who:"") "<user.id>" as who
| format if (who:"") "unknown user" as who
| format "<who>: <_msg>" as _msg`

	victoriaCreated = victoriaFilters + ` microsoft.copilot.change.type:="created"` + victoriaLine
	victoriaChanged = victoriaFilters + ` !microsoft.copilot.change.type:="created"` + victoriaLine

	lokiFilters = `{service_name="microsoft-365-copilot"} | microsoft_copilot_interaction_id!=""
| user_id=~` + "`(?i).*${user:regex}.*`" + ` or user_name=~` + "`(?i).*${user:regex}.*`" + `
| microsoft_copilot_app_name=~` + "`(?i).*${app:regex}.*`" + `
| gen_ai_conversation_id=~` + "`(?i).*${conversation:regex}.*`"

	lokiLine = `
| line_format "{{ if .user_name }}{{ .user_name }}{{ else if .user_id }}{{ .user_id }}{{ else }}unknown user{{ end }}: {{ __line__ }}"`

	lokiCreated = lokiFilters + ` | microsoft_copilot_change_type="created"` + lokiLine
	lokiChanged = lokiFilters + ` | microsoft_copilot_change_type!="created"` + lokiLine
)

var conversationPanels = []conversationPanel{
	{
		title: "Prompts and answers",
		definition: "Prompts and answers as they were created, at the time of their creation. A line has the user and the text, or without " +
			"`content.capture: text` a summary of it. Open a line for its attributes; with an id of a conversation as filter it is shown alone.",
		victoria: victoriaCreated, loki: lokiCreated,
	},
	{
		title: "Changes and deletions",
		definition: "Prompts and answers that were changed or deleted later, at the time of their creation. A deletion may name " +
			"neither user nor conversation.",
		victoria: victoriaChanged, loki: lokiChanged,
	},
}

// variable is what can be typed to filter.
type variable struct {
	name, label, description string
}

var conversationVariables = []variable{
	{"user", "User", "a part of the id or of the user principal name"},
	{"app", "App", "a part of the name"},
	{"conversation", "Conversation", "a part of the id"},
}

const victoriaLogsPlugin = "victoriametrics-logs-datasource"

func writeConversations(dir string) error {
	for _, of := range []struct{ store, plugin string }{{"victorialogs", victoriaLogsPlugin}, {"loki", "loki"}} {
		made, err := newConversations("conversations-"+of.store, of.plugin)
		if err != nil {
			return err
		}
		if err := writeJSON(dir, "grafana/conversations-"+of.store+".json", made); err != nil {
			return err
		}
	}
	return nil
}

func newConversations(name, plugin string) (grafanaDashboard, error) {
	made := newDashboard(name, "Copilot conversations", conversationsDescription, "now-24h", plugin)
	for _, v := range conversationVariables {
		made.WithVariable(dashboard.NewTextBoxVariableBuilder(v.name).Label(v.label).Description(v.description))
	}
	for _, p := range conversationPanels {
		made.WithPanel(logs.NewPanelBuilder().Title(p.title).Description(p.definition).Datasource(dataSourceRef(plugin)).
			Height(14).Span(24).ShowTime(true).WrapLogMessage(true).EnableLogDetails(true).SortOrder(common.LogsSortOrderDescending).
			WithTarget(logQuery(p, plugin)))
	}
	return made.Build()
}

// logQuery returns the query for a log store. The SDK has no type for the plugin of VictoriaLogs:
// https://github.com/VictoriaMetrics/victorialogs-datasource/blob/main/src/types.ts
func logQuery(p conversationPanel, plugin string) cog.Builder[variants.Dataquery] {
	const lines = 1000
	if plugin == victoriaLogsPlugin {
		return variants.NewUnknownDataqueryBuilderFromObject(variants.UnknownDataquery{
			"refId": refID(0), "expr": p.victoria, "queryType": "instant", "editorMode": "code", "maxLines": lines,
			"datasource": dataSourceRef(plugin),
		})
	}
	return loki.NewDataqueryBuilder().RefId(refID(0)).Expr(p.loki).QueryType("range").MaxLines(lines)
}
