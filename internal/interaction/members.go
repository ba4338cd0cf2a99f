package interaction

import (
	"encoding/json"
	"strings"
)

func (i *Interaction) read(name string, value json.RawMessage) {
	switch name {
	case "id":
		i.ID = text(value)
	case "sessionId":
		i.SessionID = text(value)
	case "requestId":
		i.RequestID = text(value)
	case "appClass":
		i.AppClass = text(value)
	case "interactionType":
		i.Type = text(value)
	case "conversationType":
		i.ConversationType = text(value)
	case "etag":
		i.ETag = text(value)
	case "locale":
		i.Locale = text(value)
	case "createdDateTime":
		i.CreatedDateTime = instant(value)
	case "from":
		i.From = identitySet(value)
	case "body":
		i.Body = Body{}
		eachMember(value, i.Body.read)
	case "attachments":
		i.Attachments = list(value, func(a *Attachment) func(string, json.RawMessage) { return a.read })
	case "contexts":
		i.Contexts = list(value, func(c *Context) func(string, json.RawMessage) { return c.read })
	case "links":
		i.Links = list(value, func(l *Link) func(string, json.RawMessage) { return l.read })
	case "mentions":
		i.Mentions = list(value, func(m *Mention) func(string, json.RawMessage) { return m.read })
	}
}

func (b *Body) read(name string, value json.RawMessage) {
	switch name {
	case "contentType":
		b.ContentType = text(value)
	case "content":
		b.Content = text(value)
	}
}

func (a *Attachment) read(name string, value json.RawMessage) {
	switch name {
	case "attachmentId":
		a.ID = text(value)
	case "contentType":
		a.ContentType = text(value)
	case "contentUrl":
		a.ContentURL = text(value)
	case "content":
		a.Content = text(value)
		if kind(value) == '{' { // a card as it is, instead of a string that holds it
			a.Content = strings.ToValidUTF8(string(value), "\uFFFD")
		}
	case "name":
		a.Name = text(value)
	}
}

func (c *Context) read(name string, value json.RawMessage) {
	switch name {
	case "contextReference":
		c.Reference = text(value)
	case "displayName":
		c.DisplayName = text(value)
	case "contextType":
		c.Type = text(value)
	}
}

func (l *Link) read(name string, value json.RawMessage) {
	switch name {
	case "linkUrl":
		l.URL = text(value)
	case "displayName":
		l.DisplayName = text(value)
	case "linkType":
		l.Type = text(value)
	}
}

func (m *Mention) read(name string, value json.RawMessage) {
	switch name {
	case "mentionId":
		m.ID = number(value)
	case "mentionText":
		m.Text = text(value)
	case "mentioned":
		m.Mentioned = identitySet(value)
	}
}

func identitySet(value json.RawMessage) IdentitySet {
	var s IdentitySet
	eachMember(value, s.read) // what is no object is an empty set
	return s
}

func (s *IdentitySet) read(name string, value json.RawMessage) {
	switch name {
	case "user":
		s.User = identity(value, "userIdentityType")
	case "application":
		s.Application = identity(value, "applicationIdentityType")
	case "device":
		s.Device = identity(value, "deviceIdentityType")
	case "conversation":
		s.Conversation = identity(value, "conversationIdentityType")
	case "tag":
		s.Tag = identity(value, "tagIdentityType")
	}
}

// identity is nil for null and for what is no object.
func identity(value json.RawMessage, typeName string) *Identity {
	var i Identity
	ok := eachMember(value, func(name string, value json.RawMessage) {
		switch name {
		case "id":
			i.ID = text(value)
		case "displayName":
			i.DisplayName = text(value)
		case typeName:
			i.Type = text(value)
		case "tenantId":
			i.TenantID = text(value)
		}
	})
	if !ok {
		return nil
	}
	return &i
}
