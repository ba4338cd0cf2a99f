// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

func TestLogs_RecordIsAnEvent(t *testing.T) {
	t.Parallel()
	record := recordOf(t, privacy.Settings{}, fixture(t, "prompt"))
	assert.Equal(t, "microsoft.copilot.interaction", record.EventName())
	assert.Equal(t, plog.SeverityNumberInfo, record.SeverityNumber())
	assert.Empty(t, record.SeverityText())
	assert.Equal(t, receivedAt(), record.ObservedTimestamp().AsTime())
}

func TestLogs_ResourceIsServiceOfTenant(t *testing.T) {
	t.Parallel()
	logs := translateAll(privacy.Settings{}, []interaction.Received{fixture(t, "prompt")})
	resource := logs.ResourceLogs().At(0)
	assert.Equal(t, map[string]any{"service.name": "microsoft-365-copilot", "microsoft.tenant.id": tenant},
		resource.Resource().Attributes().AsRaw())
	assert.Equal(t, "https://opentelemetry.io/schemas/1.41.0", resource.SchemaUrl())
	scope := resource.ScopeLogs().At(0).Scope()
	assert.Equal(t, "github.com/otelcopilot/m365copilotreceiver", scope.Name())
	assert.Equal(t, "1.2.3", scope.Version())
}

func TestLogs_KeepOrder(t *testing.T) {
	t.Parallel()
	want := []string{"a", "c", "b"}
	var received []interaction.Received
	for _, id := range want {
		r := fixture(t, "prompt")
		r.ID = id
		received = append(received, r)
	}
	var got []string
	for _, record := range translateAll(privacy.Settings{}, received).ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
		got = append(got, attributeValue(t, record.Attributes(), "microsoft.copilot.interaction.id").(string))
	}
	assert.Equal(t, want, got)
}

func TestLogs_EmptyWithoutInteractions(t *testing.T) {
	t.Parallel()
	assert.Zero(t, translateAll(privacy.Settings{}, nil).ResourceLogs().Len())
}

func TestUsers_AreEventsOfOneTenantInOrder(t *testing.T) {
	t.Parallel()
	assert.Zero(t, translate.Users(scope(), nil).ResourceLogs().Len())
	logs := translate.Users(scope(), []record.User{{TenantID: tenant, UserID: "b"}, {TenantID: tenant, UserID: "a"}})
	assert.Equal(t, tenant, attributeValue(t, logs.ResourceLogs().At(0).Resource().Attributes(), "microsoft.tenant.id"))
	var got []string
	for _, event := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
		assert.Equal(t, "microsoft.copilot.user", event.EventName())
		got = append(got, attributeValue(t, event.Attributes(), "user.id").(string))
	}
	assert.Equal(t, []string{"b", "a"}, got)
}

func TestLogs_TimestampIsCreationOrReceipt(t *testing.T) {
	t.Parallel()
	created := time.Date(2025, 12, 1, 14, 30, 5, 123_000_000, time.UTC)
	tests := map[string]struct {
		id      string
		created time.Time
		want    time.Time
	}{
		"createdDateTime takes precedence over the id": {id: "1764599400000", created: created, want: created},
		"the id is used without createdDateTime":       {id: promptID, want: created},
		"the time of receipt is used without either":   {id: "r_warm", want: receivedAt()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, change := range []interaction.Change{interaction.Created, interaction.Updated, interaction.Deleted} {
				r := fixture(t, "prompt")
				r.Change, r.ID, r.CreatedDateTime = change, test.id, test.created
				record := recordOf(t, privacy.Settings{}, r)
				assert.Equal(t, test.want, record.Timestamp().AsTime(), change)
			}
		})
	}
}

func TestLogs_IngestionDelayInSeconds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change interaction.Change
		etag   string
		ahead  time.Duration
		want   float64
	}{
		"a creation is measured from createdDateTime":             {change: interaction.Created, etag: "1764599407323", want: 4.2},
		"an update is measured from the time in its etag":         {change: interaction.Updated, etag: "1764599407323", want: 2},
		"an update without etag is measured from createdDateTime": {change: interaction.Updated, want: 4.2},
		"a deletion is measured from createdDateTime":             {change: interaction.Deleted, etag: "1764599407323", want: 4.2},
		"it is never negative if clocks differ":                   {change: interaction.Created, ahead: time.Minute, want: 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Change, r.ETag, r.At = test.change, test.etag, r.At.Add(-test.ahead)
			record := recordOf(t, privacy.Settings{}, r)
			delay := attributeValue(t, record.Attributes(), "microsoft.copilot.ingestion.delay")
			assert.InDelta(t, test.want, delay, 1e-9)
		})
	}
}

func TestLogs_IngestionDelayAbsentIfTimeUnknown(t *testing.T) {
	t.Parallel()
	r := fixture(t, "minimal")
	record := recordOf(t, privacy.Settings{}, r)
	_, present := record.Attributes().Get("microsoft.copilot.ingestion.delay")
	assert.False(t, present)
}

func TestLogs_BodyIsTextOnlyWhenCaptured(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings privacy.Settings
		text     string
		want     string
		captured bool
	}{
		"captured": {
			settings: privacy.Settings{CaptureText: true}, text: "żółć 🚀", want: "żółć 🚀", captured: true,
		},
		"captured without text":        {settings: privacy.Settings{CaptureText: true}, want: "userPrompt in BizChat, 0 characters"},
		"not captured":                 {text: "żółć 🚀", want: "userPrompt in BizChat, 6 characters"},
		"not captured with references": {settings: privacy.Settings{References: true}, text: "żółć 🚀", want: "userPrompt in BizChat, 6 characters"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Body.Content = test.text
			record := recordOf(t, test.settings, r)
			assert.Equal(t, test.want, record.Body().AsRaw())
			assert.Equal(t, test.captured, attributeValue(t, record.Attributes(), "microsoft.copilot.content.captured"))
			length := attributeValue(t, record.Attributes(), "microsoft.copilot.content.length")
			assert.EqualValues(t, len([]rune(test.text)), length)
		})
	}
}

func TestLogs_SummaryNamesChangeTypeAndApp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change        interaction.Change
		typ, appClass string
		want          string
	}{
		"a creation does not name the change": {
			change: interaction.Created, typ: "userPrompt", appClass: "IPM.SkypeTeams.Message.Copilot.Word",
			want: "userPrompt in Word, 5 characters",
		},
		"an update names the change": {
			change: interaction.Updated, typ: "aiResponse", appClass: "IPM.SkypeTeams.Message.Copilot.Teams",
			want: "updated aiResponse in Teams, 5 characters",
		},
		"a missing type is an interaction": {
			change: interaction.Deleted, appClass: "IPM.SkypeTeams.Message.Copilot.Teams",
			want: "deleted interaction in Teams, 5 characters",
		},
		"a missing app is left out": {change: interaction.Deleted, want: "deleted interaction, 5 characters"},
		"the id of an app is not its name": {
			change: interaction.Created, typ: "aiResponse",
			appClass: "IPM.SkypeTeams.Message.ConnectedAIApp.Entra.6a0b3c1d-77e2-4f58-9c04-1d2e3f405162",
			want:     "aiResponse in ConnectedAIApp.Entra, 5 characters",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Change, r.Type, r.AppClass, r.Body.Content = test.change, test.typ, test.appClass, "Hello"
			assert.Equal(t, test.want, recordOf(t, privacy.Settings{}, r).Body().AsRaw())
		})
	}
}

func TestLogs_AgentsAreMentionedApplications(t *testing.T) {
	t.Parallel()
	person := interaction.IdentitySet{User: &interaction.Identity{ID: user, DisplayName: "Lena"}}
	agent := func(id, name string) interaction.IdentitySet {
		return interaction.IdentitySet{Application: &interaction.Identity{ID: id, DisplayName: name}}
	}
	r := fixture(t, "prompt")
	r.Mentions = []interaction.Mention{
		{Mentioned: person},
		{Mentioned: agent("1", "Travel Helper")},
		{Mentioned: agent("2", "")},
		{Mentioned: agent("", "")},
		{Mentioned: agent("1", "Travel Helper")},
	}
	attributes := recordOf(t, privacy.Settings{}, r).Attributes()
	assert.Equal(t, []any{"Travel Helper", "2"}, attributeValue(t, attributes, "microsoft.copilot.agents"))

	r.Mentions = r.Mentions[:1]
	assert.NotContains(t, recordOf(t, privacy.Settings{}, r).Attributes().AsRaw(), "microsoft.copilot.agents",
		"a person is not an agent")
}

func TestLogs_ContextTypesAreDistinctAndOrdered(t *testing.T) {
	t.Parallel()
	r := fixture(t, "prompt")
	for contextType := range strings.SplitSeq("docx,,TeamsMeeting,docx,xlsx,TeamsMeeting", ",") {
		r.Contexts = append(r.Contexts, interaction.Context{Type: contextType})
	}
	attributes := recordOf(t, privacy.Settings{}, r).Attributes()
	assert.Equal(t, []any{"docx", "TeamsMeeting", "xlsx"}, attributeValue(t, attributes, "microsoft.copilot.context.types"))
	assert.EqualValues(t, 6, attributeValue(t, attributes, "microsoft.copilot.context.count"))
}

func TestLogs_OnlyResponsesHaveResponseIDAndAgent(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{interaction.TypeUserPrompt, "unknownFutureValue", ""} {
		r := fixture(t, "chat_response")
		r.Type = typ
		attributes := recordOf(t, privacy.Settings{}, r).Attributes().AsRaw()
		assert.NotContains(t, attributes, "gen_ai.response.id", typ)
		assert.NotContains(t, attributes, "gen_ai.agent.id", typ)
		assert.NotContains(t, attributes, "gen_ai.agent.name", typ)
	}
	attributes := recordOf(t, privacy.Settings{}, fixture(t, "chat_response")).Attributes()
	assert.Equal(t, "1764599405640", attributeValue(t, attributes, "gen_ai.response.id"))
	assert.Equal(t, "fb8d773d-7ef8-4ec0-a117-179f88add510", attributeValue(t, attributes, "gen_ai.agent.id"))
	assert.Equal(t, "Microsoft 365 Chat", attributeValue(t, attributes, "gen_ai.agent.name"))
}

func TestLogs_UIDEqualsInteractionUID(t *testing.T) {
	t.Parallel()
	r := fixture(t, "prompt")
	attributes := recordOf(t, privacy.Settings{}, r).Attributes()
	assert.Equal(t, r.UID(), attributeValue(t, attributes, "log.record.uid"))
}

// commonAttributes returns the attributes of every record.
func commonAttributes() []string {
	return []string{
		"log.record.uid",
		"microsoft.copilot.interaction.id",
		"microsoft.copilot.change.type",
		"microsoft.copilot.source",
		"microsoft.copilot.content.captured",
		"microsoft.copilot.content.length",
		"microsoft.copilot.attachment.count",
		"microsoft.copilot.link.count",
		"microsoft.copilot.mention.count",
		"microsoft.copilot.context.count",
		"gen_ai.provider.name",
		"gen_ai.operation.name",
	}
}

// optionalAttributes returns the attributes that a complete interaction has as well.
func optionalAttributes() []string {
	return []string{
		"microsoft.copilot.interaction.type",
		"microsoft.copilot.interaction.etag",
		"microsoft.copilot.request.id",
		"microsoft.copilot.conversation.type",
		"microsoft.copilot.locale",
		"microsoft.copilot.app.class",
		"microsoft.copilot.app.name",
		"microsoft.copilot.ingestion.delay",
		"microsoft.copilot.turn.id",
		"user.id",
		"microsoft.copilot.user.source",
		"gen_ai.conversation.id",
	}
}

func TestLogs_AttributesOfEachKind(t *testing.T) {
	t.Parallel()
	responseAttributes := []string{"gen_ai.agent.id", "gen_ai.agent.name", "gen_ai.response.id"}
	contextTypes := []string{"microsoft.copilot.context.types"}
	references := []string{"microsoft.copilot.references"}
	unattributed := func(r *interaction.Received) { r.UserID, r.UserSource = "", "" }
	tests := map[string]struct {
		input    string
		settings privacy.Settings
		change   func(*interaction.Received)
		want     []string
	}{
		"an id and nothing else": {input: "minimal", change: unattributed, want: commonAttributes()},
		"an id that is a time": {
			input: "tombstone", change: unattributed,
			want: append(commonAttributes(), "microsoft.copilot.ingestion.delay"),
		},
		"a prompt": {input: "prompt", want: slices.Concat(commonAttributes(), optionalAttributes())},
		"a prompt in a meeting": {
			input: "teams_meeting_prompt",
			want:  slices.Concat(commonAttributes(), optionalAttributes(), contextTypes),
		},
		"a prompt of a user whom the directory knows": {
			input: "prompt", settings: privacy.Settings{Directory: true, Properties: privacy.PropertyNames()},
			change: func(r *interaction.Received) { r.Person = hybridPerson() },
			want: slices.Concat(commonAttributes(), optionalAttributes(), []string{
				"user.name", "user.full_name", "microsoft.user.department", "microsoft.user.office_location", "microsoft.user.country",
				"microsoft.user.job_title", "microsoft.user.company", "microsoft.user.on_premises.sam_account_name",
				"microsoft.user.on_premises.security_identifier", "microsoft.user.on_premises.domain", "microsoft.copilot.user.licensed",
			}),
		},
		"a prompt of a user of whom only the license may leave": {
			input: "prompt", settings: privacy.Settings{Directory: true},
			change: func(r *interaction.Received) { r.Person = &interaction.Person{Department: "Sales"} },
			want:   slices.Concat(commonAttributes(), optionalAttributes(), []string{"microsoft.copilot.user.licensed"}),
		},
		"a response": {input: "chat_response", want: slices.Concat(commonAttributes(), optionalAttributes(), responseAttributes)},
		"a response with references that are not enabled": {
			input: "references",
			want:  slices.Concat(commonAttributes(), optionalAttributes(), responseAttributes, contextTypes),
		},
		"a response with references and text": {
			input: "references", settings: privacy.Settings{CaptureText: true, References: true},
			want: slices.Concat(commonAttributes(), optionalAttributes(), responseAttributes, contextTypes, references),
		},
		"a prompt that refers to placeholders only": {
			input: "powerpoint_prompt", settings: privacy.Settings{References: true},
			want: slices.Concat(commonAttributes(), optionalAttributes()),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, test.input)
			if test.change != nil {
				test.change(&r)
			}
			attributes := recordOf(t, test.settings, r).Attributes()
			got := slices.Collect(maps.Keys(attributes.AsRaw()))
			assert.ElementsMatch(t, test.want, got)
			assert.Equal(t, len(got), attributes.Len(), "an attribute occurs twice")
		})
	}
}

const turnIDName = "microsoft.copilot.turn.id"

// The expected ids were computed with
// printf 'm365_copilot trace v1\x1f{tenant}\x1f{session}\x1f{turn}' | sha256sum.
func TestLogs_TurnIDIsSharedByPromptAndResponse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		turn string
		want string
	}{
		"the turn is a request id":         {turn: request, want: "1b239c28eefb10976f8b491b32077d26"},
		"the turn is the id of the prompt": {turn: promptID, want: "7ea2c461e7252b10b8c325c89ca77273"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, input := range []string{"prompt", "chat_response"} {
				r := fixture(t, input)
				r.Turn = test.turn
				record := recordOf(t, privacy.Settings{}, r)
				assert.Equal(t, test.want, attributeValue(t, record.Attributes(), turnIDName), input)
				assert.True(t, record.TraceID().IsEmpty(), "without a traces pipeline no trace has this id")
				assert.True(t, record.SpanID().IsEmpty())
			}
		})
	}
}

func TestLogs_TurnIDDiffersInEachPart(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*interaction.Received){
		"tenant":  func(r *interaction.Received) { r.TenantID = "another" },
		"session": func(r *interaction.Received) { r.SessionID = "another" },
		"turn":    func(r *interaction.Received) { r.Turn = "another" },
		"a character moved from one part to the next": func(r *interaction.Received) {
			r.SessionID, r.Turn = r.SessionID+r.Turn[:1], r.Turn[1:]
		},
	}
	same := attributeValue(t, recordOf(t, privacy.Settings{}, fixture(t, "prompt")).Attributes(), turnIDName)
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			change(&r)
			record := recordOf(t, privacy.Settings{}, r)
			assert.NotEqual(t, same, attributeValue(t, record.Attributes(), turnIDName))
		})
	}
}

func TestLogs_TurnIDIsAbsentWhereTurnIsUnknown(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*interaction.Received){
		"without a turn":    func(r *interaction.Received) { r.Turn = "" },
		"without a session": func(r *interaction.Received) { r.SessionID = "" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			change(&r)
			record := recordOf(t, privacy.Settings{}, r)
			assert.NotContains(t, record.Attributes().AsRaw(), turnIDName)
		})
	}
}

func TestLogs_ReferencesListWhatIsReferredTo(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		attachments []interaction.Attachment
		contexts    []interaction.Context
		links       []interaction.Link
		want        []any
	}{
		"attachments, contexts and links, in this order": {
			links:       []interaction.Link{{URL: "https://l", DisplayName: "l", Type: "File"}},
			contexts:    []interaction.Context{{Reference: "https://c", DisplayName: "c", Type: "TeamsMeeting"}},
			attachments: []interaction.Attachment{{ContentURL: "https://a", Name: "a", ContentType: "reference"}},
			want: []any{
				map[string]any{"kind": "attachment", "name": "a", "url": "https://a", "type": "reference"},
				map[string]any{"kind": "context", "name": "c", "url": "https://c", "type": "TeamsMeeting"},
				map[string]any{"kind": "link", "name": "l", "url": "https://l", "type": "File"},
			},
		},
		"absent fields are left out": {
			attachments: []interaction.Attachment{{Name: "a"}},
			contexts:    []interaction.Context{{Reference: "https://c"}},
			want: []any{
				map[string]any{"kind": "attachment", "name": "a"},
				map[string]any{"kind": "context", "url": "https://c"},
			},
		},
		"placeholders are left out": {
			attachments: []interaction.Attachment{{Name: "unknown-file-name", ContentURL: "https://a"}},
			contexts:    []interaction.Context{{DisplayName: "c", Reference: "file:///unknown-url"}},
			links:       []interaction.Link{{DisplayName: "unknown-file-name", URL: "file:///unknown-url"}},
			want: []any{
				map[string]any{"kind": "attachment", "url": "https://a"},
				map[string]any{"kind": "context", "name": "c"},
			},
		},
		"an entry without name and URL is left out": {
			attachments: []interaction.Attachment{{ContentType: "file"}},
			contexts:    []interaction.Context{{Type: "TeamsMeeting"}},
			links:       []interaction.Link{{Type: "File"}},
		},
		"an adaptive card is left out": {
			attachments: []interaction.Attachment{
				{ContentType: "application/vnd.microsoft.card.adaptive", Name: "card", ContentURL: "https://card"},
				{ContentType: " Application/VND.Microsoft.Card.Adaptive ", Name: "card"},
			},
		},
		"a data URL is left out": {
			attachments: []interaction.Attachment{
				{ContentType: "image/png", Name: "chart.png", ContentURL: "DATA:image/png;base64,iVBORw0KGgo="},
				{ContentType: "image/png", ContentURL: " data:image/png;base64,iVBORw0KGgo="},
			},
			want: []any{map[string]any{"kind": "attachment", "name": "chart.png", "type": "image/png"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Attachments, r.Contexts, r.Links = test.attachments, test.contexts, test.links
			attributes := recordOf(t, privacy.Settings{References: true}, r).Attributes()
			if test.want == nil {
				assert.NotContains(t, attributes.AsRaw(), "microsoft.copilot.references")
				return
			}
			assert.Equal(t, test.want, attributeValue(t, attributes, "microsoft.copilot.references"))
		})
	}
}
