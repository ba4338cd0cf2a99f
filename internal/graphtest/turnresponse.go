package graphtest

// botID is the application that all of Copilot answers as.
const botID = "fb8d773d-7ef8-4ec0-a117-179f88add510"

// response returns what Copilot's side says. It never names the user.
func (t *turn) response() map[string]any {
	members := map[string]any{
		"interactionType": "aiResponse",
		"from": map[string]any{
			"@odata.type": identitySetType, "device": nil, "user": nil,
			"application": map[string]any{
				"@odata.type": "#microsoft.graph.teamworkApplicationIdentity",
				"id":          botID, "displayName": t.bot, "applicationIdentityType": "bot",
			},
		},
		"body": map[string]any{"contentType": "text", "content": t.subject.answer},
	}
	switch t.style {
	case styleCard:
		t.card(members, []any{
			map[string]any{"type": "TextBlock", "text": t.subject.answer + " [" + t.file + "](" + t.fileURL() + ")", "wrap": true},
			map[string]any{"type": "TextBlock", "id": "MessageTextField", "text": t.subject.answer + " " + t.file + "[^1^]", "wrap": true},
			map[string]any{"type": "CustomRichUx", "payload": map[string]any{}},
		})
		members["links"] = t.links()
	case styleExcel:
		thoughts := map[string]any{"thoughts": "The user wants to know: " + t.subject.question, "finalResponse": t.subject.answer}
		t.card(members, []any{map[string]any{"type": "TextBlock", "text": string(encode(thoughts)), "wrap": true}})
		t.strayRequest(members)
	case styleTeams:
		members["body"] = map[string]any{"contentType": "text", "content": t.subject.answer + attachmentTag(t.meeting)}
		members["attachments"] = []any{t.meetingAttachment()}
		if t.often(0.5) { // a known issue: the meeting is missing on the answer
			members["contexts"] = t.meetingContexts()
		}
	case styleCowork:
		t.cowork(members)
	case styleNoFile:
		members["attachments"] = []any{unknownFile()}
		t.strayRequest(members)
	case styleSparing:
		members["contexts"], members["attachments"], members["links"], members["mentions"] = nil, nil, nil, nil
		if t.often(0.2) {
			members["body"] = nil
		}
	case stylePlain:
	}
	return members
}

// card moves the answer into an adaptive card, of which the body holds nothing but the tag.
func (t *turn) card(members map[string]any, blocks []any) {
	id := t.hex(16)
	members["body"] = map[string]any{"contentType": "html", "content": attachmentTag(id)}
	members["attachments"] = []any{map[string]any{
		"attachmentId": id, "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "name": nil,
		"content": string(encode(map[string]any{"type": "AdaptiveCard", "version": "1.0", "body": blocks})),
	}}
}

// strayRequest gives an answer a request id of its own, as Excel and PowerPoint do now and then.
func (t *turn) strayRequest(members map[string]any) {
	if t.often(0.1) {
		members["requestId"] = t.guid()
	}
}

func (t *turn) cowork(members map[string]any) {
	text := t.subject.answer
	if t.often(0.3) {
		text = ""
	}
	members["body"] = map[string]any{"contentType": "html", "content": text}
	if t.often(0.5) {
		members["attachments"] = []any{unknownFile()}
	}
}

// links are of the documented types, and of none.
func (t *turn) links() []any {
	var links []any
	for _, kind := range []any{"File", "Event", "Meeting", nil} {
		if t.often(0.4) {
			links = append(links, map[string]any{"linkUrl": t.fileURL(), "displayName": t.file, "linkType": kind})
		}
	}
	return append([]any{}, links...)
}
