// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// TurnSettings configure Turns.
type TurnSettings struct {
	// TenantID is the home tenant of all users.
	TenantID string
	// Users is the number of users, 5 by default. UserIDs are their object ids instead, such as those of a Company.
	Users   int
	UserIDs []string
	// Updates and Deletes are the probabilities, between 0 and 1, that an earlier interaction is updated or deleted along with a
	// turn. The default 0 means never: Microsoft 365 is not known to do either.
	Updates, Deletes float64
}

// Turns generates a realistic stream of prompts and answers. The same seed, settings and times give the same stream, byte for byte.
// Every known app class occurs, with its peculiarities: answers in cards that contain them twice, JSON inside a card,
// missing request ids, nulls, empty and escaped attachment tags, meetings, links, several answers to one prompt. All texts are
// invented. It is not safe for concurrent use.
type Turns struct {
	settings TurnSettings
	rng      *rand.Rand
	// texts are the random numbers of the parts of texts, so that other words leave the rest of the stream as it is.
	texts *rand.Rand
	users []string
	// queue holds the apps of the next turns; when it is empty, it is refilled and shuffled.
	queue []app
	// sessions is the current session of each user and app class, lastID the last id in each session.
	sessions map[[2]string]string
	lastID   map[string]int64
	// recent holds the interactions that may still be changed, oldest first.
	recent []Interaction
}

// NewTurns returns the stream for the seed.
func NewTurns(seed uint64, settings TurnSettings) *Turns {
	settings.Users = cmp.Or(settings.Users, 5)
	//nolint:gosec // the stream must be repeatable
	t := &Turns{
		settings: settings,
		rng:      rand.New(rand.NewPCG(seed, 2)),
		texts:    rand.New(rand.NewPCG(seed, 4)),
		sessions: map[[2]string]string{},
		lastID:   map[string]int64{},
	}
	t.users = append(t.users, settings.UserIDs...)
	for len(settings.UserIDs) == 0 && len(t.users) < settings.Users {
		t.users = append(t.users, randomGUID(t.rng))
	}
	return t
}

// Users returns the object ids of all users.
func (t *Turns) Users() []string { return append([]string(nil), t.users...) }

// turn holds what the interactions of one turn have in common.
type turn struct {
	*Turns
	app
	user, session, request string
	// locale is that of all interactions of the turn; if empty, each has any.
	locale string
	topic  topic
	// agent is called in the prompt, unless nil.
	agent         *agent
	parts         *parts
	file, meeting string
}

// Next returns the next turn: a prompt and up to three answers, all created in the last seconds before now, in order of creation.
// They are followed by updates and deletions of earlier interactions, if TurnSettings enable them.
func (t *Turns) Next(now time.Time) []Interaction {
	interactions := t.newTurn().interactions(t.shortlyBefore(now))
	changes := t.nextChanges(now)
	t.keepRecent(interactions)
	return append(interactions, changes...)
}

// shortlyBefore returns when a turn begins that has ended by now.
func (t *Turns) shortlyBefore(now time.Time) time.Time {
	return now.Add(-time.Duration(2500+t.rng.IntN(5000)) * time.Millisecond)
}

// maxTurnDuration is more than the time from a prompt to its last answer.
const maxTurnDuration = 3 * time.Second

// interactions returns the prompt, created at the given time, and its answers.
func (t *turn) interactions(at time.Time) []Interaction {
	members, text := t.prompt()
	interactions := []Interaction{t.interaction(members, text, at)}
	for n := range t.answers() {
		at = at.Add(time.Duration(300+t.rng.IntN(500)) * time.Millisecond)
		members, text := t.response(t.answer(n))
		interactions = append(interactions, t.interaction(members, text, at))
	}
	return interactions
}

func (t *Turns) newTurn() *turn {
	if len(t.queue) == 0 {
		t.queue = weightedApps()
		t.rng.Shuffle(len(t.queue), func(i, j int) { t.queue[i], t.queue[j] = t.queue[j], t.queue[i] })
	}
	one := &turn{Turns: t, app: t.queue[0], user: choose(t.rng, t.users)}
	t.queue = t.queue[1:]
	one.topic = choose(t.rng, fittingTopics("", "", one.name()))
	one.begin()
	return one
}

// begin continues the session of the user and the app, or begins another one, and makes what is new in each turn.
func (t *turn) begin() {
	key := [2]string{t.user, t.class}
	if t.sessions[key] == "" || t.roll(0.2) {
		delete(t.lastID, t.sessions[key])
		t.sessions[key] = "19:" + randomHex(t.rng, 24) + "@thread.v2"
	}
	t.session, t.request = t.sessions[key], randomGUID(t.rng)
	t.parts = &parts{rng: t.texts, values: map[string]string{}}
	t.file = t.parts.fill(choose(t.rng, files))
	t.parts.values["file"] = t.file
	t.meeting = "19:meeting_" + randomHex(t.rng, 16) + "@thread.v2"
}

// question returns the text of the prompt.
func (t *turn) question() string {
	if t.agent != nil {
		return "@" + t.agent.name + " " + t.parts.fill(t.topic.question)
	}
	return t.parts.fill(t.topic.question)
}

// answer returns the text of the nth answer, which continues the one before.
func (t *turn) answer(n int) string {
	language := cmp.Or(t.topic.language, "en")
	if n > 0 {
		return t.parts.details(language, 1, 2)
	}
	answer, more := t.parts.fill(t.topic.answer), t.parts.details(language, 0, t.style.maxDetails())
	if more == "" {
		return answer
	}
	return answer + "\n\n" + more
}

// answers returns the number of answers: usually one, sometimes none, at most three.
func (t *turn) answers() int {
	switch n := t.rng.Float64(); {
	case n < 0.03:
		return 0
	case n < 0.85:
		return 1
	case n < 0.95:
		return 2
	default:
		return 3
	}
}

// interaction adds the members that prompts and responses have in common. The text is what a person reads of it.
func (t *turn) interaction(members map[string]any, text string, at time.Time) Interaction {
	ms := max(at.UnixMilli(), t.lastID[t.session]+1)
	t.lastID[t.session] = ms
	id := strconv.FormatInt(ms, 10)
	all := map[string]any{
		"id":               id,
		"sessionId":        t.session,
		"requestId":        t.request,
		"appClass":         t.class,
		"conversationType": t.conversation,
		"etag":             id,
		"createdDateTime":  time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z"),
		"locale":           cmp.Or(t.locale, choose(t.rng, locales)),
		"contexts":         []any{},
		"attachments":      []any{},
		"links":            []any{},
		"mentions":         []any{},
	}
	maps.Copy(all, members)
	if t.style == styleCowork {
		all["requestId"] = nil
	}
	t.nullSomeProperties(all)
	return Interaction{JSON: encode(all), UserID: t.user, Text: text, Created: time.UnixMilli(ms).UTC()}
}

// nullSomeProperties sets nullable properties to null at random.
func (t *turn) nullSomeProperties(all map[string]any) {
	for _, name := range []string{"conversationType", "etag", "createdDateTime", "contexts", "links", "mentions"} {
		if t.roll(0.02) {
			all[name] = nil
		}
	}
}

func (t *Turns) roll(chance float64) bool { return t.rng.Float64() < chance }

// randomGUID and randomHex use the given random numbers, so that they are repeatable.
func randomGUID(rng *rand.Rand) string {
	h := randomHex(rng, 16)
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:])
}

func randomHex(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.UintN(256)) //nolint:gosec // below 256
	}
	return hex.EncodeToString(b)
}

func choose[T any](chance *rand.Rand, list []T) T { return list[chance.IntN(len(list))] }

// encode does not escape < and >, as Graph does not.
func encode(value any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Sprintf("graphtest: encode an interaction: %v", err))
	}
	return bytes.TrimSpace(buffer.Bytes())
}

// prompt returns the members and the text of a prompt.
func (t *turn) prompt() (members map[string]any, text string) {
	text = t.question()
	content := text
	members = map[string]any{
		"interactionType": "userPrompt",
		"from":            map[string]any{"@odata.type": identitySetType, "application": nil, "device": nil, "user": t.identity()},
	}
	switch t.style {
	case styleTeams:
		members["contexts"] = t.meetingContexts()
		members["attachments"] = []any{t.meetingAttachment()}
		content += attachmentTag(t.meeting)
	case styleExcel, stylePlain:
		members["contexts"] = []any{map[string]any{
			"contextType": t.extension(), "displayName": t.file, "contextReference": t.fileURL(),
		}}
	case styleNoFile:
		members["contexts"] = []any{map[string]any{"contextType": "", "displayName": "unknown-file-name", "contextReference": nil}}
		members["attachments"] = []any{unknownFile()}
	case styleNulls:
		members["contexts"], members["attachments"], members["links"], members["mentions"] = nil, nil, nil, nil
	case styleCard:
		if t.roll(0.2) {
			members["mentions"] = []any{t.mention()}
		}
	case styleCowork:
	}
	if t.agent != nil {
		members["mentions"] = []any{t.agent.mention()}
	}
	members["body"] = map[string]any{"contentType": "text", "content": t.addStrayTags(content)}
	return members, text
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

// addStrayTags appends at random the tags that some prompts end with: of no attachment, or escaped.
func (t *turn) addStrayTags(text string) string {
	switch n := t.rng.Float64(); {
	case n < 0.2:
		return text + attachmentTag("")
	case n < 0.3:
		return text + `&lt;attachment id=&quot;` + randomHex(t.rng, 16) + `&quot;&gt;&lt;/attachment&gt;`
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
			"user": map[string]any{"id": choose(t.rng, t.users), "displayName": "Lena", "userIdentityType": "aadUser"},
		},
	}
}

func (a *agent) mention() map[string]any {
	return map[string]any{
		"mentionId": 0, "mentionText": a.name,
		"mentioned": map[string]any{
			"user": nil, "device": nil, "conversation": nil, "tag": nil,
			"application": map[string]any{
				"@odata.type": "#microsoft.graph.teamworkApplicationIdentity",
				"id":          a.id, "displayName": a.name, "applicationIdentityType": "bot",
			},
		},
	}
}

// botID is the application id that every app's answers carry.
const botID = "fb8d773d-7ef8-4ec0-a117-179f88add510"

// response returns the members of an answer, which never name the user, and what a person reads of it.
func (t *turn) response(answer string) (members map[string]any, text string) {
	members = map[string]any{
		"interactionType": "aiResponse",
		"from": map[string]any{
			"@odata.type": identitySetType, "device": nil, "user": nil,
			"application": map[string]any{
				"@odata.type": "#microsoft.graph.teamworkApplicationIdentity",
				"id":          botID, "displayName": t.bot, "applicationIdentityType": "bot",
			},
		},
		"body": map[string]any{"contentType": "text", "content": answer},
	}
	text = answer
	switch t.style {
	case styleCard:
		text = answer + " [" + t.file + "](" + t.fileURL() + ")"
		t.card(members, []any{
			map[string]any{"type": "TextBlock", "text": text, "wrap": true},
			map[string]any{"type": "TextBlock", "id": "MessageTextField", "text": answer + " " + t.file + "[^1^]", "wrap": true},
			map[string]any{"type": "CustomRichUx", "payload": map[string]any{}},
		})
		members["links"] = t.links()
	case styleExcel:
		thoughts := map[string]any{"thoughts": "The user wants to know: " + t.question(), "finalResponse": answer}
		t.card(members, []any{map[string]any{"type": "TextBlock", "text": string(encode(thoughts)), "wrap": true}})
		t.setStrayRequestID(members)
	case styleTeams:
		members["body"] = map[string]any{"contentType": "text", "content": answer + attachmentTag(t.meeting)}
		members["attachments"] = []any{t.meetingAttachment()}
		if t.roll(0.5) { // a known issue of Graph: the meeting is missing on some answers
			members["contexts"] = t.meetingContexts()
		}
	case styleCowork:
		text = t.cowork(members, answer)
	case styleNoFile:
		members["attachments"] = []any{unknownFile()}
		t.setStrayRequestID(members)
	case styleNulls:
		members["contexts"], members["attachments"], members["links"], members["mentions"] = nil, nil, nil, nil
		if t.roll(0.2) {
			members["body"], text = nil, ""
		}
	case stylePlain:
	}
	return members, text
}

// card moves the answer into an adaptive card; the body holds nothing but its attachment tag.
func (t *turn) card(members map[string]any, blocks []any) {
	id := randomHex(t.rng, 16)
	members["body"] = map[string]any{"contentType": "html", "content": attachmentTag(id)}
	members["attachments"] = []any{map[string]any{
		"attachmentId": id, "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "name": nil,
		"content": string(encode(map[string]any{"type": "AdaptiveCard", "version": "1.0", "body": blocks})),
	}}
}

// setStrayRequestID gives some answers a request id that differs from the prompt's, as Excel and PowerPoint do.
func (t *turn) setStrayRequestID(members map[string]any) {
	if t.roll(0.1) {
		members["requestId"] = randomGUID(t.rng)
	}
}

// cowork writes the answer as Markdown that is called HTML, or leaves it out. It returns the text that is left.
func (t *turn) cowork(members map[string]any, answer string) (text string) {
	if text = answer; t.roll(0.3) {
		text = ""
	}
	members["body"] = map[string]any{"contentType": "html", "content": text}
	if t.roll(0.5) {
		members["attachments"] = []any{unknownFile()}
	}
	return text
}

// links returns links of the documented types and without a type.
func (t *turn) links() []any {
	var links []any
	for _, kind := range []any{"File", "Event", "Meeting", nil} {
		if t.roll(0.4) {
			links = append(links, map[string]any{"linkUrl": t.fileURL(), "displayName": t.file, "linkType": kind})
		}
	}
	return append([]any{}, links...)
}

// maxRecent is how many of the latest interactions may still be changed.
const maxRecent = 100

// nextChanges returns updates and deletions of interactions of earlier turns. A disabled kind uses no random number, so that the turns
// are the same as without changes.
func (t *Turns) nextChanges(now time.Time) []Interaction {
	var changes []Interaction
	if t.settings.Updates > 0 && t.roll(t.settings.Updates) && len(t.recent) > 0 {
		i := t.rng.IntN(len(t.recent))
		t.recent[i] = edit(t.recent[i], now)
		changes = append(changes, t.recent[i])
	}
	if t.settings.Deletes > 0 && t.roll(t.settings.Deletes) && len(t.recent) > 0 {
		i := t.rng.IntN(len(t.recent))
		gone := t.recent[i]
		t.recent = slices.Delete(t.recent, i, i+1)
		gone.Change, gone.WithoutContent = "deleted", t.roll(0.5)
		changes = append(changes, gone)
	}
	return changes
}

// keepRecent stores interactions that may be changed later.
func (t *Turns) keepRecent(interactions []Interaction) {
	if t.settings.Updates > 0 || t.settings.Deletes > 0 {
		t.recent = bounded(maxRecent, t.recent, interactions...)
	}
}

// edit returns a later version of the interaction: the same id, a higher etag, another text.
func edit(i Interaction, now time.Time) Interaction {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(i.JSON))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		panic(fmt.Sprintf("graphtest: read an interaction: %v", err))
	}
	members["etag"] = strconv.FormatInt(max(now.UnixMilli(), milliseconds(members["id"])+1, milliseconds(members["etag"])+1), 10)
	if body, ok := members["body"].(map[string]any); ok {
		body["content"] = fmt.Sprint(body["content"], " (edited)")
	}
	return Interaction{JSON: encode(members), Change: "updated", UserID: i.UserID, Created: i.Created}
}

// milliseconds parses an id or an etag; it returns 0 for null.
func milliseconds(value any) int64 {
	text, _ := value.(string)
	ms, _ := strconv.ParseInt(text, 10, 64)
	return ms
}

// style is how an app writes its interactions.
type style int

const (
	stylePlain  style = iota // answers in plain text, like the document apps
	styleCard                // answers in an adaptive card, twice, like the chats
	styleTeams               // in a meeting
	styleExcel               // a card with JSON in it
	styleCowork              // no request id, Markdown called html
	styleNoFile              // a file without a name and URL, like PowerPoint
	styleNulls               // every nullable property is null
)

// maxDetails is how many sentences an answer may have besides those of its topic.
func (s style) maxDetails() int {
	switch s {
	case stylePlain:
		return 4
	case styleTeams, styleCowork:
		return 3
	case styleCard, styleNoFile:
		return 2
	case styleExcel, styleNulls:
	}
	return 1
}

// app describes the interactions of one app class.
type app struct {
	class, conversation, bot string
	style                    style
	// share is how often the app occurs each time the queue is refilled.
	share int
}

const copilotClass = "IPM.SkypeTeams.Message.Copilot."

// apps are the app classes that Microsoft documents or that were seen in exports.
var apps = []app{
	{copilotClass + "BizChat", "bizchat", "Microsoft 365 Chat", styleCard, 12},
	{copilotClass + "WebChat", "webchat", "Copilot in WebChat", styleCard, 6},
	{copilotClass + "Teams", "appchat", "Copilot in Teams", styleTeams, 8},
	{copilotClass + "Word", "appchat", "Copilot in Word", stylePlain, 6},
	{copilotClass + "Excel", "appchat", "Copilot in Excel", styleExcel, 5},
	{copilotClass + "PowerPoint", "appchat", "Copilot in PowerPoint", styleNoFile, 4},
	{copilotClass + "Outlook", "appchat", "Copilot in Outlook", stylePlain, 6},
	{copilotClass + "OneNote", "appchat", "Copilot in OneNote", stylePlain, 2},
	{copilotClass + "CoworkChat", "coworkchat", "28:cowork-bot-1", styleCowork, 4},
	{copilotClass + "Loop", "appchat", "Copilot in Loop", stylePlain, 2},
	{copilotClass + "SharePoint", "appchat", "Copilot in SharePoint", styleCard, 2},
	{copilotClass + "Forms", "appchat", "Copilot in Forms", stylePlain, 1},
	{copilotClass + "Whiteboard", "appchat", "Copilot in Whiteboard", stylePlain, 1},
	{copilotClass + "PrivateChat", "bizchat", "Temporary Chat", styleCard, 1},
	{copilotClass + "VivaEngage", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "M365AdminCenter", "appchat", "Copilot in M365AdminCenter", styleCard, 1},
	{copilotClass + "OfficeCopilotSearchAnswer", "appchat", "Copilot in OfficeCopilotSearchAnswer", styleNulls, 1},
	{copilotClass + "OfficeCopilotNotebook", "appchat", "Copilot in OfficeCopilotNotebook", styleCard, 1},
	{copilotClass + "ThirdPartyCopilot", "bizchat", "Microsoft Copilot", styleNulls, 1},
	{copilotClass + "Office", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "M365App", "bizchat", "Microsoft 365 Chat", styleCard, 1},
	{copilotClass + "Planner", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "Stream", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "Designer", "appchat", "Microsoft Copilot", styleNulls, 1},
	{copilotClass + "OneDrive", "appchat", "Microsoft Copilot", styleNoFile, 1},
	{"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.3f6a1c52-7d7e-4c0b-9a53-0f2d8b6f4e11", "appchat", "Orion Assistant", stylePlain, 1},
}

// name returns the last part of the class.
func (a app) name() string { return a.class[strings.LastIndex(a.class, ".")+1:] }

func weightedApps() []app {
	var weighted []app
	for _, a := range apps {
		for range a.share {
			weighted = append(weighted, a)
		}
	}
	return weighted
}

var locales = []string{"en-us", "en-us", "en-us", "de-de", "fr-fr", "ja-jp", "en-gb"}

// Interaction is a prompt or answer and how it changes.
type Interaction struct {
	// JSON is an aiInteraction with an id.
	JSON json.RawMessage
	// Change is created, updated or deleted; empty means created.
	Change string
	// UserID is the object id of the user whose history it belongs to. If it is empty, that is from.user.id, else the user of the
	// prompt with the same requestId, else of the last prompt in the same session.
	UserID string
	// WithoutContent leaves encryptedContent out of the notification.
	WithoutContent bool

	// Text is what a person reads of it, without tags and repetitions, and Created when it was created. Turns and Workforce set them
	// for created interactions, and nothing of them is published.
	Text    string
	Created time.Time
}

// Created returns the interactions as newly created ones.
func Created(interactions ...[]byte) []Interaction {
	list := make([]Interaction, 0, len(interactions))
	for _, i := range interactions {
		list = append(list, Interaction{JSON: i})
	}
	return list
}

// parsedInteraction is an interaction with the properties that the emulator uses.
type parsedInteraction struct {
	Interaction
	id, session, request string
	at                   time.Time
}

func (i Interaction) parse() (parsedInteraction, error) {
	var got struct {
		ID              string `json:"id"`
		SessionID       string `json:"sessionId"`
		RequestID       string `json:"requestId"`
		CreatedDateTime string `json:"createdDateTime"`
		From            struct {
			User struct {
				ID string `json:"id"`
			} `json:"user"`
		} `json:"from"`
	}
	if err := json.Unmarshal(i.JSON, &got); err != nil {
		return parsedInteraction{}, fmt.Errorf("publish: the interaction is not JSON as Graph writes it: %w", err)
	}
	if i.Change == "" {
		i.Change = "created"
	}
	if i.UserID == "" {
		i.UserID = got.From.User.ID
	}
	i.UserID = strings.ToLower(i.UserID)
	return parsedInteraction{Interaction: i, id: got.ID, session: got.SessionID, request: got.RequestID, at: createdAt(got.CreatedDateTime, got.ID)}, nil
}

// createdAt falls back to the id, which is a time in milliseconds since the epoch.
func createdAt(text, id string) time.Time {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	if ms, err := strconv.ParseInt(id, 10, 64); err == nil {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// turnUsers holds the users of the latest limit turns; the oldest are forgotten.
type turnUsers struct {
	limit int

	mu    sync.Mutex // guards what follows
	users map[[2]string]string
	order [][2]string
}

// attribute sets the user of a response and stores the user of a prompt.
func (t *turnUsers) attribute(e *parsedInteraction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := [][2]string{{e.session, e.request}, {e.session, ""}}
	if e.UserID != "" {
		for _, key := range keys {
			t.rememberLocked(key, e.UserID)
		}
		return
	}
	for _, key := range keys {
		if user, ok := t.users[key]; ok {
			e.UserID = user
			return
		}
	}
}

func (t *turnUsers) rememberLocked(key [2]string, user string) {
	if _, known := t.users[key]; !known {
		t.order = append(t.order, key)
	}
	t.users[key] = user
	if len(t.order) > t.limit {
		delete(t.users, t.order[0])
		t.order = t.order[1:]
	}
}
