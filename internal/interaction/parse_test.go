// SPDX-License-Identifier: Apache-2.0

package interaction_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestParse_ReadsEveryMember(t *testing.T) {
	t.Parallel()
	got, err := interaction.Parse([]byte(`{
		"@odata.type": "#Microsoft.Graph.aiInteraction", "id": "1764601200123", "sessionId": "19:s@thread.v2",
		"requestId": "r", "appClass": "IPM.SkypeTeams.Message.Copilot.Word", "interactionType": "aiResponse",
		"conversationType": "appchat", "etag": "1764601200124", "locale": "nb-no",
		"createdDateTime": "2025-12-01T16:00:00.123+01:00",
		"from": {
			"@odata.type": "#microsoft.graph.chatMessageFromIdentitySet",
			"user": {"id": "u", "displayName": "8:orgid:u", "userIdentityType": "aadUser", "tenantId": "t"},
			"application": {"@odata.type": "x", "id": "a", "displayName": "Copilot", "applicationIdentityType": "bot"},
			"device": {"id": "d", "displayName": "phone"}},
		"body": {"contentType": "html", "content": "<p>hei</p>"},
		"attachments": [{"attachmentId": "1", "contentType": "reference", "contentUrl": "https://a.example", "content": "c", "name": "n"}],
		"contexts": [{"contextReference": "https://c.example", "displayName": "meeting", "contextType": "TeamsMeeting"}],
		"links": [{"linkUrl": "https://l.example", "displayName": "link", "linkType": "File"}],
		"mentions": [{"mentionId": 7, "mentionText": "@all", "mentioned": {
			"conversation": {"id": "c", "displayName": "General"}, "application": {"id": "b", "displayName": "Joiner"}}}]
	}`))
	require.NoError(t, err)
	want := &interaction.Interaction{
		ID: "1764601200123", SessionID: "19:s@thread.v2", RequestID: "r", AppClass: "IPM.SkypeTeams.Message.Copilot.Word",
		Type: interaction.TypeAIResponse, ConversationType: "appchat", ETag: "1764601200124", Locale: "nb-no",
		CreatedDateTime: time.Date(2025, time.December, 1, 15, 0, 0, 123_000_000, time.UTC),
		From: interaction.IdentitySet{
			User:        &interaction.Identity{ID: "u", DisplayName: "8:orgid:u"},
			Application: &interaction.Identity{ID: "a", DisplayName: "Copilot"},
		},
		Body:        interaction.Body{ContentType: "html", Content: "<p>hei</p>"},
		Attachments: []interaction.Attachment{{ID: "1", ContentType: "reference", ContentURL: "https://a.example", Content: "c", Name: "n"}},
		Contexts:    []interaction.Context{{Reference: "https://c.example", DisplayName: "meeting", Type: "TeamsMeeting"}},
		Links:       []interaction.Link{{URL: "https://l.example", DisplayName: "link", Type: "File"}},
		Mentions: []interaction.Mention{{Mentioned: interaction.IdentitySet{
			Application: &interaction.Identity{ID: "b", DisplayName: "Joiner"},
		}}},
	}
	assert.Empty(t, cmp.Diff(want, got))
}

func TestParse_ToleratesUndocumentedForms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data string
		want interaction.Interaction
	}{
		"an id alone is enough":                 {`{"id":"1"}`, interaction.Interaction{ID: "1"}},
		"an id may be a number":                 {`{"id":1764601200123}`, interaction.Interaction{ID: "1764601200123"}},
		"a number with a fraction is unchanged": {`{"id":"1","etag":1.5}`, interaction.Interaction{ID: "1", ETag: "1.5"}},
		"a number out of range is unchanged":    {`{"id":1e999999}`, interaction.Interaction{ID: "1e999999"}},
		"null is empty": {
			`{"id":"1","requestId":null,"etag":null,"createdDateTime":null,"from":null,"body":null,"attachments":null,"links":null,"contexts":null,"mentions":null}`,
			interaction.Interaction{ID: "1"},
		},
		"unknown members are ignored": {`{"x":{"id":"2"},"id":"1","y":[[]]}`, interaction.Interaction{ID: "1"}},
		"members of another type are empty": {
			`{"id":"1","sessionId":["s"],"requestId":{},"appClass":true,"etag":[],"createdDateTime":{},"from":"me","body":["b"],"attachments":{},"links":"l","contexts":3,"mentions":false,"locale":"en-us"}`,
			interaction.Interaction{ID: "1", Locale: "en-us"},
		},
		"nested members of another type are empty": {
			`{"id":"1","from":{"user":null,"application":{"id":{},"displayName":"Copilot"}},"body":{"content":[],"contentType":"text"}}`,
			interaction.Interaction{
				ID:   "1",
				From: interaction.IdentitySet{Application: &interaction.Identity{DisplayName: "Copilot"}},
				Body: interaction.Body{ContentType: "text"},
			},
		},
		"elements of a list that are not objects are skipped": {
			`{"id":"1","links":[null,"x",[],{"linkUrl":"https://l.example"},7]}`,
			interaction.Interaction{ID: "1", Links: []interaction.Link{{URL: "https://l.example"}}},
		},
		"the last of duplicate members wins, and objects are merged": {
			`{"id":"1","id":"2","body":{"content":"a","contentType":"html"},"body":{"content":"b"},"links":[{}],"links":[]}`,
			interaction.Interaction{ID: "2", Body: interaction.Body{ContentType: "html", Content: "b"}},
		},
		"surrounding space is ignored": {"\n\t {\"id\" : \"1\"} \r\n", interaction.Interaction{ID: "1"}},
		"invalid UTF-8 is replaced":    {"{\"id\":\"1\",\"locale\":\"a\xffb\"}", interaction.Interaction{ID: "1", Locale: "a\uFFFDb"}},
		"a lone surrogate is replaced": {`{"id":"1","locale":"\ud83d"}`, interaction.Interaction{ID: "1", Locale: "\uFFFD"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := interaction.Parse([]byte(tt.data))
			require.NoError(t, err)
			assert.Empty(t, cmp.Diff(&tt.want, got))
		})
	}
}

func TestParse_ReadsTimes(t *testing.T) {
	t.Parallel()
	at := func(ns int) time.Time { return time.Date(2025, time.May, 9, 2, 20, 56, ns, time.UTC) }
	for text, want := range map[string]time.Time{
		"2025-05-09T02:20:56Z":                 at(0),
		"2025-05-09T02:20:56.66Z":              at(660_000_000),
		"2025-05-09T02:20:56.1234567Z":         at(123_456_700),
		"2025-05-09T02:20:56.123456789987654Z": at(123_456_789),
		"2025-05-08T21:50:56.5-04:30":          at(500_000_000),
		"2025-05-09T02:20:56":                  {},
		"2025-05-09":                           {},
		"2025-02-30T02:20:56Z":                 {},
		"1746757256660":                        {},
		"0001-01-01T00:00:00Z":                 {},
		"0001-01-01T00:00:00+01:00":            {},
		"9999-12-31T23:59:59Z":                 {},
		"":                                     {},
	} {
		i, err := interaction.Parse([]byte(`{"id":"1","createdDateTime":"` + text + `"}`))
		require.NoError(t, err)
		assert.Equal(t, want, i.CreatedDateTime, text)
	}
}

func TestParse_RejectsNonObjectsAndMissingIDs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data string
		want error
	}{
		"nothing":                  {"", interaction.ErrNotObject},
		"space":                    {" \n", interaction.ErrNotObject},
		"null":                     {"null", interaction.ErrNotObject},
		"a list":                   {`[{"id":"1"}]`, interaction.ErrNotObject},
		"a string":                 {`"secret"`, interaction.ErrNotObject},
		"text":                     {"secret", interaction.ErrNotObject},
		"an object cut off":        {`{"id":"secret"`, interaction.ErrNotObject},
		"a member cut off":         {`{"id":"1","body":{"content":"secret`, interaction.ErrNotObject},
		"a name cut off":           {`{"id":"1","sec`, interaction.ErrNotObject},
		"a name without value":     {`{"id":"1","secret"}`, interaction.ErrNotObject},
		"a broken member":          {`{"id":"1","body":{secret}}`, interaction.ErrNotObject},
		"two objects":              {`{"id":"1"}{"id":"secret"}`, interaction.ErrNotObject},
		"data after the object":    {`{"id":"1"}secret`, interaction.ErrNotObject},
		"a member nested too deep": {`{"id":"1","x":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + `}`, interaction.ErrNotObject},
		"no id":                    {`{"sessionId":"secret"}`, interaction.ErrNoID},
		"an id that is null":       {`{"id":null}`, interaction.ErrNoID},
		"an id that is blank":      {`{"id":" \t"}`, interaction.ErrNoID},
		"an id that is a list":     {`{"id":["secret"]}`, interaction.ErrNoID},
		"an id that is an object":  {`{"id":{"secret":1}}`, interaction.ErrNoID},
		"an id that is a bool":     {`{"id":true}`, interaction.ErrNoID},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, err := interaction.Parse([]byte(tt.data))
			require.ErrorIs(t, err, tt.want)
			if errors.Is(err, interaction.ErrNoID) {
				assert.Empty(t, i.ID)
			} else {
				assert.Nil(t, i)
			}
			assert.NotContains(t, err.Error(), "secret")
			assert.NotContains(t, err.Error(), "'")
		})
	}
}

func TestParse_LimitsListLength(t *testing.T) { //nolint:paralleltest // the memory of all goroutines counts
	const size = 4 << 20
	data := []byte(`{"links":[` + strings.Repeat(`{},`, size/3) + `{}],"id":"1"}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	i, err := interaction.Parse(data)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.Len(t, i.Links, 10_000)
	assert.Equal(t, "1", i.ID)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(size))
}
