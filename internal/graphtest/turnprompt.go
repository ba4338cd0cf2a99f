package graphtest

import (
	"net/url"
	"strings"
)

// prompt returns what a user's side says.
func (t *turn) prompt() map[string]any {
	text := t.subject.question
	members := map[string]any{
		"interactionType": "userPrompt",
		"from":            map[string]any{"@odata.type": identitySetType, "application": nil, "device": nil, "user": t.identity()},
	}
	switch t.style {
	case styleTeams:
		members["contexts"] = t.meetingContexts()
		members["attachments"] = []any{t.meetingAttachment()}
		text += attachmentTag(t.meeting)
	case styleExcel, stylePlain:
		members["contexts"] = []any{map[string]any{
			"contextType": t.extension(), "displayName": t.file, "contextReference": t.fileURL(),
		}}
	case styleNoFile:
		members["contexts"] = []any{map[string]any{"contextType": "", "displayName": "unknown-file-name", "contextReference": nil}}
		members["attachments"] = []any{unknownFile()}
	case styleSparing:
		members["contexts"], members["attachments"], members["links"], members["mentions"] = nil, nil, nil, nil
	case styleCard:
		if t.often(0.2) {
			members["mentions"] = []any{t.mention()}
		}
	case styleCowork:
	}
	members["body"] = map[string]any{"contentType": "text", "content": t.noise(text)}
	return members
}

const identitySetType = "#microsoft.graph.chatMessageFromIdentitySet"

func (t *turn) identity() map[string]any {
	identity := map[string]any{
		"@odata.type":      "#microsoft.graph.teamworkUserIdentity",
		"id":               t.user,
		"displayName":      "8:orgid:" + t.user,
		"userIdentityType": "aadUser",
	}
	if t.style != styleCowork {
		identity["tenantId"] = t.settings.TenantID
	}
	return identity
}

// noise appends the tags that prompts end with now and then: of no attachment, and escaped.
func (t *turn) noise(text string) string {
	switch n := t.chance.Float64(); {
	case n < 0.2:
		return text + attachmentTag("")
	case n < 0.3:
		return text + `&lt;attachment id=&quot;` + t.hex(16) + `&quot;&gt;&lt;/attachment&gt;`
	default:
		return text
	}
}

func attachmentTag(id string) string { return `<attachment id="` + id + `"></attachment>` }

func (t *turn) meetingURL() string { return "https://microsoft.teams.com/threads/" + t.meeting }

func (t *turn) meetingContexts() []any {
	return []any{map[string]any{
		"contextType": "TeamsMeeting", "displayName": "Teams Meeting Copilot", "contextReference": t.meetingURL(),
	}}
}

func (t *turn) meetingAttachment() map[string]any {
	return map[string]any{
		"attachmentId": t.meeting, "contentType": "reference", "contentUrl": t.meetingURL(), "content": nil, "name": "Teams Meeting Copilot",
	}
}

func unknownFile() map[string]any {
	return map[string]any{
		"attachmentId": nil, "contentType": "reference", "contentUrl": "file:///unknown-url", "content": nil, "name": "unknown-file-name",
	}
}

func (t *turn) fileURL() string {
	return "https://contoso.sharepoint.example/sites/garden/" + url.PathEscape(t.file)
}

func (t *turn) extension() string { return t.file[strings.LastIndex(t.file, ".")+1:] }

func (t *turn) mention() map[string]any {
	return map[string]any{
		"mentionId": 0, "mentionText": "Lena",
		"mentioned": map[string]any{
			"application": nil, "device": nil, "conversation": nil, "tag": nil,
			"user": map[string]any{"id": pick(t.chance, t.users), "displayName": "Lena", "userIdentityType": "aadUser"},
		},
	}
}
