// Package interaction is the domain: one Microsoft 365 Copilot interaction, its JSON and its text.
//
// It knows nothing of how an interaction travels: neither HTTP, nor encryption, nor OpenTelemetry.
package interaction

import "time"

// Interaction is a prompt or an answer, the aiInteraction resource of Microsoft Graph:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteraction
//
// Only ID is certain to be there. A string that Graph left out or sent as null is empty, a time is zero, a list is nil.
type Interaction struct {
	// ID is the time of creation in epoch milliseconds, in decimal. It is unique only inside a session.
	ID string
	// SessionID is the id of the thread.
	SessionID string
	// RequestID groups a prompt with its responses. It is absent for some apps, and not always a GUID.
	RequestID string
	// AppClass names the application, for example IPM.SkypeTeams.Message.Copilot.BizChat. The set is open.
	AppClass string
	// Type is userPrompt, aiResponse, or whatever else Graph sent.
	Type string
	// ConversationType is an open set: appchat, bizchat, webchat, and others.
	ConversationType string
	// ETag is the time of the last change in epoch milliseconds; it equals ID when nothing was changed.
	ETag string
	// Locale is for example en-us.
	Locale string
	// CreatedDateTime is the time of creation, in UTC.
	CreatedDateTime time.Time
	// From says who wrote it: a user for a prompt, an application for a response.
	From IdentitySet
	// Body is what was written. A response of a chat only points at an attachment here; Text resolves that.
	Body Body

	Attachments []Attachment
	Contexts    []Context
	Links       []Link
	Mentions    []Mention
}

// The values of Interaction.Type that Graph documents.
const (
	TypeUserPrompt = "userPrompt"
	TypeAIResponse = "aiResponse"
)

// IdentitySet is who an interaction comes from, or who is mentioned in it. Each member is nil when absent.
type IdentitySet struct {
	User         *Identity
	Application  *Identity
	Device       *Identity
	Conversation *Identity // only in mentions
	Tag          *Identity // only in mentions
}

// Identity is a user, an application, a device, a conversation or a tag.
type Identity struct {
	// ID of a user is the Entra object id.
	ID string
	// DisplayName of a user is not a name but 8:orgid: with the object id.
	DisplayName string
	// Type is userIdentityType, applicationIdentityType or their likes: aadUser, bot, and others.
	Type string
	// TenantID is the home tenant of a user, where Graph says it.
	TenantID string
}

// Body is the itemBody resource of Graph.
type Body struct {
	// ContentType is text or html.
	ContentType string
	Content     string
}

// Attachment is a file, a meeting or an adaptive card.
type Attachment struct {
	// ID is unique only inside its interaction, and may be empty.
	ID string
	// ContentType is reference, application/vnd.microsoft.card.adaptive, file, image/*, and others.
	ContentType string
	ContentURL  string
	// Content is the card as JSON text, for an adaptive card.
	Content string
	Name    string
}

// Context is something the interaction took place in: a file or a meeting.
type Context struct {
	Reference   string
	DisplayName string
	Type        string
}

// Link is a link in a response.
type Link struct {
	URL         string
	DisplayName string
	Type        string
}

// Mention is somebody or something mentioned in the text.
type Mention struct {
	ID        int32
	Text      string
	Mentioned IdentitySet
}
