package interaction

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lenientjson"
)

var (
	// ErrNotObject is returned by Parse if the data is not exactly one JSON object, nested no deeper than encoding/json
	// allows.
	ErrNotObject = errors.New("not a JSON object")
	// ErrNoID is returned by Parse if the id is absent, null, blank, or neither a string nor a number.
	ErrNoID = errors.New("no id")
)

// Parse parses an aiInteraction as Graph sends it, in a notification or in the history:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteraction
//
// In the schema nearly every member is optional, and the open sets grow without notice. A member that is missing, null,
// or of another type than documented is therefore left empty, and an unknown member is ignored. The last of duplicate
// members wins, invalid UTF-8 is replaced by U+FFFD, and only the first 10,000 elements of a list are kept.
//
// The error wraps ErrNotObject or ErrNoID. It never contains any of the data. With ErrNoID the interaction is returned too.
func Parse(data []byte) (*Interaction, error) {
	var i Interaction
	if !json.Valid(data) || !lenientjson.EachMember(data, i.read) {
		return nil, fmt.Errorf("parse interaction: %w", ErrNotObject)
	}
	if strings.TrimSpace(i.ID) == "" {
		i.ID = ""
		return &i, fmt.Errorf("parse interaction: %w", ErrNoID)
	}
	return &i, nil
}

func (i *Interaction) read(name string, value json.RawMessage) {
	switch name {
	case "id":
		i.ID = lenientjson.String(value)
	case "sessionId":
		i.SessionID = lenientjson.String(value)
	case "requestId":
		i.RequestID = lenientjson.String(value)
	case "appClass":
		i.AppClass = lenientjson.String(value)
	case "interactionType":
		i.Type = lenientjson.String(value)
	case "conversationType":
		i.ConversationType = lenientjson.String(value)
	case "etag":
		i.ETag = lenientjson.String(value)
	case "locale":
		i.Locale = lenientjson.String(value)
	case "createdDateTime":
		i.CreatedDateTime = timeOf(value)
	case "from":
		i.From = readIdentitySet(value)
	case "body":
		i.Body = Body{}
		lenientjson.EachMember(value, i.Body.read)
	case "attachments":
		i.Attachments = readList(value, func(a *Attachment) func(string, json.RawMessage) { return a.read })
	case "contexts":
		i.Contexts = readList(value, func(c *Context) func(string, json.RawMessage) { return c.read })
	case "links":
		i.Links = readList(value, func(l *Link) func(string, json.RawMessage) { return l.read })
	case "mentions":
		i.Mentions = readList(value, func(m *Mention) func(string, json.RawMessage) { return m.read })
	}
}

func (b *Body) read(name string, value json.RawMessage) {
	switch name {
	case "contentType":
		b.ContentType = lenientjson.String(value)
	case "content":
		b.Content = lenientjson.String(value)
	}
}

func (a *Attachment) read(name string, value json.RawMessage) {
	switch name {
	case "attachmentId":
		a.ID = lenientjson.String(value)
	case "contentType":
		a.ContentType = lenientjson.String(value)
	case "contentUrl":
		a.ContentURL = lenientjson.String(value)
	case "content":
		a.Content = lenientjson.String(value)
		if lenientjson.Kind(value) == '{' { // a card that is not encoded as a string
			a.Content = strings.ToValidUTF8(string(value), "\uFFFD")
		}
	case "name":
		a.Name = lenientjson.String(value)
	}
}

func (c *Context) read(name string, value json.RawMessage) {
	switch name {
	case "contextReference":
		c.Reference = lenientjson.String(value)
	case "displayName":
		c.DisplayName = lenientjson.String(value)
	case "contextType":
		c.Type = lenientjson.String(value)
	}
}

func (l *Link) read(name string, value json.RawMessage) {
	switch name {
	case "linkUrl":
		l.URL = lenientjson.String(value)
	case "displayName":
		l.DisplayName = lenientjson.String(value)
	case "linkType":
		l.Type = lenientjson.String(value)
	}
}

func (m *Mention) read(name string, value json.RawMessage) {
	switch name {
	case "mentionId":
		m.ID = int32Of(value)
	case "mentionText":
		m.Text = lenientjson.String(value)
	case "mentioned":
		m.Mentioned = readIdentitySet(value)
	}
}

func readIdentitySet(value json.RawMessage) IdentitySet {
	var s IdentitySet
	lenientjson.EachMember(value, s.read) // a value that is not an object is an empty set
	return s
}

func (s *IdentitySet) read(name string, value json.RawMessage) {
	switch name {
	case "user":
		s.User = readIdentity(value, "userIdentityType")
	case "application":
		s.Application = readIdentity(value, "applicationIdentityType")
	case "device":
		s.Device = readIdentity(value, "deviceIdentityType")
	case "conversation":
		s.Conversation = readIdentity(value, "conversationIdentityType")
	case "tag":
		s.Tag = readIdentity(value, "tagIdentityType")
	}
}

// readIdentity returns nil if the value is not an object.
func readIdentity(value json.RawMessage, typeName string) *Identity {
	var i Identity
	ok := lenientjson.EachMember(value, func(name string, value json.RawMessage) {
		switch name {
		case "id":
			i.ID = lenientjson.String(value)
		case "displayName":
			i.DisplayName = lenientjson.String(value)
		case typeName:
			i.Type = lenientjson.String(value)
		case "tenantId":
			i.TenantID = lenientjson.String(value)
		}
	})
	if !ok {
		return nil
	}
	return &i
}

// maxListLength is the number of elements of a list that are kept. Copilot sends a few dozen at most. Without the limit, a
// list of millions of empty objects would take many times the memory of its JSON.
const maxListLength = 10_000

// readList reads an array of objects, skipping other elements.
func readList[T any](data json.RawMessage, reader func(*T) func(string, json.RawMessage)) []T {
	var all []T
	lenientjson.EachElement(data, func(value json.RawMessage) bool {
		var one T
		if lenientjson.EachMember(value, reader(&one)) {
			all = append(all, one)
		}
		return len(all) < maxListLength
	})
	return all
}

// int32Of reads a 32-bit integer that is encoded as a number or as a string. Anything else is 0.
func int32Of(value json.RawMessage) int32 {
	n, err := strconv.ParseInt(strings.TrimSpace(lenientjson.String(value)), 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// timeOf reads an RFC 3339 time with a fraction of any length and any offset. Anything else is the zero time, and so are
// years that do not fit into 64 bits of nanoseconds since 1970, in which OTLP represents times.
func timeOf(value json.RawMessage) time.Time {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(strings.TrimSpace(lenientjson.String(value))))
	if err != nil || t.Year() < 1970 || t.Year() >= 2262 {
		return time.Time{}
	}
	return t.UTC()
}
