// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// message is a prompt or an answer, as far as the questions of docs/investigate.md are about it.
type message struct {
	user  graphtest.Person
	agent string // the application that answered; empty for a prompt
	// calls is the agent that the prompt mentions with @.
	calls                        string
	app, locale, text            string
	conversation, request        string
	at                           time.Time
	attachments, contexts, links []file
	meeting                      bool
	// notified is whether a notification brings it; otherwise only the history has it.
	notified bool
	// unknown is whether the receiver can't know whose it is.
	unknown bool
}

type file struct{ name, url string }

func (s *message) answer() bool { return s.agent != "" }

func (s *message) kind() string {
	if s.answer() {
		return "aiResponse"
	}
	return "userPrompt"
}

// id is the one that Graph gives it: the time of creation.
func (s *message) id() string { return strconv.FormatInt(s.at.UnixMilli(), 10) }

// summary is the body of its record without text.
func (s *message) summary() string {
	return fmt.Sprintf("%s in %s, %d characters", s.kind(), s.app, utf8.RuneCountInString(s.text))
}

func (s *message) interaction(t *testing.T) graphtest.Interaction {
	t.Helper()
	from := map[string]any{"user": map[string]any{"id": s.user.ID}}
	if s.answer() {
		from = map[string]any{"application": map[string]any{"id": "app-of-" + s.agent, "displayName": s.agent}}
	}
	var mentions, contexts, attachments, links []any
	if s.calls != "" {
		called := map[string]any{"application": map[string]any{"id": "app-of-" + s.calls, "displayName": s.calls}}
		mentions = append(mentions, map[string]any{"mentionId": 0, "mentionText": s.calls, "mentioned": called})
	}
	if s.meeting {
		contexts = append(contexts, map[string]any{"contextType": "TeamsMeeting", "contextReference": "https://teams.example/" + s.conversation})
	}
	for n, f := range s.attachments {
		attachments = append(attachments, map[string]any{
			"attachmentId": strconv.Itoa(n), "contentType": "reference", "contentUrl": f.url, "name": f.name,
		})
	}
	for _, f := range s.contexts {
		contexts = append(contexts, map[string]any{"contextType": "docx", "displayName": f.name, "contextReference": f.url})
	}
	for _, f := range s.links {
		links = append(links, map[string]any{"linkType": "File", "displayName": f.name, "linkUrl": f.url})
	}
	members := map[string]any{
		"id": s.id(), "etag": s.id(), "createdDateTime": s.at.UTC().Format(time.RFC3339Nano), "interactionType": s.kind(), "from": from,
		"sessionId": s.conversation, "appClass": "IPM.SkypeTeams.Message.Copilot." + s.app, "conversationType": "appchat", "locale": s.locale,
		"body": map[string]any{"contentType": "text", "content": s.text}, "mentions": mentions, "contexts": contexts,
		"attachments": attachments, "links": links,
	}
	if s.request != "" {
		members["requestId"] = s.request
	}
	encoded, err := json.Marshal(members)
	require.NoError(t, err)
	return graphtest.Interaction{JSON: encoded, UserID: s.user.ID}
}

// edited returns the same with another text, changed at a time.
func (s *message) edited(t *testing.T, text string, at time.Time) graphtest.Interaction {
	t.Helper()
	changed := *s
	changed.text = text
	i := changed.interaction(t)
	var members map[string]any
	require.NoError(t, json.Unmarshal(i.JSON, &members))
	members["etag"] = strconv.FormatInt(at.UnixMilli(), 10)
	var err error
	i.JSON, err = json.Marshal(members)
	require.NoError(t, err)
	i.Change = "updated"
	return i
}

// askedFile and askedAgent are what the test asks about.
const (
	askedFile  = "Umzug – Plan (final).docx"
	askedAgent = "Facilitator"
	editedText = "There are four."
)

const investigateConfig = `
receivers:
  m365_copilot:
    content: {references: true}
    history: {lookback: 720h}
    identity:
      directory: true
      inventory: 10s
`

// investigation is a tenant of which it is known who wrote what, and a log database with what a collector sent of it.
type investigation struct {
	*companyHarness
	// licensed are the users whose history can be read.
	licensed []graphtest.Person
	all      []*message
	// asked is the time at which the questions are asked, a little in the future; clock is the time of the latest prompt.
	asked, clock time.Time
	// talked is the conversation that is asked about, edited an answer in it that is changed.
	talked string
	edited *message
	// late is a prompt that comes after its answer.
	late *message
	// deleted are the interactions that are deleted between two times: the first without content, the others with it.
	deleted        []*message
	deletedBetween [2]time.Time
	// recorded is the number of interactions in the database.
	recorded int
}

// newInvestigation runs a collector while people talk, and waits until the database has all of it, each twice.
func newInvestigation(t *testing.T) *investigation {
	t.Helper()
	v := &investigation{companyHarness: newCompanyHarness(t)}
	v.configure(t, investigateConfig+v.exporters())
	v.asked = v.begun.Add(10 * time.Minute)
	for _, p := range v.people {
		if p.Licensed {
			v.licensed = append(v.licensed, p)
		}
	}
	v.addEarlier()
	for _, s := range v.all {
		require.NoError(t, v.emulator.AddHistory(s.interaction(t)))
	}
	collector := v.run(t)
	v.awaitSubscribed(t)
	collector.awaitLine(t, "history read", time.Minute)
	v.awaitRecords(t, len(v.all))

	v.clock = time.Now().Add(-time.Minute)
	v.addLater()
	v.publishMessages(t, func(s *message) bool { return s.answer() == (s.request == v.late.request) })
	v.publishMessages(t, func(s *message) bool { return s.answer() != (s.request == v.late.request) })
	v.publishAndAwait(t, v.edited.edited(t, editedText, v.clock.Add(time.Minute)))
	v.delete(t)
	v.storeTwice(t)
	v.awaitRecords(t, v.recorded)
	v.awaitInventory(t)
	return v
}

// awaitInventory waits until the inventory has listed everybody once more.
func (v *investigation) awaitInventory(t *testing.T) {
	t.Helper()
	since := time.Now().UTC().Format(time.RFC3339Nano)
	awaitEqual(t, strconv.Itoa(len(v.licensed)), func() string {
		return v.queryLogs(t, `{event_name="microsoft.copilot.user"} _time:>=`+since+` | stats count_uniq(user.id) as users`)[0]["users"]
	}, time.Minute)
}

// publishMessages publishes what is added and matches, and waits until the database has it.
func (v *investigation) publishMessages(t *testing.T, matches func(*message) bool) {
	t.Helper()
	var interactions []graphtest.Interaction
	for _, s := range v.all {
		if s.notified && matches(s) {
			interactions = append(interactions, s.interaction(t))
		}
	}
	v.publishAndAwait(t, interactions...)
}

func (v *investigation) publishAndAwait(t *testing.T, interactions ...graphtest.Interaction) {
	t.Helper()
	v.publish(t, interactions...)
	v.awaitRecords(t, len(interactions))
}

// delete deletes a conversation.
func (v *investigation) delete(t *testing.T) {
	t.Helper()
	var deletions []graphtest.Interaction
	for n, s := range v.deleted {
		deletion := s.interaction(t)
		deletion.Change, deletion.WithoutContent = "deleted", n == 0
		deletions = append(deletions, deletion)
	}
	v.deletedBetween[0] = time.Now()
	v.publishAndAwait(t, deletions...)
	v.deletedBetween[1] = time.Now()
}

// awaitRecords waits until the database has so many interactions more.
func (v *investigation) awaitRecords(t *testing.T, more int) {
	t.Helper()
	v.recorded += more
	awaitEqual(t, strconv.Itoa(v.recorded), func() string {
		return v.queryLogs(t, `{event_name="microsoft.copilot.interaction"} | stats count() as records`)[0]["records"]
	}, time.Minute)
}

// The users by what they do. The others never prompt.
const (
	talker = iota
	agentUser
	otherAgentUser
	latecomer
	organizer
	guest
	deleter
	bystander
	reader
	writer
	copier
	hourly
	newcomer
	steady
	busy
	modest
	traveler
	settled
	presenter
	speaker
	lapsed
	delayed
)

// newPrompt adds a prompt in a conversation of its own, which only the history has.
func (v *investigation) newPrompt(user int, app string, at time.Time) *message {
	n := strconv.Itoa(len(v.all))
	s := &message{
		user: v.licensed[user], app: app, locale: "en-us", text: "List the open risks", conversation: "19:" + n + "@thread.v2",
		request: "request-" + n, at: at.Truncate(time.Millisecond),
	}
	v.all = append(v.all, s)
	return s
}

// answered adds the answer of an agent to a prompt, shortly after it.
func (v *investigation) addAnswer(prompt *message, agent string) *message {
	answer := *prompt
	answer.agent, answer.calls, answer.text, answer.at = agent, "", "There are three.", prompt.at.Add(1500*time.Millisecond)
	answer.attachments, answer.contexts = nil, nil
	v.all = append(v.all, &answer)
	return &answer
}

// addPrompt adds a prompt that a notification brings.
func (v *investigation) addPrompt(user int, app string) *message {
	v.clock = v.clock.Add(2 * time.Second)
	s := v.newPrompt(user, app, v.clock)
	s.notified = true
	return s
}

// addEarlier adds what was created before the collector starts.
func (v *investigation) addEarlier() {
	ago := func(d time.Duration) time.Time { return v.asked.Add(-d) }
	for n := range 165 { // at each hour of the week, and each minute
		v.newPrompt(hourly, "Word", ago(150*time.Minute+time.Duration(n)*61*time.Minute))
	}
	for n := range 25 {
		v.newPrompt(newcomer, "Excel", ago(2*time.Hour+time.Duration(n)*50*time.Minute))
		v.newPrompt(steady, "Excel", ago(2*time.Hour+time.Duration(n)*51*time.Minute))
	}
	for n := range 280 {
		v.newPrompt(steady, "Excel", ago(25*time.Hour+time.Duration(n)*140*time.Minute))
	}
	for n := range 30 {
		v.newPrompt(busy, "Excel", ago(2*time.Hour+time.Duration(n)*30*time.Minute))
	}
	for n := range 100 {
		v.newPrompt(busy, "Excel", ago(26*time.Hour+time.Duration(n)*6*time.Hour))
	}
	for n := range 19 {
		v.newPrompt(modest, "Excel", ago(3*time.Hour+time.Duration(n)*40*time.Minute))
	}
	v.sayAtEdgesOfHours()
	for n, locale := range []string{"ja-jp", "de-de", "de-de", "de-de"} {
		v.newPrompt(traveler, "Teams", ago(5*time.Hour+time.Duration(n)*30*time.Hour)).locale = locale
		v.newPrompt(settled, "Teams", ago(6*time.Hour+time.Duration(n)*30*time.Hour)).locale = "fr-fr"
	}
	for n, app := range []string{"PowerPoint", "Powerpoint", "Word", "PowerPoint"} {
		v.addAnswer(v.newPrompt(presenter, app, ago(20*24*time.Hour-time.Duration(n)*29*time.Hour)), "PowerPoint")
		v.newPrompt(speaker, app, ago(9*24*time.Hour-time.Duration(n)*25*time.Hour))
	}
	v.newPrompt(lapsed, "Word", ago(29*24*time.Hour+12*time.Hour))
	v.newPrompt(delayed, "Word", ago(40*time.Minute)) // which the history brings, but not late
	v.readFiles(ago(50 * time.Hour))
}

// sayAtEdgesOfHours adds prompts just inside and just outside of the working hours of a Friday.
func (v *investigation) sayAtEdgesOfHours() {
	friday := v.asked.In(workZone).Add(-day)
	for friday.Weekday() != time.Friday {
		friday = friday.Add(-day)
	}
	midnight := time.Date(friday.Year(), friday.Month(), friday.Day(), 0, 0, 0, 0, workZone)
	for _, at := range []time.Duration{8*time.Hour - time.Millisecond, 8 * time.Hour, 18*time.Hour - time.Millisecond, 18 * time.Hour} {
		v.newPrompt(settled, "Teams", midnight.Add(at)).locale = "fr-fr"
	}
	v.newPrompt(settled, "Teams", midnight.Add(-time.Millisecond)).locale = "fr-fr" // on Thursday
}

// readFiles adds what names files: as attachments, contexts and links, with the wanted name, with similar names, and without any.
func (v *investigation) readFiles(at time.Time) {
	wanted := file{askedFile, "https://contoso.example/sites/garden/plan.docx"}
	copied := file{askedFile, "https://contoso.example/personal/plan.docx"}
	longer := file{"Draft " + askedFile, "https://contoso.example/sites/garden/draft.docx"}
	v.newPrompt(reader, "Word", at).attachments = []file{wanted}
	v.newPrompt(reader, "Word", at.Add(time.Hour)).contexts = []file{wanted, longer}
	v.addAnswer(v.newPrompt(reader, "Word", at.Add(2*time.Hour)), "Word").links = []file{longer, wanted, wanted}
	both := v.newPrompt(writer, "Word", at.Add(3*time.Hour))
	both.attachments, both.contexts = []file{wanted}, []file{wanted}
	v.newPrompt(copier, "Word", at.Add(4*time.Hour)).contexts = []file{copied}
	v.newPrompt(bystander, "Word", at.Add(5*time.Hour)).contexts = []file{longer}
}

// addLater adds what is created after the history was read.
func (v *investigation) addLater() {
	v.talk()
	v.callAgents()
	v.answerOthers()
	v.deleteConversation()
	v.addPrompt(speaker, "PowerPoint")
	v.newPrompt(delayed, "Word", v.asked.Add(-3*time.Hour-20*time.Minute)).notified = true // hours late
}

// talk adds a conversation of two turns, whose first answer is edited.
func (v *investigation) talk() {
	first := v.addPrompt(talker, "BizChat")
	v.edited = v.addAnswer(first, "Microsoft 365 Chat")
	second := v.addPrompt(talker, "BizChat")
	second.conversation, second.text = first.conversation, "And who owns them?"
	v.addAnswer(second, "Microsoft 365 Chat")
	v.talked = first.conversation
}

// callAgents adds prompts to the asked agent, by mention and by its own chat, and to others.
func (v *investigation) callAgents() {
	mentioned := v.addPrompt(agentUser, "BizChat")
	mentioned.calls = askedAgent
	v.addAnswer(mentioned, "Microsoft 365 Chat")
	v.addAnswer(v.addPrompt(agentUser, "BizChat"), askedAgent)
	v.addAnswer(v.addPrompt(agentUser, "BizChat"), "Microsoft 365 Chat")
	v.addPrompt(agentUser, "BizChat").calls = askedAgent + " Pro"
	v.addPrompt(otherAgentUser, "BizChat").calls = askedAgent
	v.addAnswer(v.addPrompt(otherAgentUser, "BizChat"), askedAgent)
}

// answerOthers adds two answers whose user is not known: one that comes before its prompt, and one without request in a meeting.
func (v *investigation) answerOthers() {
	v.late = v.addPrompt(latecomer, "Word")
	v.addAnswer(v.late, "Word").unknown = true
	first, second := v.addPrompt(organizer, "Teams"), v.addPrompt(guest, "Teams")
	second.conversation = first.conversation
	first.meeting, second.meeting = true, true
	v.addAnswer(first, "Teams")
	anybody := v.addAnswer(second, "Teams")
	anybody.request, anybody.unknown = "", true
}

// deleteConversation adds a conversation that is deleted: its prompt without content, its answer with content. Another conversation has an
// interaction of the same millisecond as the answer.
func (v *investigation) deleteConversation() {
	prompt := v.addPrompt(deleter, "Word")
	answer := v.addAnswer(prompt, "Word")
	v.deleted = []*message{prompt, answer}
	other := v.addPrompt(bystander, "Word")
	other.at = answer.at
}
