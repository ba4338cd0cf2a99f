// Package interaction is the domain: one Microsoft 365 Copilot interaction, its JSON and its text.
//
// It knows nothing of how an interaction travels: neither HTTP, nor encryption, nor OpenTelemetry.
package interaction

import (
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/plaintext"
)

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

// Text is what was written, as the user saw it: without attachment tags, HTML made plain, adaptive cards read in the
// place where the body points at them, markdown left as it is. It is empty where there is none; it is never an error,
// for Graph promises nothing about the shape of a body:
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

// IsAdaptiveCard reports whether the attachment is an adaptive card, a part of the text rather than a reference.
func (a *Attachment) IsAdaptiveCard() bool {
	return strings.EqualFold(strings.TrimSpace(a.ContentType), "application/vnd.microsoft.card.adaptive")
}

// App is the last part of AppClass, in its own case: Teams for IPM.SkypeTeams.Message.Copilot.Teams. Where that is a
// GUID it is the two parts before it, so that the number of names stays small: a registered third-party app is named by
// its application id, and IPM.SkypeTeams.Message.ConnectedAIApp.Entra.{id} gives ConnectedAIApp.Entra. It is empty when
// AppClass is.
//
// The set is open. Compare without regard to case: Graph writes PowerPoint and Powerpoint.
func (i *Interaction) App() string {
	parts := strings.Split(strings.TrimRight(strings.TrimSpace(i.AppClass), "."), ".")
	last := len(parts) - 1
	if last > 0 && isGUID(parts[last]) {
		return strings.Join(parts[max(last-2, 0):last], ".")
	}
	return parts[last]
}

// isGUID reports whether s has the usual form of a GUID, 8-4-4-4-12 hexadecimal digits.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
				return false
			}
		}
	}
	return true
}

// CreatedAt is when it was written, in UTC: CreatedDateTime, or the time in the id where Graph sent none.
// It is false when neither tells.
func (i *Interaction) CreatedAt() (time.Time, bool) {
	if !i.CreatedDateTime.IsZero() {
		return i.CreatedDateTime.UTC(), true
	}
	return epochMillis(i.ID)
}

// The times that an id or an etag can plausibly mean, in epoch milliseconds: Copilot is younger than the one, and this
// program hardly older than the other. Ids that are numbers of another kind fall outside.
const (
	minEpochMillis = 1_420_070_400_000 // 2015-01-01
	maxEpochMillis   = 4_102_444_800_000 // 2100-01-01
)

func epochMillis(digits string) (time.Time, bool) {
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
	}
	ms, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || ms < minEpochMillis || ms >= maxEpochMillis {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}
