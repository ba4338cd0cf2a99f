// SPDX-License-Identifier: Apache-2.0

// Package interaction is the model of one Microsoft 365 Copilot interaction: its fields, its JSON, its identity and its text.
//
// It is independent of transport, encryption and OpenTelemetry.
package interaction

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

// Interaction is a prompt or a response, the aiInteraction resource of Microsoft Graph:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteraction
//
// Only ID is always set. A string that Graph omitted or sent as null is empty, a time is zero, a list is nil.
type Interaction struct {
	// ID is the time of creation in epoch milliseconds, in decimal. It is unique only within a session.
	ID string `json:"id"`
	// SessionID is the id of the thread.
	SessionID string `json:"sessionId"`
	// RequestID groups a prompt with its responses. Some apps omit it, and it is not always a GUID.
	RequestID string `json:"requestId"`
	// AppClass names the application, for example IPM.SkypeTeams.Message.Copilot.BizChat. The set is open.
	AppClass string `json:"appClass"`
	// Type is userPrompt, aiResponse, or another value that Graph sent.
	Type string `json:"interactionType"`
	// ConversationType is an open set: appchat, bizchat, webchat, and others.
	ConversationType string `json:"conversationType"`
	// ETag is the time of the last change in epoch milliseconds. It equals ID while the interaction is unchanged.
	ETag string `json:"etag"`
	// Locale is for example en-us.
	Locale string `json:"locale"`
	// CreatedDateTime is the time of creation, in UTC.
	CreatedDateTime time.Time `json:"createdDateTime"`
	// From is the author: a user for a prompt, an application for a response.
	From IdentitySet `json:"from"`
	// Body is the content as Graph sent it. The body of a chat response only refers to an attachment; Text resolves that.
	Body Body `json:"body"`

	Attachments List[Attachment] `json:"attachments"`
	Contexts    List[Context]    `json:"contexts"`
	Links       List[Link]       `json:"links"`
	Mentions    List[Mention]    `json:"mentions"`
}

// The values of Interaction.Type that Graph documents.
const (
	TypeUserPrompt = "userPrompt"
	TypeAIResponse = "aiResponse"
)

// IdentitySet is the author of an interaction, or who is mentioned in it. Each field is nil when absent.
type IdentitySet struct {
	User        *Identity `json:"user"`
	Application *Identity `json:"application"`
}

// Identity is a user or an application.
type Identity struct {
	// ID is the Entra object id for a user.
	ID string `json:"id"`
	// DisplayName is not a name for a user, but 8:orgid: followed by the object id.
	DisplayName string `json:"displayName"`
}

// Body is the itemBody resource of Graph.
type Body struct {
	// ContentType is text or html.
	ContentType string `json:"contentType"`
	Content     string `json:"content"`
}

// Attachment is a file, a meeting or an adaptive card.
type Attachment struct {
	// ID is unique only within its interaction, and may be empty.
	ID string `json:"attachmentId"`
	// ContentType is reference, application/vnd.microsoft.card.adaptive, file, image/*, and others.
	ContentType string `json:"contentType"`
	ContentURL  string `json:"contentUrl"`
	// Content is the JSON text of an adaptive card.
	Content string `json:"content"`
	Name    string `json:"name"`
}

// Context is the file or meeting in which the interaction took place.
type Context struct {
	Reference   string `json:"contextReference"`
	DisplayName string `json:"displayName"`
	Type        string `json:"contextType"`
}

// Link is a link in a response.
type Link struct {
	URL         string `json:"linkUrl"`
	DisplayName string `json:"displayName"`
	Type        string `json:"linkType"`
}

// Mention is somebody or something mentioned in the text.
type Mention struct {
	Mentioned IdentitySet `json:"mentioned"`
}

// Text returns the text as the user saw it: attachment tags are removed, HTML becomes plain text, adaptive cards are
// inserted where the body refers to them, and Markdown is unchanged. It is empty where there is no text. It never fails,
// because Graph makes no guarantee about the format of a body:
// https://learn.microsoft.com/graph/api/resources/itembody
func (i *Interaction) Text() string {
	m := plaintext.Message{
		HTML:    strings.EqualFold(strings.TrimSpace(i.Body.ContentType), "html"),
		Content: i.Body.Content,
		Prompt:  i.Type == TypeUserPrompt,
	}
	for n := range i.Attachments {
		if a := &i.Attachments[n]; a.IsAdaptiveCard() {
			m.Cards = append(m.Cards, plaintext.Card{ID: a.ID, Content: a.Content})
		}
	}
	return plaintext.Of(m)
}

// IsAdaptiveCard reports whether the attachment is an adaptive card, which is part of the text and refers to nothing.
func (a *Attachment) IsAdaptiveCard() bool {
	return strings.EqualFold(strings.TrimSpace(a.ContentType), "application/vnd.microsoft.card.adaptive")
}

var guid = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// App returns the name of the application: the last part of AppClass, in its original case, such as Teams for
// IPM.SkypeTeams.Message.Copilot.Teams. If the last part is a GUID, App returns the two parts before it, because a
// registered third-party app is named by its application id and the number of names must stay small:
// IPM.SkypeTeams.Message.ConnectedAIApp.Entra.{id} gives ConnectedAIApp.Entra. It is empty when AppClass is.
//
// The set is open. Compare case-insensitively: Graph sends both PowerPoint and Powerpoint.
func (i *Interaction) App() string {
	parts := strings.Split(strings.TrimRight(strings.TrimSpace(i.AppClass), "."), ".")
	last := len(parts) - 1
	if last > 0 && guid.MatchString(parts[last]) {
		return strings.Join(parts[max(last-2, 0):last], ".")
	}
	return parts[last]
}

// CreatedAt returns the time of creation in UTC: CreatedDateTime, or the time in the id if Graph sent none.
// It returns false if neither is a time.
func (i *Interaction) CreatedAt() (time.Time, bool) {
	if !i.CreatedDateTime.IsZero() {
		return i.CreatedDateTime.UTC(), true
	}
	return epochMillis(i.ID)
}

// The range in which an id or an etag is taken for a time, in epoch milliseconds. Copilot did not exist before 2015.
// Other numeric ids, such as times in seconds or microseconds, fall outside.
const (
	minEpochMillis = 1_420_070_400_000 // 2015-01-01
	maxEpochMillis = 4_102_444_800_000 // 2100-01-01
)

// epochMillis reads a time in epoch milliseconds, in decimal. It returns false for anything else.
func epochMillis(digits string) (time.Time, bool) {
	ms, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || ms < minEpochMillis || ms >= maxEpochMillis {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(ms)).UTC(), true
}
