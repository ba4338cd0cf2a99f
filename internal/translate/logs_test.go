package translate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

func TestARecordIsAnEventWithoutSeverityText(t *testing.T) {
	t.Parallel()
	record := recordOf(t, translate.LogSettings{}, fixture(t, "prompt"))
	assert.Equal(t, "microsoft.copilot.interaction", record.EventName())
	assert.Equal(t, plog.SeverityNumberInfo, record.SeverityNumber())
	assert.Empty(t, record.SeverityText())
	assert.Equal(t, takenIn(), record.ObservedTimestamp().AsTime())
}

func TestTheResourceIsTheCopilotServiceOfTheTenant(t *testing.T) {
	t.Parallel()
	logs := newLogs(translate.LogSettings{}).Translate([]interaction.Received{fixture(t, "prompt")})
	resource := logs.ResourceLogs().At(0)
	assert.Equal(t, map[string]any{"service.name": "microsoft-365-copilot", "microsoft.tenant.id": tenant},
		resource.Resource().Attributes().AsRaw())
	assert.Equal(t, "https://opentelemetry.io/schemas/1.41.0", resource.SchemaUrl())
	scope := resource.ScopeLogs().At(0).Scope()
	assert.Equal(t, "github.com/otelcopilot/m365copilotreceiver", scope.Name())
	assert.Equal(t, "1.2.3", scope.Version())
}

func TestEachTenantHasOneResourceAndTheOrderStays(t *testing.T) {
	t.Parallel()
	var received []interaction.Received
	for _, id := range []string{"a1", "b1", "a2", "b2", "a3"} {
		r := fixture(t, "prompt")
		r.ID, r.TenantID = id, id[:1]
		received = append(received, r)
	}
	logs := newLogs(translate.LogSettings{}).Translate(received)
	got := map[string][]string{}
	for _, resource := range logs.ResourceLogs().All() {
		id := value(t, resource.Resource().Attributes(), "microsoft.tenant.id").(string)
		require.NotContains(t, got, id)
		require.Equal(t, 1, resource.ScopeLogs().Len())
		for _, record := range resource.ScopeLogs().At(0).LogRecords().All() {
			got[id] = append(got[id], value(t, record.Attributes(), "microsoft.copilot.interaction.id").(string))
		}
	}
	assert.Equal(t, map[string][]string{"a": {"a1", "a2", "a3"}, "b": {"b1", "b2"}}, got)
}

func TestNothingBecomesEmptyLogs(t *testing.T) {
	t.Parallel()
	assert.Zero(t, newLogs(translate.LogSettings{}).Translate(nil).ResourceLogs().Len())
}

func TestTimestampIsTheCreationElseTheObservation(t *testing.T) {
	t.Parallel()
	created := time.Date(2025, 12, 1, 14, 30, 5, 123_000_000, time.UTC)
	tests := map[string]struct {
		id      string
		created time.Time
		want    time.Time
	}{
		"createdDateTime, before the id": {id: "1764599400000", created: created, want: created},
		"the id without createdDateTime": {id: promptID, want: created},
		"the observation without either": {id: "r_warm", want: takenIn()},
		"the observation for a time before 1970, which OTLP cannot hold": {
			id: promptID, created: time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), want: takenIn(),
		},
		"the observation for a time after 2262, which OTLP cannot hold": {
			id: promptID, created: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), want: takenIn(),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, change := range []interaction.Change{interaction.Created, interaction.Updated, interaction.Deleted} {
				r := fixture(t, "prompt")
				r.Change, r.ID, r.CreatedDateTime = change, test.id, test.created
				record := recordOf(t, translate.LogSettings{}, r)
				assert.Equal(t, test.want, record.Timestamp().AsTime(), change)
			}
		})
	}
}

func TestIngestionDelayIsSecondsUntilTakenIn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change interaction.Change
		etag   string
		ahead  time.Duration
		want   float64
	}{
		"since the creation":                           {change: interaction.Created, etag: "1764599407323", want: 4.2},
		"of an update since the time in the etag":      {change: interaction.Updated, etag: "1764599407323", want: 2},
		"of an update without etag since the creation": {change: interaction.Updated, want: 4.2},
		"of a deletion since the creation":             {change: interaction.Deleted, etag: "1764599407323", want: 4.2},
		"never negative when clocks differ":            {change: interaction.Created, ahead: time.Minute, want: 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Change, r.ETag, r.At = test.change, test.etag, r.At.Add(-test.ahead)
			record := recordOf(t, translate.LogSettings{}, r)
			delay := value(t, record.Attributes(), "microsoft.copilot.ingestion.delay")
			assert.InDelta(t, test.want, delay, 1e-9)
		})
	}
}

func TestIngestionDelayIsAbsentWhereNothingTellsTheTime(t *testing.T) {
	t.Parallel()
	r := fixture(t, "minimal")
	record := recordOf(t, translate.LogSettings{}, r)
	_, there := record.Attributes().Get("microsoft.copilot.ingestion.delay")
	assert.False(t, there)
}

func TestLogs_BodyIsTextOnlyWhenCaptured(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings translate.LogSettings
		text     string
		want     string
		captured bool
	}{
		"captured": {
			settings: translate.LogSettings{CaptureText: true}, text: "żółć 🚀", want: "żółć 🚀", captured: true,
		},
		"captured, but there is none":  {settings: translate.LogSettings{CaptureText: true}, want: "userPrompt in BizChat, 0 characters"},
		"not captured":                 {text: "żółć 🚀", want: "userPrompt in BizChat, 6 characters"},
		"not captured with references": {settings: translate.LogSettings{References: true}, text: "żółć 🚀", want: "userPrompt in BizChat, 6 characters"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fixture(t, "prompt")
			r.Body.Content = test.text
			record := recordOf(t, test.settings, r)
			assert.Equal(t, test.want, record.Body().AsRaw())
			assert.Equal(t, test.captured, value(t, record.Attributes(), "microsoft.copilot.content.captured"))
			length := value(t, record.Attributes(), "microsoft.copilot.content.length")
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
		"a creation does not name its change": {
			change: interaction.Created, typ: "userPrompt", appClass: "IPM.SkypeTeams.Message.Copilot.Word",
			want: "userPrompt in Word, 5 characters",
		},
		"an update names it": {
			change: interaction.Updated, typ: "aiResponse", appClass: "IPM.SkypeTeams.Message.Copilot.Teams",
			want: "updated aiResponse in Teams, 5 characters",
		},
		"without a type it is an interaction": {
			change: interaction.Deleted, appClass: "IPM.SkypeTeams.Message.Copilot.Teams",
			want: "deleted interaction in Teams, 5 characters",
		},
		"without an app none is named": {change: interaction.Deleted, want: "deleted interaction, 5 characters"},
		"the id of an app is no name": {
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
			assert.Equal(t, test.want, recordOf(t, translate.LogSettings{}, r).Body().AsRaw())
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
		{Mentioned: person}, {Mentioned: agent("1", "Travel Helper")}, {Mentioned: agent("2", "")},
		{Mentioned: agent("", "")}, {Mentioned: agent("1", "Travel Helper")},
	}
	attributes := recordOf(t, translate.LogSettings{}, r).Attributes()
	assert.Equal(t, []any{"Travel Helper", "2"}, value(t, attributes, "microsoft.copilot.agents"))

	r.Mentions = r.Mentions[:1]
	assert.NotContains(t, recordOf(t, translate.LogSettings{}, r).Attributes().AsRaw(), "microsoft.copilot.agents",
		"a person is no agent")
}

func TestContextTypesAreDistinctAndInOrder(t *testing.T) {
	t.Parallel()
	r := fixture(t, "prompt")
	for contextType := range strings.SplitSeq("docx,,TeamsMeeting,docx,xlsx,TeamsMeeting", ",") {
		r.Contexts = append(r.Contexts, interaction.Context{Type: contextType})
	}
	attributes := recordOf(t, translate.LogSettings{}, r).Attributes()
	assert.Equal(t, []any{"docx", "TeamsMeeting", "xlsx"}, value(t, attributes, "microsoft.copilot.context.types"))
	assert.EqualValues(t, 6, value(t, attributes, "microsoft.copilot.context.count"))
}

func TestOnlyAResponseHasAResponseIDAndAnAgent(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{interaction.TypeUserPrompt, "unknownFutureValue", ""} {
		r := fixture(t, "chat_response")
		r.Type = typ
		attributes := recordOf(t, translate.LogSettings{}, r).Attributes().AsRaw()
		assert.NotContains(t, attributes, "gen_ai.response.id", typ)
		assert.NotContains(t, attributes, "gen_ai.agent.id", typ)
		assert.NotContains(t, attributes, "gen_ai.agent.name", typ)
	}
	attributes := recordOf(t, translate.LogSettings{}, fixture(t, "chat_response")).Attributes()
	assert.Equal(t, "1764599405640", value(t, attributes, "gen_ai.response.id"))
	assert.Equal(t, "fb8d773d-7ef8-4ec0-a117-179f88add510", value(t, attributes, "gen_ai.agent.id"))
	assert.Equal(t, "Microsoft 365 Chat", value(t, attributes, "gen_ai.agent.name"))
}

func TestLogs_UIDIsThatOfTheInteraction(t *testing.T) {
	t.Parallel()
	r := fixture(t, "prompt")
	attributes := recordOf(t, translate.LogSettings{}, r).Attributes()
	assert.Equal(t, r.UID(), value(t, attributes, "log.record.uid"))
}
