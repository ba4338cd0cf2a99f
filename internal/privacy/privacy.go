// SPDX-License-Identifier: Apache-2.0

// Package privacy decides what of an interaction may leave the receiver. Whatever is exported is made from its records.
package privacy

import (
	"cmp"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// Settings selects what may leave. By default it is neither text nor the name or URL of a file, meeting or link, and nothing of a
// user but the id.
type Settings struct {
	// CaptureText makes the text the body of a record.
	CaptureText bool
	// References adds the names and URLs of files, meetings and links.
	References bool
	// Directory adds what the directory says about the user: Properties, and whether the user has a Copilot license.
	Directory bool
	// Properties are names of PropertyNames. Without Directory they have no effect.
	Properties []string
}

// Apply returns what may leave of each interaction, in order.
func (s Settings) Apply(received []interaction.Received) []record.Record {
	records := make([]record.Record, len(received))
	for i := range received {
		records[i] = s.recordOf(&received[i])
	}
	return records
}

func (s Settings) recordOf(r *interaction.Received) record.Record {
	text := r.Text()
	made := record.Record{
		TenantID: r.TenantID, UID: r.UID(), CreatedAt: createdAt(r), ReceivedAt: r.At, Delay: delay(r),
		InteractionID: r.ID, Type: r.Type, ETag: r.ETag, RequestID: r.RequestID,
		ConversationType: r.ConversationType, Locale: r.Locale, AppClass: r.AppClass, AppName: r.App(),
		Change: string(r.Change), Source: string(r.Source), TurnID: r.TurnID(),
		Captured: s.CaptureText && text != "", Length: utf8.RuneCountInString(text),
		Attachments: len(r.Attachments), Links: len(r.Links), Mentions: len(r.Mentions), Contexts: len(r.Contexts),
		ContextTypes: contextTypes(r.Contexts), Agents: agents(r.Mentions),
		UserID: r.UserID, UserSource: string(r.UserSource), Person: s.person(r.Person), ConversationID: r.SessionID,
	}
	if r.UserID != "" {
		made.Subject = s.Subject(r.TenantID, r.UserID)
	}
	if made.Body = text; !made.Captured {
		made.Body = summary(&made)
	}
	if s.References {
		made.References = references(&r.Interaction)
	}
	if r.Type == interaction.TypeAIResponse {
		made.ResponseID = r.ID
		if agent := r.From.Application; agent != nil {
			made.AgentID, made.AgentName = agent.ID, agent.DisplayName
		}
	}
	return made
}

// createdAt returns the time of creation, or the time of receipt if the former is unknown.
func createdAt(r *interaction.Received) time.Time {
	if created, known := r.CreatedAt(); known {
		return created
	}
	return r.At
}

// delay returns the time from the change to its receipt. It is not negative, although the clocks of Microsoft and of this
// machine may differ.
func delay(r *interaction.Received) time.Duration {
	happened, known := r.HappenedAt()
	if !known {
		return record.UnknownDelay
	}
	return max(0, r.At.Sub(happened))
}

// summary returns the body of a record without text, so that log views have a line to show:
//
//	{change, unless created} {interaction type, else interaction} in {app name}, {length} characters
func summary(r *record.Record) string {
	line := cmp.Or(r.Type, "interaction")
	if r.Change != string(interaction.Created) && r.Change != "" {
		line = r.Change + " " + line
	}
	if r.AppName != "" {
		line += " in " + r.AppName
	}
	return line + ", " + strconv.Itoa(r.Length) + " characters"
}

func contextTypes(contexts []interaction.Context) []string {
	var types []string
	for _, context := range contexts {
		types = appendDistinct(types, context.Type)
	}
	return types
}

// agents returns the names of the mentioned applications, or their ids if they have no name. A user calls an agent by mentioning
// it: https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteractionmention
func agents(mentions []interaction.Mention) []string {
	var names []string
	for i := range mentions {
		if application := mentions[i].Mentioned.Application; application != nil {
			names = appendDistinct(names, cmp.Or(application.DisplayName, application.ID))
		}
	}
	return names
}

func appendDistinct(values []string, value string) []string {
	if value == "" || slices.Contains(values, value) {
		return values
	}
	return append(values, value)
}
